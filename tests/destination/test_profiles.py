"""ServiceProfiles as users write them, and the overlays that come of them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from mesh.core.model import (
    Budget,
    Condition,
    Problem,
    Profile,
    Protocol,
    ResponseClass,
    Source,
    Verdict,
)
from tests.destination.world import World, deployed, load, reasons, service, shares

WEB = "10.96.0.1:80"


def _profile(
    name: str = "web.shop.svc.cluster.local", namespace: str = "shop", **spec: Any
) -> dict[str, Any]:
    spec = spec or {"routes": [{"name": name, "condition": {"method": "GET"}}]}
    return {
        "apiVersion": "linkerd.io/v1alpha2",
        "kind": "ServiceProfile",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def _world(*objects: dict[str, Any]) -> World:
    return World([*deployed("web", ip="10.96.0.1", pod_ip="10.1.0.1"), *objects])


def _overlay(world: World, namespace: str = "shop") -> Profile:
    profile = world.target(WEB, namespace=namespace).profile
    assert profile is not None
    return profile


def _condition(text: str) -> tuple[Condition | None, list[tuple[str, str]]]:
    route = {"name": "r", "condition": yaml.safe_load(text)}
    good = {"name": "good", "condition": {"path": "/ok"}}
    world = _world(_profile("web", routes=[route, good]))
    found = [route.condition for route in _overlay(world).routes if route.name == "r"]
    problems = world.outcome("serviceprofiles", "web").problems
    mine = [(p.path, p.reason) for p in problems if p.path.startswith("spec.routes[0].condition")]
    return (found[0] if found else None), mine


def test_a_profile_as_linkerd_writes_it_is_effective() -> None:
    (profile,) = load("""
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata: {name: web.shop.svc.cluster.local, namespace: shop}
spec:
  routes:
  - name: GET /books/{id}
    condition:
      method: GET
      pathRegex: /books/[^/]*
    timeout: 300ms
    responseClasses:
    - condition: {status: {min: 500, max: 599}}
      isFailure: true
  - name: POST /books
    condition: {method: POST, pathRegex: /books}
    isRetryable: false
""")
    world = _world(profile)

    overlay, outcome = (
        _overlay(world),
        world.outcome("serviceprofiles", profile["metadata"]["name"]),
    )

    assert [route.name for route in overlay.routes] == ["GET /books/{id}", "POST /books"]
    assert overlay.routes[0].condition == Condition(method="GET", path_regex="/books/[^/]*")
    assert overlay.routes[0].timeout == 0.3
    assert overlay.routes[0].response_classes == (
        ResponseClass(Condition(status_min=500, status_max=599), is_failure=True),
    )
    assert (outcome.verdict, outcome.problems, outcome.service) == (
        Verdict.EFFECTIVE,
        (),
        "shop/web",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{pathRegex: /a.*}", Condition(path_regex="/a.*")),
        ("{path: /a}", Condition(path="/a")),
        ("{method: get}", Condition(method="GET")),
        (
            "{path: /a, pathRegex: /.*, method: PUT}",
            Condition(all=(Condition(path="/a", method="PUT"), Condition(path_regex="/.*"))),
        ),
        (
            "{any: [{method: GET}, {method: HEAD}]}",
            Condition(any=(Condition(method="GET"), Condition(method="HEAD"))),
        ),
        ("{all: [{method: GET}]}", Condition(all=(Condition(method="GET"),))),
        ("{not: {path: /a}}", Condition(negated=Condition(path="/a"))),
        (
            "{method: GET, not: {path: /a}}",
            Condition(all=(Condition(method="GET"), Condition(negated=Condition(path="/a")))),
        ),
    ],
)
def test_request_conditions_keep_their_meaning(text: str, expected: Condition) -> None:
    assert _condition(text)[0] == expected


@pytest.mark.parametrize(
    ("text", "path", "reason"),
    [
        ("{}", "", "EmptyCondition"),
        ("null", "", "EmptyCondition"),
        ("{any: []}", ".any", "EmptyCondition"),
        ("{pathRegex: '(a'}", ".pathRegex", "InvalidRegex"),
        (r"{pathRegex: '(a)\1'}", ".pathRegex", "InvalidRegex"),
        ("{pathRegex: 7}", ".pathRegex", "Malformed"),
        ("{method: GET, headers: {x: y}}", ".headers", "UnknownField"),
        ("{any: [{method: GET}, {pathregex: /a}]}", ".any[1].pathregex", "UnknownField"),
        ("{not: {pathRegex: '['}}", ".not.pathRegex", "InvalidRegex"),
        ("[GET]", "", "Malformed"),
    ],
)
def test_a_condition_that_does_not_read_drops_its_route_only(
    text: str, path: str, reason: str
) -> None:
    condition, problems = _condition(text)

    assert condition is None
    assert (f"spec.routes[0].condition{path}", reason) in problems


def test_a_condition_nested_without_end_is_refused() -> None:
    text = "{not: " * 40 + "{method: GET}" + "}" * 40

    condition, problems = _condition(text)

    assert condition is None
    assert [reason for _, reason in problems] == ["Malformed"]


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("{status: {min: 500, max: 599}}", 500, 599),
        ("{status: {min: 404}}", 404, 404),
        ("{status: {max: 404}}", 404, 404),
        ("{statusCode: 200}", 200, 200),
        ('{statusCode: "404"}', 404, 404),
    ],
)
def test_response_classes_know_their_codes(text: str, low: int, high: int) -> None:
    classes = [{"condition": yaml.safe_load(text), "isFailure": True}]
    world = _world(
        _profile(routes=[{"name": "r", "condition": {"method": "GET"}, "responseClasses": classes}])
    )

    (route,) = _overlay(world).routes

    assert route.response_classes == (
        ResponseClass(Condition(status_min=low, status_max=high), is_failure=True),
    )


@pytest.mark.parametrize(
    "text",
    ["{status: {}}", "{status: {min: 600}}", "{status: {min: 500, max: 404}}", "{status: x}"],
)
def test_a_response_class_with_bad_codes_is_left_out_and_said(text: str) -> None:
    classes = [{"condition": yaml.safe_load(text), "isFailure": True}]
    world = _world(
        _profile(routes=[{"name": "r", "condition": {"method": "GET"}, "responseClasses": classes}])
    )

    outcome = world.outcome("serviceprofiles", "web.shop.svc.cluster.local")

    assert _overlay(world).routes[0].response_classes == ()
    assert outcome.verdict is Verdict.PARTIAL
    assert ("spec.routes[0].responseClasses[0].condition.status", "InvalidStatus") in reasons(
        outcome
    )


def test_a_class_is_a_success_unless_it_says_failure() -> None:
    classes = [{"condition": {"status": {"min": 404}}}]
    world = _world(
        _profile(routes=[{"name": "r", "condition": {"method": "GET"}, "responseClasses": classes}])
    )

    assert not _overlay(world).routes[0].response_classes[0].is_failure


def test_retries_and_their_budget_are_taken() -> None:
    world = _world(
        _profile(
            routes=[{"name": "r", "condition": {"method": "GET"}, "isRetryable": True}],
            retryBudget={"retryRatio": 0.5, "minRetriesPerSecond": 3, "ttl": "20s"},
        )
    )

    assert _overlay(world).routes[0].retryable
    assert world.target(WEB).budget == Budget(0.5, 3, 20)
    assert (
        world.outcome("serviceprofiles", "web.shop.svc.cluster.local").verdict is Verdict.EFFECTIVE
    )


@pytest.mark.parametrize(
    ("budget", "field"),
    [
        ({"retryRatio": -1}, "retryRatio"),
        ({"retryRatio": "much"}, "retryRatio"),
        ({"minRetriesPerSecond": -1}, "minRetriesPerSecond"),
        ({"ttl": "61s"}, "ttl"),
        ({"ttl": "soon"}, "ttl"),
    ],
)
def test_a_budget_that_does_not_read_is_the_default_and_said(
    budget: dict[str, Any], field: str
) -> None:
    world = _world(_profile(retryBudget=budget, routes=[]))

    assert world.target(WEB).budget == Budget()
    assert reasons(world.outcome("serviceprofiles", "web.shop.svc.cluster.local")) == [
        (f"spec.retryBudget.{field}", "InvalidBudget")
    ]


def test_overrides_take_the_place_of_the_service() -> None:
    other = deployed("web", ip="10.96.0.9", pod_ip="10.1.0.9")
    for obj in other:
        obj["metadata"]["namespace"] = "canary"
    world = _world(
        *other,
        _profile(
            dstOverrides=[
                {"authority": "web.shop.svc.cluster.local", "weight": "900m"},
                {"authority": "web.canary.svc.cluster.local:80", "weight": "100m"},
            ]
        ),
    )

    rule = world.target(WEB).rules[-1]

    assert [(backend.authority, backend.weight) for backend in rule.backends] == [
        ("web.shop.svc.cluster.local:80", 9),
        ("web.canary.svc.cluster.local:80", 1),
    ]
    assert rule.source == Source("ServiceProfile", "shop", "web.shop.svc.cluster.local")
    assert (
        world.outcome("serviceprofiles", "web.shop.svc.cluster.local").verdict is Verdict.EFFECTIVE
    )


def test_overrides_of_the_clients_namespace_are_for_its_clients_only() -> None:
    world = _world(
        *deployed("api", ip="10.96.0.2", pod_ip="10.1.0.2"),
        _profile(namespace="team", dstOverrides=[{"authority": "api.shop", "weight": 1}]),
    )

    assert shares(world.target(WEB, namespace="team")) == {"api:80": 1}
    assert shares(world.target(WEB, namespace="shop")) == {"web:80": 1}


def test_overrides_yield_to_a_split_and_say_so() -> None:
    split = load("""
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: s, namespace: shop}
spec: {service: web, backends: [{service: web, weight: 1}]}
""")
    world = _world(*split, _profile(dstOverrides=[{"authority": "api.shop", "weight": 1}]))

    outcome = world.outcome("serviceprofiles", "web.shop.svc.cluster.local")

    assert shares(world.target(WEB)) == {"web:80": 1}
    assert reasons(outcome) == [("spec.dstOverrides", "OverruledBy")]
    assert outcome.verdict is Verdict.PARTIAL


def test_an_override_to_nowhere_is_said() -> None:
    world = _world(_profile(dstOverrides=[{"authority": "gone.shop:81", "weight": 1}]))

    assert reasons(world.outcome("serviceprofiles", "web.shop.svc.cluster.local")) == [
        ("spec.dstOverrides[0].authority", "NoSuchService")
    ]


@pytest.mark.parametrize("override", [{"authority": "a b", "weight": 1}, {"authority": "x"}, 5])
def test_overrides_that_do_not_read_are_none_and_said(override: Any) -> None:
    world = _world(_profile(routes=[], dstOverrides=[override]))

    outcome = world.outcome("serviceprofiles", "web.shop.svc.cluster.local")

    assert shares(world.target(WEB)) == {"web:80": 1}
    assert outcome.verdict is Verdict.REJECTED


def test_opaque_ports_of_a_profile_are_not_parsed() -> None:
    world = _world(_profile(opaquePorts=["80", 25, "x"]))

    assert world.target(WEB).protocol is Protocol.OPAQUE
    assert ("spec.opaquePorts[2]", "InvalidPorts") in reasons(
        world.outcome("serviceprofiles", "web.shop.svc.cluster.local")
    )


@pytest.mark.parametrize("timeout", ["soon", 5, "-1s", "5 s"])
def test_a_timeout_that_does_not_read_is_none_and_said(timeout: Any) -> None:
    routes = [{"name": "r", "condition": {"method": "GET"}, "timeout": timeout}]
    world = _world(_profile(routes=routes))

    outcome = world.outcome("serviceprofiles", "web.shop.svc.cluster.local")

    assert _overlay(world).routes[0].timeout is None
    assert reasons(outcome) == [("spec.routes[0].timeout", "InvalidDuration")]


@pytest.mark.parametrize(
    ("name", "noted"),
    [
        ("web.shop.svc.cluster.local", False),
        ("web.shop.svc", True),
        ("web.shop", True),
        ("web", True),
        ("web-profile", True),
    ],
)
def test_a_profile_is_found_by_each_form_of_the_name(name: str, noted: bool) -> None:
    world = _world(_profile(name))

    outcome = world.outcome("serviceprofiles", name)

    assert [route.name for route in _overlay(world).routes] == [name]
    assert outcome.service == "shop/web"
    assert outcome.verdict is Verdict.EFFECTIVE
    assert (("metadata.name", "ResolvedName") in reasons(outcome)) is noted


def test_the_exact_service_goes_before_the_name_without_its_suffix() -> None:
    world = _world(_profile("web-profile"))
    assert world.outcome("serviceprofiles", "web-profile").service == "shop/web"

    world.put(service("web-profile", ip="10.96.0.7"))

    assert world.outcome("serviceprofiles", "web-profile").service == "shop/web-profile"
    assert world.target(WEB).profile is None


def test_the_full_name_goes_before_a_bare_one() -> None:
    world = _world(_profile("web"), _profile())

    bare = world.outcome("serviceprofiles", "web")

    assert _overlay(world).routes[0].name == "web.shop.svc.cluster.local"
    assert bare.verdict is Verdict.SHADOWED
    assert str(bare.shadowed_by) == "ServiceProfile/shop/web.shop.svc.cluster.local"


def test_a_profile_of_the_clients_namespace_goes_before_the_services_own() -> None:
    world = _world(_profile(), _profile("web.shop.svc.cluster.local", namespace="mine", routes=[]))

    assert _overlay(world, "mine").source.namespace == "mine"
    assert _overlay(world, "other").source.namespace == "shop"
    assert world.outcome("serviceprofiles", "web.shop.svc.cluster.local", "mine").verdict is (
        Verdict.EFFECTIVE
    )


@pytest.mark.parametrize("name", ["web.shop.svc.other.domain", "a.b.c", "api.example.com"])
def test_a_name_that_means_no_service_is_rejected(name: str) -> None:
    outcome = _world(_profile(name)).outcome("serviceprofiles", name)

    assert outcome.verdict is Verdict.REJECTED
    assert reasons(outcome) == [("metadata.name", "NoSuchService")]


def test_a_profile_waits_for_its_service() -> None:
    world = World([_profile("web")])
    assert world.outcome("serviceprofiles", "web").verdict is Verdict.REJECTED

    world.put(*deployed("web", ip="10.96.0.1", pod_ip="10.1.0.1"))

    assert world.outcome("serviceprofiles", "web").verdict is Verdict.EFFECTIVE
    assert len(_overlay(world).routes) == 1


def test_a_profile_composes_with_a_split() -> None:
    (split,) = load("""
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata: {name: s, namespace: shop}
spec: {service: web, backends: [{service: web-v2, weight: 1}]}
""")
    world = _world(_profile(), split)

    target = world.target(WEB)

    assert target.profile is not None
    assert target.rules[0].backends[0].authority == "web-v2.shop.svc.cluster.local:80"


def test_a_profile_on_an_opaque_port_says_that_it_matches_nothing() -> None:
    world = World(
        [
            service("web", {"tcp-db": 5432}),
            _profile("web", routes=[{"name": "r", "condition": {"method": "GET"}}]),
        ]
    )

    assert ("spec.routes", "NotHttp") in reasons(world.outcome("serviceprofiles", "web"))


def test_a_deleted_profile_leaves_nothing_behind() -> None:
    world = _world(_profile())

    world.put(_profile(), deleted=True)

    assert world.target(WEB).profile is None
    assert not world.snapshot.outcomes


def test_problems_name_the_object() -> None:
    world = _world(_profile("web", routes="x"))

    (problem,) = (
        p for p in world.outcome("serviceprofiles", "web").problems if p.path == "spec.routes"
    )

    assert isinstance(problem, Problem)
    assert str(problem.source) == "ServiceProfile/shop/web"
