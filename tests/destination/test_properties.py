"""What holds for any objects: nothing raises, changes give what scratch gives, and a bad
object changes no other object's result."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from destination import unit
from destination.compile import compile_store, recompile
from destination.endpoints import Cluster, find_endpoints
from destination.snapshot import Snapshot
from destination.store import Store
from destination.view import Client, Sight, difference, look
from mesh.core.model import Verdict, View
from mesh.core.route import RouteTable
from proxy.patterns import compile_pattern
from tests.destination.world import Object, World, deployed, load, namespace, pod, service, slice_of

quickly = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.data_too_large]
)

GOOD = [
    *deployed("web", ip="10.96.0.1", pod_ip="10.1.0.1"),
    *deployed("web-v1", ip="10.96.0.2", pod_ip="10.1.0.2"),
    *load("""
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata: {name: good, namespace: shop, creationTimestamp: "2026-01-01T00:00:00Z"}
spec: {service: web, backends: [{service: web, weight: 9}, {service: web-v1, weight: 1}]}
---
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata: {name: web-v1.shop.svc.cluster.local, namespace: shop}
spec: {routes: [{name: all, condition: {pathRegex: "/.*"}}]}
"""),
]
ADDRESSES = ["10.96.0.1:80", "10.96.0.2:80", "10.1.0.1:8080", "192.0.2.1:80"]

words = st.sampled_from(
    [
        *("name", "routes", "condition", "pathRegex", "path", "method", "all", "any", "not"),
        *("responseClasses", "isFailure", "status", "statusCode", "min", "max", "timeout"),
        *("service", "backends", "allocation", "weight", "matches", "ports", "port"),
        *("clusterIP", "clusterIPs", "type", "podIPs", "ip", "addresses", "endpoints"),
        *("targetRef", "kind", "conditions", "containers", "containerPort", "x"),
        *("rules", "filters", "backendRefs", "headers", "type", "value", "timeouts", "retry"),
        *("dstOverrides", "authority", "retryBudget", "hostnames", "parentRefs", "group"),
    ]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 1000) | st.text(max_size=8) | st.floats(-1, 1e9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)
kinds = st.sampled_from(
    [
        ("linkerd.io/v1alpha2", "ServiceProfile"),
        ("linkerd.io/v1alpha2", "TrafficSplit"),
        ("split.smi-spec.io/v1alpha4", "TrafficSplit"),
        ("specs.smi-spec.io/v1alpha4", "HTTPRouteGroup"),
        ("gateway.networking.k8s.io/v1", "HTTPRoute"),
        ("gateway.networking.k8s.io/v1", "GRPCRoute"),
        ("gateway.networking.k8s.io/v1", "TLSRoute"),
        ("gateway.networking.k8s.io/v1", "TCPRoute"),
        ("gateway.networking.k8s.io/v1alpha2", "UDPRoute"),
        ("gateway.networking.k8s.io/v1beta1", "ReferenceGrant"),
        ("policy.linkerd.io/v1beta3", "Server"),
        ("policy.linkerd.io/v1beta3", "HTTPRoute"),
        ("v1", "Pod"),
        ("v1", "Service"),
        ("v1", "Namespace"),
        ("v1", "ConfigMap"),
        ("discovery.k8s.io/v1", "EndpointSlice"),
    ]
)


@st.composite
def bad_objects(draw: st.DrawFn) -> Object:
    api_version, kind = draw(kinds)
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"namespace": "bad", "name": draw(st.sampled_from(["a", "b.c", "web-x"]))},
        "spec": draw(json_values),
        "status": draw(json_values),
        "ports": draw(json_values),
        "endpoints": draw(json_values),
        "data": draw(json_values),
    }


@st.composite
def bad_routes(draw: st.DrawFn) -> Object:
    """Routes on a Service of ours that hold anything."""
    rule = st.dictionaries(words, json_values, max_size=4)
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": draw(st.sampled_from(["HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute"])),
        "metadata": {"namespace": "shop", "name": "route"},
        "spec": {
            "parentRefs": [{"kind": "Service", "group": "", "name": "web"}],
            "rules": draw(st.lists(rule, max_size=3) | json_values),
            "hostnames": draw(json_values),
        },
    }


@st.composite
def bad_neighbours(draw: st.DrawFn) -> Object:
    """Splits, profiles and groups beside the good ones, on the same Services, older than these."""
    api_version, kind, name = draw(
        st.sampled_from(
            [
                ("linkerd.io/v1alpha2", "ServiceProfile", "web"),
                ("linkerd.io/v1alpha2", "ServiceProfile", "web-v1"),
                ("linkerd.io/v1alpha2", "TrafficSplit", "bad"),
                ("split.smi-spec.io/v1alpha1", "TrafficSplit", "bad"),
                ("split.smi-spec.io/v1alpha4", "TrafficSplit", "bad"),
                ("specs.smi-spec.io/v1alpha4", "HTTPRouteGroup", "bad"),
            ]
        )
    )
    spec = draw(st.dictionaries(words, json_values, max_size=4) | json_values)
    if kind == "TrafficSplit" and isinstance(spec, dict):
        spec["service"] = draw(st.sampled_from(["web", "web-v1"]))
    made = "2020-01-01T00:00:00Z"
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"namespace": "shop", "name": name, "creationTimestamp": made},
        "spec": spec,
    }


def _results(snapshot: Snapshot) -> dict[str, Any]:
    view = look(snapshot, Client("shop", "web-1"), ADDRESSES, version=1).view
    mine = {ref: found for ref, found in snapshot.outcomes.items() if ref.namespace == "shop"}
    return {"view": view, "outcomes": mine}


@quickly
@given(st.lists(bad_objects(), max_size=4))
def test_a_bad_object_changes_no_other_objects_result(bad: list[Object]) -> None:
    alone, together = World(GOOD), World([*bad, *GOOD])
    later = World(GOOD)
    later.put(*bad)

    assert _results(together.snapshot) == _results(alone.snapshot)
    assert _results(later.snapshot) == _results(alone.snapshot)


@settings(max_examples=200, deadline=None)
@given(bad_neighbours())
def test_what_is_rejected_beside_a_good_object_leaves_it_its_effect(bad: Object) -> None:
    alone, together = World(GOOD), World([*GOOD, bad])

    before, after = _results(alone.snapshot), _results(together.snapshot)

    ours = after["outcomes"].keys() - before["outcomes"].keys()
    rejected = all(after["outcomes"][ref].verdict is Verdict.REJECTED for ref in ours)
    if rejected:
        assert after["view"] == before["view"]
        assert {ref: found for ref, found in after["outcomes"].items() if ref not in ours} == (
            before["outcomes"]
        )


@quickly
@given(bad_objects(), json_values)
def test_whatever_a_routing_object_holds_it_is_judged(bad: Object, meta: Any) -> None:
    bad["metadata"]["annotations"] = meta
    world = World([bad])
    judged = [ref for ref in world.snapshot.outcomes if ref.namespace == "bad"]

    if bad["kind"] in ("ServiceProfile", "TrafficSplit"):
        assert len(judged) == 1


@settings(max_examples=200, deadline=None)
@given(bad_routes())
def test_a_route_is_judged_whatever_it_holds_and_touches_no_other_service(bad: Object) -> None:
    world, alone = World([*GOOD, bad]), World(GOOD)

    outcome = world.outcome(f"{bad['kind'].lower()}s", "route")

    other = "10.96.0.2:80"
    assert world.target(other) == alone.target(other)
    if outcome.verdict is Verdict.REJECTED:
        assert _results(world.snapshot)["view"] == _results(alone.snapshot)["view"]
    for address in ADDRESSES:
        RouteTable(world.target(address), compile_pattern)  # what is compiled, a proxy can take


def _random_change(rng: random.Random) -> tuple[Object, bool]:
    name = rng.choice(["a", "b", "c", "c-profile"])
    backing = pod(
        f"{name}-1",
        f"10.1.0.{rng.randint(1, 4)}",
        annotations={"mesh/opaque-ports": "8080"} if rng.random() < 0.2 else {},
        namespace=rng.choice(["shop", "mine"]),
        phase=rng.choice(["Running", "Running", "Failed"]),
    )
    space = backing["metadata"]["namespace"]
    kind = rng.randrange(10)
    if kind == 0:
        obj = backing
    elif kind == 1:
        ip = rng.choice(["None", "10.96.0.1", "10.96.0.2", "10.96.0.3"])
        ports = rng.choice([{"http": 80}, {"http": 80, "db": 5432}, {"x": 81}])
        notes = rng.choice([{}, {"retry.linkerd.io/http": "5xx"}, {"mesh/failure-accrual": "?"}])
        obj = service(name, ports, ip=ip, namespace=space, annotations=notes)
    elif kind == 2:
        obj = slice_of(name, backing, ports={"http": 8080}, namespace=space)
    elif kind == 3:
        obj = namespace(space, **rng.choice([{}, {"mesh/opaque-ports": "80"}]))
    elif kind == 4:
        leaves = [{"service": rng.choice("abc"), "weight": rng.randint(0, 2)} for _ in range(2)]
        obj = _custom("split.smi-spec.io/v1alpha2", "TrafficSplit", f"s-{name}", space)
        obj["spec"] = {"service": name, "backends": leaves}
        if rng.random() < 0.3:
            obj["spec"]["matches"] = [{"kind": "HTTPRouteGroup", "name": rng.choice("gh")}]
    elif kind == 5:
        obj = _custom("specs.smi-spec.io/v1alpha4", "HTTPRouteGroup", rng.choice("gh"), space)
        obj["spec"] = {"matches": [{"pathRegex": rng.choice(["/a", "/b", "["])}]}
    elif kind in (6, 7):
        obj = _random_route(rng, name, space)
    else:
        form = rng.choice(["{}", "{}.shop", "{}.shop.svc.cluster.local"]).format(name)
        obj = _custom("linkerd.io/v1alpha2", "ServiceProfile", form, space)
        obj["spec"] = {"routes": [{"name": "r", "condition": {"method": "GET"}}]}
        if rng.random() < 0.3:
            obj["spec"]["dstOverrides"] = [{"authority": rng.choice("abc"), "weight": 1}]
    return obj, rng.random() < 0.25


def _random_route(rng: random.Random, name: str, space: str) -> Object:
    kind = rng.choice(["HTTPRoute", "HTTPRoute", "GRPCRoute", "TCPRoute"])
    obj = _custom("gateway.networking.k8s.io/v1", kind, f"r-{name}", space)
    refs = [
        {"name": rng.choice("abc"), "port": rng.choice([80, 81]), "weight": rng.randint(0, 2)}
        for _ in range(rng.randint(0, 2))
    ]
    parent = {"group": "", "kind": "Service", "name": rng.choice("abc")}
    if rng.random() < 0.4:
        parent["namespace"] = rng.choice(["shop", "mine"])
    obj["spec"] = {"parentRefs": [parent], "rules": [{"backendRefs": refs}]}
    return obj


def _custom(api_version: str, kind: str, name: str, space: str) -> Object:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": space},
    }


@pytest.mark.parametrize("seed", range(20))
def test_step_by_step_gives_what_scratch_gives_and_wakes_all_whom_it_concerns(seed: int) -> None:
    rng = random.Random(seed)
    store = Store()
    snapshot = Snapshot(cluster=Cluster())
    addresses = [f"10.96.0.{n}:{port}" for n in range(1, 4) for port in (80, 81, 5432)]
    addresses += [f"10.1.0.{n}:8080" for n in range(1, 5)]
    client = Client("mine", "a-1")
    sight: Sight = look(snapshot, client, addresses, version=0)
    for version in range(1, 60):
        touched = store.apply_all([_random_change(rng) for _ in range(rng.randint(1, 3))])
        snapshot, reach = recompile(snapshot, store, touched)

        fresh = look(snapshot, client, addresses, version=version)
        is_woken = bool(
            reach.services & sight.services
            or reach.addresses & sight.addresses
            or client.key in reach.pods
        )
        update = difference(sight.view, fresh.view)
        assert is_woken or update is None
        if update is not None:
            assert sight.view.apply(update) == fresh.view
        sight = fresh if is_woken else sight

    scratch = compile_store(store)
    for part in ("units", "cluster_ips", "pod_ips", "pods", "members", "outcomes"):
        assert getattr(snapshot, part) == getattr(scratch, part), part


def test_an_empty_step_is_no_update() -> None:
    assert difference(View(version=1), View(version=2)) is None


def test_a_bug_on_one_service_costs_no_other_its_change(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(GOOD)

    def broken(*arguments: Any) -> Any:
        if arguments[2].name == "web":
            raise RuntimeError("bug")
        return find_endpoints(*arguments)

    monkeypatch.setattr(unit, "find_endpoints", broken)
    world.put(pod("web-1", "10.1.0.9", account="web"), pod("web-v1-1", "10.1.0.8"))

    assert world.reach.broken == ((("shop", "web"), "RuntimeError: bug"),)
    assert [len(found.endpoints) for found in world.services("10.96.0.2:80")] == [0]
    assert len(world.services("10.96.0.1:80")) == 2
