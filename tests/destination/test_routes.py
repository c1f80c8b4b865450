"""Gateway API routes on Services: their rules in order, what owns them, and their status."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from destination.fragments import Outcome
from mesh.core.model import (
    Backend,
    Cors,
    Filters,
    HeaderEdit,
    HeaderMatch,
    Match,
    Mirror,
    PathChange,
    Policy,
    QueryMatch,
    Redirect,
    Retry,
    Rewrite,
    Rule,
    Source,
    Verdict,
)
from tests.destination.world import (
    World,
    deployed,
    load,
    namespace,
    reasons,
    service,
    shares,
)

WEB = "10.96.0.1:80"
GATEWAY = "gateway.networking.k8s.io/v1"


def authority(name: str, port: int = 80, namespace: str = "shop") -> str:
    return f"{name}.{namespace}.svc.cluster.local:{port}"


def route(
    rules: str | list[Any],
    *,
    kind: str = "HTTPRoute",
    name: str = "web",
    namespace: str = "shop",
    parent: str = "{group: '', kind: Service, name: web, namespace: shop}",
    created: str = "2026-01-01T00:00:00Z",
    api: str = GATEWAY,
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "creationTimestamp": created,
            "annotations": annotations or {},
        },
        "spec": {
            "parentRefs": [yaml.safe_load(parent)],
            "rules": yaml.safe_load(rules) if isinstance(rules, str) else rules,
        }
        | spec,
    }


def world(*objects: dict[str, Any]) -> World:
    ports = {"http": 80, "alt": 8080}
    return World(
        [
            *deployed("web", ip="10.96.0.1", pod_ip="10.1.0.1", ports=ports),
            *deployed("web-v1", ip="10.96.0.2", pod_ip="10.1.0.2", ports=ports),
            *deployed("web-v2", ip="10.96.0.3", pod_ip="10.1.0.3", ports=ports),
            *objects,
        ]
    )


def rules(found: World, address: str = WEB, namespace: str = "shop") -> tuple[Rule, ...]:
    return found.target(address, namespace=namespace).rules


def names(found: World, namespace: str = "shop") -> list[str]:
    """The first backend of each rule in order."""
    return [rule.backends[0].authority.partition(".")[0] for rule in rules(found, WEB, namespace)]


V1 = "backendRefs: [{name: web-v1, port: 80}]"
V2 = "backendRefs: [{name: web-v2, port: 80}]"


# -- matches and their order -------------------------------------------------------------


def test_a_match_is_taken_with_all_its_parts() -> None:
    found = world(
        route("""
- name: one
  matches:
  - path: {type: Exact, value: /a}
    method: GET
    headers: [{name: X-A, value: "1"}, {name: x-a, value: "2"}, {name: b, type: RegularExpression, value: "."}]
    queryParams: [{name: q, value: "1"}, {name: r, type: RegularExpression, value: ".*"}]
  backendRefs: [{name: web-v1, port: 80, weight: 3}, {name: web-v2, port: 80}]
""")  # noqa: E501
    )

    (rule,) = rules(found)

    assert rule.matches == (
        Match(
            path="/a",
            method="GET",
            headers=(HeaderMatch("x-a", "1"), HeaderMatch("b", ".", regex=True)),
            query=(QueryMatch("q", "1"), QueryMatch("r", ".*", regex=True)),
        ),
    )
    assert rule.backends == (Backend(authority("web-v1"), 3), Backend(authority("web-v2"), 1))
    assert (rule.name, rule.index, rule.failure) == ("one", 0, 500)
    assert rule.source == Source("HTTPRoute", "shop", "web")


def test_a_rule_without_matches_meets_everything() -> None:
    assert rules(world(route(f"[{{{V1}}}]")))[0].matches == ()


def test_matches_are_tried_in_the_order_of_the_specification() -> None:
    found = world(
        route(
            """
- matches: [{path: {type: PathPrefix, value: /}}]
- matches: [{path: {type: PathPrefix, value: /a}, queryParams: [{name: q, value: "1"}]}]
- matches: [{path: {type: PathPrefix, value: /a}, headers: [{name: h, value: "1"}]}]
- matches: [{path: {type: PathPrefix, value: /a}, method: GET}]
- matches: [{path: {type: PathPrefix, value: /a/b}}]
- matches: [{path: {type: RegularExpression, value: /a/.}}]
- matches: [{path: {type: Exact, value: /a}}]
- matches: [{path: {type: PathPrefix, value: /a}}]
"""
        )
    )

    assert [rule.index for rule in rules(found)] == [6, 5, 4, 3, 2, 1, 7, 0]


def test_each_match_of_a_rule_has_its_own_place() -> None:
    found = world(
        route(
            """
- matches: [{path: {value: /}}, {path: {type: Exact, value: /x}}]
- matches: [{path: {value: /x}}]
"""
        )
    )

    assert [rule.index for rule in rules(found)] == [0, 1, 0]


def test_ties_go_to_the_oldest_route_and_then_by_name() -> None:
    same = "[{matches: [{path: {value: /x}}], backendRefs: [{name: %s, port: 80}]}]"
    found = world(
        route(same % "web-v1", name="b"),
        route(same % "web-v2", name="a"),
        route(same % "web", name="c", created="2025-01-01T00:00:00Z"),
    )

    assert names(found) == ["web", "web-v2", "web-v1"]
    verdicts = [found.outcome("httproutes", name).verdict for name in "abc"]
    assert verdicts == [Verdict.EFFECTIVE] * 3


def test_a_grpc_route_orders_by_service_then_method_then_headers() -> None:
    found = world(
        route(
            """
- matches: [{method: {method: Get}}]
- matches: [{method: {service: shop.Orders}}]
- matches: [{method: {service: shop.Orders, method: Get}}]
- matches: [{method: {service: shop.Orders, method: Get}, headers: [{name: a, value: b}]}]
- matches: [{}]
- matches: [{method: {type: RegularExpression, service: "shop[.]Orders[.].*"}}]
""",
            kind="GRPCRoute",
        )
    )

    assert [rule.index for rule in rules(found)] == [5, 3, 2, 1, 0, 4]
    matches = {rule.index: rule.matches for rule in rules(found)}
    assert matches[2] == (Match(path="/shop.Orders/Get"),)
    assert matches[1] == (Match(path_prefix="/shop.Orders"),)
    assert matches[0] == (Match(path_regex="/[^/]+/Get"),)
    assert matches[5] == (Match(path_regex="/(?:shop[.]Orders[.].*)/(?:[^/]+)"),)
    assert matches[4] == ()


@pytest.mark.parametrize(
    ("match", "path"),
    [
        ("{path: {type: RegularExpression, value: '['}}", "path.value"),
        ("{path: {type: Glob, value: /a}}", "path.type"),
        ("{path: {type: Exact, value: a}}", "path.value"),
        ("{headers: [{name: 'a b', value: x}]}", "headers[0].name"),
        ("{headers: [{name: a}]}", "headers[0].value"),
        ("{queryParams: [{name: a, value: x, type: Odd}]}", "queryParams[0].type"),
        ("{methods: GET}", "methods"),
        ("{method: 5}", "method"),
        ("5", ""),
    ],
)
def test_a_match_that_does_not_read_drops_its_rule_only(match: str, path: str) -> None:
    found = world(route(f"[{{matches: [{match}], {V1}}}, {{matches: [{{method: PUT}}], {V2}}}]"))

    outcome = found.outcome("httproutes", "web")

    assert names(found) == ["web-v2"]
    assert outcome.verdict is Verdict.PARTIAL
    assert outcome.parents[0].accepted == "Accepted"
    assert outcome.parents[0].partial.startswith("Dropped Rule(s) 0")
    assert f"spec.rules[0].matches[0].{path}".rstrip(".") in [p for p, _ in reasons(outcome)]


def test_a_route_of_which_nothing_reads_is_rejected_and_acts_on_nothing() -> None:
    found = world(route(f"[{{matches: [5], {V1}}}]"))

    outcome = found.outcome("httproutes", "web")

    assert names(found) == ["web"]
    assert outcome.verdict is Verdict.REJECTED
    assert outcome.parents[0].accepted == "UnsupportedValue"


# -- backends ----------------------------------------------------------------------------


def test_without_backends_the_service_itself_serves() -> None:
    assert names(world(route("[{matches: [{path: {value: /}}]}]"))) == ["web"]
    assert names(world(route("[{backendRefs: []}]"))) == ["web"]


@pytest.mark.parametrize(
    ("ref", "reason"),
    [
        ("{name: gone, port: 80}", "BackendNotFound"),
        ("{name: web-v1, port: 81}", "BackendNotFound"),
        ("{name: outside, port: 80}", "BackendNotFound"),
        ("{name: web-v1, port: 80, kind: Bucket, group: example.com}", "InvalidKind"),
    ],
)
def test_a_backend_that_is_not_there_keeps_its_share_and_is_said(ref: str, reason: str) -> None:
    outside = service("outside", ip="", type="ExternalName", externalName="example.com")
    found = world(outside, route(f"[{{backendRefs: [{ref}, {{name: web-v2, port: 80}}]}}]"))

    outcome = found.outcome("httproutes", "web")
    first, second = rules(found)[0].backends

    assert (first.weight, second) == (1, Backend(authority("web-v2")))
    assert outcome.verdict is Verdict.PARTIAL
    assert outcome.parents[0].resolved == reason
    assert outcome.parents[0].accepted == "Accepted"


def test_a_backend_that_comes_is_said_to_be_there() -> None:
    found = world(route("[{backendRefs: [{name: web-v3, port: 80}]}]"))
    before = found.outcome("httproutes", "web").parents[0].resolved

    found.put(*deployed("web-v3", ip="10.96.0.4", pod_ip="10.1.0.4"))

    assert before == "BackendNotFound"
    assert found.outcome("httproutes", "web").parents[0].resolved == "ResolvedRefs"
    assert len(found.services(WEB)[0].endpoints) == 1


def test_a_backend_may_stand_in_another_namespace_without_a_grant() -> None:
    other = service("other", namespace="far", ip="10.96.0.9")
    found = world(other, route("[{backendRefs: [{name: other, namespace: far, port: 80}]}]"))

    assert rules(found)[0].backends == (Backend(authority("other", namespace="far")),)
    assert found.outcome("httproutes", "web").verdict is Verdict.EFFECTIVE


def test_a_port_that_is_not_given_is_the_parents() -> None:
    found = world(route("[{backendRefs: [{name: web-v1}]}]"))

    assert rules(found)[0].backends[0].authority == authority("web-v1")
    assert rules(found, "10.96.0.1:8080")[0].backends[0].authority == authority("web-v1", 8080)


# -- parents -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parent", "ports"),
    [
        ("{kind: Service, group: '', name: web}", [True, True]),
        ("{kind: Service, group: core, name: web, port: 80}", [True, False]),
        ("{kind: Service, group: '', name: web, sectionName: alt}", [False, True]),
        ("{kind: Service, name: web, port: 8080}", [False, True]),
    ],
)
def test_a_parent_means_all_ports_or_the_one_it_names(parent: str, ports: list[bool]) -> None:
    found = world(route(f"[{{{V1}}}]", parent=parent))

    routed = [rules(found, f"10.96.0.1:{port}")[0].source is not None for port in (80, 8080)]

    assert routed == ports
    assert found.outcome("httproutes", "web").parents[0].accepted == "Accepted"


@pytest.mark.parametrize(
    "parent",
    [
        "{kind: Service, group: '', name: gone}",
        "{kind: Service, group: '', name: web, port: 81}",
        "{kind: Service, group: '', name: web, sectionName: other}",
        "{kind: Service, group: '', name: bare}",
        "{kind: Service, group: '', name: outside}",
    ],
)
def test_a_parent_that_cannot_be_routed_is_not_accepted(parent: str) -> None:
    found = world(
        service("bare", ip="None"),
        service("outside", ip="", type="ExternalName", externalName="example.com"),
        route(f"[{{{V1}}}]", parent=parent),
    )

    outcome = found.outcome("httproutes", "web")

    assert outcome.verdict is Verdict.REJECTED
    assert outcome.parents[0].accepted == "NoMatchingParent"
    assert names(found) == ["web"]


def test_a_route_of_a_gateway_is_left_to_others() -> None:
    found = world(route("[{matches: 5}]", parent="{name: gateway}"))

    with pytest.raises(KeyError):
        found.outcome("httproutes", "web")
    assert names(found) == ["web"]


def test_a_route_with_two_services_acts_on_both_and_says_so() -> None:
    made = route(f"[{{{V2}}}]")
    made["spec"]["parentRefs"] = [
        {"group": "", "kind": "Service", "name": "web"},
        {"name": "gateway"},
        {"group": "", "kind": "Service", "name": "web-v1"},
        {"group": "", "kind": "Service", "name": "gone"},
    ]
    found = world(made)

    outcome = found.outcome("httproutes", "web")

    assert [rules(found, ip)[0].source is not None for ip in (WEB, "10.96.0.2:80")] == [True, True]
    assert [parent.accepted for parent in outcome.parents] == [
        "Accepted",
        "Accepted",
        "NoMatchingParent",
    ]
    assert outcome.service == "shop/web, shop/web-v1"
    assert outcome.verdict is Verdict.PARTIAL
    assert reasons(outcome) == [("spec.parentRefs[3]", "NoMatchingParent")]


def test_a_consumers_route_acts_on_its_own_clients_and_before_the_producers() -> None:
    found = world(
        route(f"[{{{V1}}}]", name="producer"),
        route(
            "[{backendRefs: [{name: web-v2, namespace: shop, port: 80}]}]",
            name="consumer",
            namespace="team",
        ),
    )

    assert [names(found, clients) for clients in ("shop", "other", "team")] == [
        ["web-v1"],
        ["web-v1"],
        ["web-v2"],
    ]
    outcome = found.outcome("httproutes", "consumer", "team")
    assert "for clients in team" in outcome.parents[0].accepted_message


def test_of_several_kinds_the_most_specific_acts_and_the_others_conflict() -> None:
    backends = "[{backendRefs: [{name: web-v2, port: 80}]}]"
    found = world(
        route(f"[{{{V1}}}]", name="http"),
        route(backends, name="grpc", kind="GRPCRoute"),
        route(backends, name="tcp", kind="TCPRoute"),
    )

    assert names(found) == ["web-v2"]
    assert found.outcome("grpcroutes", "grpc").verdict is Verdict.EFFECTIVE
    for kind, name in (("httproutes", "http"), ("tcproutes", "tcp")):
        outcome = found.outcome(kind, name)
        assert outcome.parents[0].accepted == "Conflicted"
        assert outcome.verdict is Verdict.SHADOWED
        assert outcome.shadowed_by == Source("GRPCRoute", "shop", "grpc")


def test_linkerds_kind_is_the_same_thing() -> None:
    found = world(route(f"[{{{V1}}}]", api="policy.linkerd.io/v1beta3"))

    assert names(found) == ["web-v1"]
    assert found.outcome("httproutes.policy", "web").verdict is Verdict.EFFECTIVE


def test_a_deleted_route_leaves_nothing_behind() -> None:
    made = route(f"[{{{V1}}}]")
    found = world(made)

    found.put(made, deleted=True)

    assert found.snapshot == world().snapshot or names(found) == ["web"]
    assert not found.store.apexes_of
    with pytest.raises(KeyError):
        found.outcome("httproutes", "web")


def test_host_names_mean_nothing_for_a_service_and_that_is_said() -> None:
    outcome = world(route(f"[{{{V1}}}]", hostnames=["web.example"])).outcome("httproutes", "web")

    assert reasons(outcome) == [("spec.hostnames", "IgnoredField")]
    assert outcome.verdict is Verdict.EFFECTIVE


# -- filters -----------------------------------------------------------------------------


def filters_of(text: str, match: str = "{path: {value: /old/}}") -> tuple[Rule, Outcome]:
    found = world(route(f"[{{matches: [{match}], filters: {text}, {V1}}}]"))
    return rules(found)[0], found.outcome("httproutes", "web")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: a},"
            " {name: x-a, value: b}], add: [{name: B, value: b}], remove: [C]}}]",
            Filters(request=HeaderEdit((("x-a", "a"),), (("b", "b"),), ("c",))),
        ),
        (
            "[{type: ResponseHeaderModifier,"
            " responseHeaderModifier: {set: [{name: a, value: b}]}}]",
            Filters(response=HeaderEdit((("a", "b"),))),
        ),
        (
            "[{type: RequestRedirect, requestRedirect: {scheme: https, hostname: a.example,"
            " port: 8443, statusCode: 307, path: {type: ReplaceFullPath, replaceFullPath: /x}}}]",
            Filters(
                redirect=Redirect("https", "a.example", 8443, PathChange(full="/x"), status=307)
            ),
        ),
        (
            "[{type: URLRewrite, urlRewrite: {hostname: b.example,"
            " path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]",
            Filters(rewrite=Rewrite("b.example", PathChange(prefix="/new", matched="/old/"))),
        ),
        (
            "[{type: RequestMirror, requestMirror: {backendRef: {name: web-v2, port: 80}}},"
            " {type: RequestMirror,"
            " requestMirror: {percent: 5, backendRef: {name: web, port: 80}}},"
            " {type: RequestMirror, requestMirror: {fraction: {numerator: 1, denominator: 8},"
            " backendRef: {name: web, port: 80}}}]",
            Filters(
                mirrors=(
                    Mirror(authority("web-v2")),
                    Mirror(authority("web"), 0.05),
                    Mirror(authority("web"), 0.125),
                )
            ),
        ),
        (
            "[{type: CORS, cors: {allowOrigins: ['https://*.example'], allowMethods: [GET],"
            " allowHeaders: [a], exposeHeaders: [b], allowCredentials: true, maxAge: 60}}]",
            Filters(cors=Cors(("https://*.example",), ("GET",), ("a",), ("b",), True, 60)),
        ),
    ],
)
def test_each_filter_is_taken(text: str, expected: Filters) -> None:
    rule, outcome = filters_of(text)

    assert rule.filters == expected
    assert outcome.verdict is Verdict.EFFECTIVE


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[{type: ExtensionRef, extensionRef: {name: x}}]", "UnsupportedFilter"),
        ("[{type: Odd}]", "UnsupportedFilter"),
        ("[{type: CORS}]", "InvalidFilter"),
        ("[{type: RequestRedirect, requestRedirect: {statusCode: 200}}]", "InvalidFilter"),
        ("[{type: RequestRedirect, requestRedirect: {hostname: 'a b'}}]", "InvalidFilter"),
        ("[{type: RequestRedirect, requestRedirect: {hostname: 'a\\r\\nb: c'}}]", "InvalidFilter"),
        (
            "[{type: RequestHeaderModifier, requestHeaderModifier: {remove: [Content-Length]}}]",
            "InvalidFilter",
        ),
        (
            "[{type: RequestHeaderModifier, requestHeaderModifier:"
            ' {set: [{name: a, value: "b\\r\\nc: d"}]}}]',
            "InvalidFilter",
        ),
        (
            "[{type: RequestHeaderModifier,"
            " requestHeaderModifier: {set: [{name: 'a:', value: b}]}}]",
            "InvalidFilter",
        ),
        (
            "[{type: RequestRedirect, requestRedirect: {}},"
            " {type: URLRewrite, urlRewrite: {hostname: a}}]",
            "InvalidFilter",
        ),
        (
            "[{type: URLRewrite, urlRewrite: {hostname: a}}, {type: URLRewrite, urlRewrite: {}}]",
            "InvalidFilter",
        ),
        ("[{type: CORS, cors: {allowOrigin: [a]}}]", "UnknownField"),
    ],
)
def test_a_filter_that_cannot_be_done_is_answered_with_an_error(text: str, reason: str) -> None:
    rule, outcome = filters_of(text)

    assert rule.filters is None
    assert [bool(backend.refused) for backend in rule.backends] == [True]
    assert rule.failure == 500
    assert reason in [found for _, found in reasons(outcome)]
    assert outcome.verdict is Verdict.PARTIAL


def test_a_prefix_is_only_replaced_where_one_is_matched() -> None:
    change = (
        "[{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch,"
        " replacePrefixMatch: /new}}}]"
    )

    rule, outcome = filters_of(change, "{path: {type: Exact, value: /old}}")

    assert rule.backends[0].refused
    assert ("spec.rules[0].filters", "InvalidFilter") in reasons(outcome)


def test_filters_of_a_backend_stay_with_it() -> None:
    found = world(
        route("""
- backendRefs:
  - name: web-v1
    port: 80
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: v, value: "1"}]}}]
  - name: web-v2
    port: 80
    filters: [{type: ExtensionRef, extensionRef: {name: x}}]
""")
    )

    first, second = rules(found)[0].backends

    assert first.filters == Filters(request=HeaderEdit((("v", "1"),)))
    assert (bool(second.refused), second.filters) == (True, None)


def test_the_services_of_mirrors_come_with_the_view() -> None:
    found = world(
        route(
            "[{filters: [{type: RequestMirror, requestMirror:"
            " {backendRef: {name: web-v2, port: 80}}}]}]"
        )
    )

    assert sorted(item.name for item in found.services(WEB)) == ["web", "web-v2"]


# -- timeouts and retries ----------------------------------------------------------------


def test_timeouts_and_retries_of_a_rule_are_taken() -> None:
    found = world(
        route("""
- timeouts: {request: 2s, backendRequest: 500ms}
  retry: {codes: [503, 504], attempts: 3, backoff: 100ms}
""")
    )

    assert rules(found)[0].policy == Policy(
        request=2,
        attempt=0.5,
        retry=Retry(
            limit=3,
            statuses=((503, 503), (504, 504)),
            on_reset=True,
            on_timeout=True,
            backoff=0.1,
            max_backoff=1.0,
        ),
    )


def test_a_timeout_of_0_is_said_to_be_none() -> None:
    assert rules(world(route("[{timeouts: {request: 0s}}]")))[0].policy == Policy(request=0)


@pytest.mark.parametrize(
    ("rule", "path", "reason"),
    [
        ("timeouts: {request: soon}", "timeouts.request", "InvalidDuration"),
        ("timeouts: {request: 1s, backendRequest: 2s}", "timeouts.backendRequest", "InvalidValue"),
        ("timeouts: {idle: 1s}", "timeouts.idle", "UnknownField"),
        ("retry: {codes: [200]}", "retry.codes[0]", "InvalidValue"),
        ("retry: {attempts: -1}", "retry.attempts", "InvalidValue"),
        ("sessionPersistence: {sessionName: a}", "sessionPersistence", "NotSupported"),
        ("retries: 3", "retries", "UnknownField"),
    ],
)
def test_what_does_not_read_of_them_is_said(rule: str, path: str, reason: str) -> None:
    outcome = world(route(f"[{{{rule}}}]")).outcome("httproutes", "web")

    assert reasons(outcome) == [(f"spec.rules[0].{path}", reason)]
    assert outcome.verdict is Verdict.PARTIAL


def test_annotations_of_a_route_fill_what_its_rules_leave_open() -> None:
    found = world(
        route(
            "[{timeouts: {request: 1s}}, {matches: [{method: PUT}]}]",
            annotations={"timeout.linkerd.io/request": "9s", "retry.linkerd.io/http": "5xx"},
        )
    )

    put, rest = rules(found)

    assert put.policy is not None
    assert rest.policy is not None
    assert (put.policy.request, rest.policy.request) == (9, 1)
    assert put.policy.retry == rest.policy.retry
    assert put.policy.retry is not None
    assert put.policy.retry.statuses == ((500, 599),)


def test_a_route_with_annotations_replaces_those_of_the_service() -> None:
    notes = {"timeout.linkerd.io/idle": "5s"}
    plain = route("[{matches: [{method: GET}]}]", name="plain")
    noted = route("[{}]", name="noted", annotations={"retry.linkerd.io/http": "503"})
    found = world(plain, noted, service("web", annotations=notes))

    first, second = rules(found)

    assert first.defaults == Policy(idle=5)
    assert second.defaults is None


# -- composition -------------------------------------------------------------------------


SPLIT = """
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: split, namespace: shop}
spec: {service: web, backends: [{service: web-v1, weight: 9}, {service: web-v2, weight: 1}]}
"""


def test_a_split_expands_the_share_of_its_apex_and_no_other() -> None:
    refs = "[{name: web, port: 80, weight: 3}, {name: web-v2, port: 80, weight: 1}]"
    found = world(*load(SPLIT), route(f"[{{backendRefs: {refs}}}]"))

    backends = rules(found)[0].backends

    assert [(b.authority.partition(".")[0], b.weight) for b in backends] == [
        ("web-v1", 27),
        ("web-v2", 3),
        ("web-v2", 10),
    ]
    assert backends[0].source == Source("TrafficSplit", "shop", "split")
    assert backends[2].source is None
    assert found.outcome("trafficsplits", "split").verdict is Verdict.EFFECTIVE


def test_a_split_that_no_route_leads_to_is_shadowed_by_it() -> None:
    found = world(*load(SPLIT), route(f"[{{{V1}}}]"))

    outcome = found.outcome("trafficsplits", "split")

    assert outcome.verdict is Verdict.SHADOWED
    assert outcome.shadowed_by == Source("HTTPRoute", "shop", "web")


def test_a_split_for_some_requests_goes_before_its_rule() -> None:
    group = """
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: canary, namespace: shop}
spec: {matches: [{headers: {x-canary: "1"}}]}
"""
    limited = SPLIT.replace(
        "backends:", "matches: [{kind: HTTPRouteGroup, name: canary}], backends:"
    )
    found = world(*load(limited + group), route("[{matches: [{path: {value: /a}}]}]"))

    first, second = rules(found)

    canary = Match(headers=(HeaderMatch("x-canary", "1", regex=True),))
    assert first.matches == (Match(path_prefix="/a", also=canary),)
    assert [b.authority.partition(".")[0] for b in first.backends] == ["web-v1", "web-v2"]
    assert second.matches == (Match(path_prefix="/a"),)
    assert second.backends == (Backend(authority("web")),)


def test_a_split_without_weight_fails_its_share_and_moves_it_nowhere() -> None:
    nothing = SPLIT.replace("weight: 9", "weight: 0").replace("weight: 1", "weight: 0")
    refs = "[{name: web, port: 80, weight: 3}, {name: web-v2, port: 80, weight: 1}]"
    found = world(*load(nothing), route(f"[{{backendRefs: {refs}}}]"))

    first, second = rules(found)[0].backends

    assert (bool(first.refused), first.weight) == (True, 3)
    assert (second.refused, second.weight) == ("", 1)


# -- connections -------------------------------------------------------------------------


def test_connections_of_a_service_with_http_routes_go_to_the_service() -> None:
    found = world(route(f"[{{{V1}}}]"))

    (rule,) = found.target(WEB).connections

    assert rule.backends == (Backend(authority("web")),)


def test_a_tcp_route_moves_everything() -> None:
    found = world(
        route("[{backendRefs: [{name: web-v1, port: 80, weight: 9}, {name: web-v2, port: 80}]}]",
              kind="TCPRoute")
    )  # fmt: skip

    assert shares(found.target(WEB)) == {"web-v1:80": 9, "web-v2:80": 1}
    assert found.target(WEB).connections == ()


def test_a_tls_route_goes_by_server_name_and_leaves_the_rest() -> None:
    made = [
        route("[{backendRefs: [{name: web-v1, port: 80}]}]", kind="TLSRoute", name="wide",
              hostnames=["*.example", "*.b.example"]),
        route("[{backendRefs: [{name: web-v2, port: 80}]}]", kind="TLSRoute", name="exact",
              hostnames=["a.b.example"]),
    ]  # fmt: skip
    found = world(*made)

    target = found.target(WEB)

    assert [rule.matches[0].sni for rule in target.connections] == [
        ("a.b.example",),
        ("*.b.example",),
        ("*.example",),
        ("",),
    ]
    assert [rule.backends[0].authority for rule in target.connections] == [
        authority("web-v2"),
        authority("web-v1"),
        authority("web-v1"),
        authority("web"),
    ]
    assert target.rules[0].backends == (Backend(authority("web")),)
    assert found.outcome("tlsroutes", "wide").verdict is Verdict.EFFECTIVE


def test_the_name_of_a_service_means_what_its_address_means() -> None:
    found = world(route(f"[{{{V1}}}]"))

    named = found.target("web.shop.svc.cluster.local:80")

    assert named.rules == found.target(WEB).rules
    assert named.authority == authority("web")
    assert found.target("web.shop.svc.cluster.local:81").rules == ()
    assert found.target("gone.shop.svc.cluster.local:80").rules == ()


# -- grants ------------------------------------------------------------------------------------

GRANT = """
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: g, namespace: far}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}]
  to: [{group: "", kind: Service, name: other}]
"""


def granted(*objects: dict[str, Any], asks: str = "required") -> World:
    mirror = "{backendRef: {name: other, namespace: far, port: 80}}"
    rule = (
        "[{backendRefs: [{name: other, namespace: far, port: 80}],"
        f" filters: [{{type: RequestMirror, requestMirror: {mirror}}}]}}]"
    )
    space = namespace("far", **{"mesh/reference-grants": asks})
    far = service("other", namespace="far", ip="10.96.0.9")
    return world(space, far, route(rule), *objects)


def test_a_namespace_that_asks_for_grants_is_led_to_by_none_without() -> None:
    found = granted()

    (rule,) = rules(found)

    assert rule.backends[0].refused == "RefNotPermitted"
    assert rule.filters is None or rule.filters.mirrors == ()
    assert found.outcome("httproutes", "web").parents[0].resolved == "RefNotPermitted"


@pytest.mark.parametrize(
    ("old", "new", "permitted"),
    [
        ("", "", True),
        (", name: other}]", "}]", True),
        ("name: other}]", "name: another}]", False),
        ("kind: HTTPRoute", "kind: GRPCRoute", False),
        ("namespace: shop}]", "namespace: team}]", False),
        ("kind: Service", "kind: Secret", False),
    ],
)
def test_a_grant_permits_what_it_names(old: str, new: str, permitted: bool) -> None:
    found = granted(*load(GRANT.replace(old, new)))

    assert (rules(found)[0].backends[0].refused == "") is permitted


def test_a_grant_that_comes_and_goes_counts_at_once() -> None:
    found = granted()
    (grant,) = load(GRANT)

    found.put(grant)
    during = rules(found)[0].backends[0].refused
    found.put(grant, deleted=True)
    after = rules(found)[0].backends[0].refused
    found.put(namespace("far"))

    assert (during, after, rules(found)[0].backends[0].refused) == ("", "RefNotPermitted", "")


def test_the_parent_of_a_consumers_route_needs_no_grant() -> None:
    space = namespace("shop", **{"mesh/reference-grants": "required"})
    back = "[{backendRefs: [{name: web, namespace: shop, port: 80}]}]"
    found = world(space, route(back, namespace="team", name="consumer"))

    assert rules(found, WEB, "team")[0].backends == (Backend(authority("web")),)


# -- what has no effect ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocols", "parent", "said"),
    [
        ({"http": "tcp"}, "{kind: Service, group: '', name: db}", True),
        ({"http": "https"}, "{kind: Service, group: '', name: db, port: 80}", True),
        ({"http": "http"}, "{kind: Service, group: '', name: db}", False),
    ],
)
def test_a_route_on_ports_that_nobody_reads_says_so(
    protocols: dict[str, str], parent: str, said: bool
) -> None:
    found = world(service("db", ip="10.96.0.7", protocols=protocols), route("[{}]", parent=parent))

    assert (
        ("spec.parentRefs[0]", "NotHttp") in reasons(found.outcome("httproutes", "web"))
    ) is said


def test_annotations_that_do_nothing_on_a_route_are_said() -> None:
    notes = {
        "mesh/retry-htpp": "5xx",
        "balancer.linkerd.io/failure-accrual": "consecutive",
        "example.com/other": "x",
    }
    outcome = world(route("[{}]", annotations=notes)).outcome("httproutes", "web")

    assert sorted(reasons(outcome)) == [
        ("metadata.annotations[balancer.linkerd.io/failure-accrual]", "NotSupported"),
        ("metadata.annotations[mesh/retry-htpp]", "UnknownField"),
    ]


def test_annotations_of_a_headless_service_are_said_to_do_nothing() -> None:
    found = world(service("bare", ip="None", annotations={"timeout.linkerd.io/request": "1s"}))

    assert reasons(found.outcome("services", "bare")) == [
        ("metadata.annotations[timeout.linkerd.io/request]", "NotSupported")
    ]
