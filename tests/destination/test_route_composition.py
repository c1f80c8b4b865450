"""Routes with splits, connections without HTTP, and grants between namespaces."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.core.model import (
    Backend,
    HeaderMatch,
    Match,
    Source,
    Verdict,
)
from tests.destination.routing import (
    V1,
    WEB,
    authority,
    route,
    rules,
    world,
)
from tests.destination.world import (
    World,
    load,
    namespace,
    service,
    shares,
)

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


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("kind: Service", "kind: services", "spec.to[0].kind"),
        ("kind: HTTPRoute", "kind: HttpRoutes", "spec.from[0].kind"),
        ("networking.k8s.io,", "networking.k8s.io/v1,", "spec.from[0].group"),
        (", namespace: shop}]", "}]", "spec.from[0]"),
        ("  to: [{", "  too: [{", "spec.too"),
    ],
)
def test_a_grant_that_nobody_can_mean_says_so(old: str, new: str, path: str) -> None:
    found = granted(*load(GRANT.replace(old, new)))

    outcome = found.outcome("referencegrants", "g", "far")

    assert path in [problem.path for problem in outcome.problems]
    assert rules(found)[0].backends[0].refused == "RefNotPermitted"


def test_a_grant_for_gateways_is_theirs_and_gets_no_verdict() -> None:
    text = GRANT.replace("kind: Service, name: other", "kind: Secret")
    found = granted(*load(text.replace("HTTPRoute", "Gateway")))

    assert not [ref for ref in found.snapshot.outcomes if ref.resource.startswith("reference")]


def test_the_parent_of_a_consumers_route_needs_no_grant() -> None:
    space = namespace("shop", **{"mesh/reference-grants": "required"})
    back = "[{backendRefs: [{name: web, namespace: shop, port: 80}]}]"
    found = world(space, route(back, namespace="team", name="consumer"))

    assert rules(found, WEB, "team")[0].backends == (Backend(authority("web")),)
