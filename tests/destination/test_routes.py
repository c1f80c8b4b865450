"""Gateway API routes on Services: their rules in order, what owns them, and their status."""

from __future__ import annotations

import pytest

from destination.status import verdict_text
from mesh.core.model import (
    Backend,
    HeaderMatch,
    Match,
    QueryMatch,
    Source,
    Verdict,
)
from tests.destination.routing import (
    V1,
    V2,
    WEB,
    authority,
    names,
    route,
    rules,
    world,
)
from tests.destination.world import (
    deployed,
    reasons,
    service,
)

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
    verdicts = [verdict_text(found.outcome("httproutes", name)) for name in "abc"]
    assert verdicts == [*["Shadowed by HTTPRoute/shop/c"] * 2, "Effective"]


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
