"""Addresses: what each one means to a client, and who must answer there."""

from __future__ import annotations

from typing import Any

import pytest

from destination.view import Client, look
from mesh.core.model import Endpoint, InboundPort, Protocol, Target
from tests.destination.world import (
    Object,
    World,
    deployed,
    namespace,
    pod,
    reasons,
    service,
    slice_of,
)

WEB = "10.96.0.1:80"
IDENTITY = "web.shop.serviceaccount.identity.mesh.cluster.local"


def _endpoints(world: World, address: str = WEB, **client: Any) -> list[str]:
    return [f"{e.address}:{e.port}" for s in world.services(address, **client) for e in s.endpoints]


def test_a_cluster_address_leads_to_its_pods_with_identity_workload_and_zone() -> None:
    backing = pod("web-1", labels={"mesh/workload-kind": "Deployment", "mesh/workload-name": "web"})
    world = World([service("web"), backing, slice_of("web", backing, zone="a")])

    (found,) = world.services(WEB)

    assert found.endpoints == (
        Endpoint("10.1.0.1", 8080, IDENTITY, False, "web-1", "shop", "deployment/web", "a"),
    )
    assert world.target(WEB).authority == "web.shop.svc.cluster.local:80"


@pytest.mark.parametrize(
    "change",
    [
        {"meshed": False},
        {"labels": {"mesh/control-namespace": "another"}},
        {"annotations": {"mesh/skip-inbound-ports": "8000-8100"}},
        {"annotations": {"config.linkerd.io/skip-inbound-ports": "8080"}},
        {"spec": {"hostNetwork": True}},
    ],
    ids=["no label", "another mesh", "port skipped", "port skipped for linkerd", "host network"],
)
def test_where_no_proxy_of_ours_answers_there_is_no_identity(change: dict[str, Any]) -> None:
    backing = pod("web-1", **change)
    world = World([service("web"), backing, slice_of("web", backing)])

    assert [e.identity for s in world.services(WEB) for e in s.endpoints] == [""]


def test_a_skipped_port_of_the_namespace_counts_for_its_pods() -> None:
    backing = pod("web-1")
    world = World([service("web"), backing, slice_of("web", backing)])

    world.put(namespace("shop", **{"mesh/skip-inbound-ports": "8080"}))

    assert [e.identity for s in world.services(WEB) for e in s.endpoints] == [""]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"ready": False}, []),
        ({"ready": False, "serving": True, "terminating": True}, ["10.1.0.1:8080"]),
        ({"ready": False, "serving": False, "terminating": True}, []),
    ],
    ids=["not ready", "last one still serving", "ended"],
)
def test_only_ready_endpoints_count_unless_none_is_left(
    change: dict[str, Any], expected: list[str]
) -> None:
    backing = pod("web-1")
    world = World([service("web"), backing, slice_of("web", backing, **change)])

    assert _endpoints(world) == expected


def test_an_endpoint_that_ends_gives_way_to_a_ready_one() -> None:
    old, new = pod("old", "10.1.0.1"), pod("new", "10.1.0.2")
    world = World(
        [
            service("web"),
            old,
            new,
            slice_of("web", old, ready=False, serving=True, terminating=True),
            slice_of("web", new, suffix="2"),
        ]
    )

    assert _endpoints(world) == ["10.1.0.2:8080"]


def test_a_pod_on_its_way_out_is_left_before_its_slice_says_so() -> None:
    old, new = pod("old", "10.1.0.1"), pod("new", "10.1.0.2")
    world = World([service("web"), old, new, slice_of("web", old, new)])

    world.put(pod("old", "10.1.0.1", deletionTimestamp="2026-01-02T00:00:00Z"))

    assert _endpoints(world) == ["10.1.0.2:8080"]


@pytest.mark.parametrize(
    "known",
    [
        None,
        pod("web-1", "10.1.0.1", uid="another"),
        pod("web-1", "10.1.0.99"),
        pod("web-1", phase="Failed"),
    ],
    ids=["unknown", "recreated", "another address", "ended"],
)
def test_an_endpoint_whose_pod_is_not_proven_is_withheld(known: dict[str, Any] | None) -> None:
    world = World([service("web"), slice_of("web", pod("web-1")), *([known] if known else [])])
    assert _endpoints(world) == []

    world.put(pod("web-1"))

    assert _endpoints(world) == ["10.1.0.1:8080"]


def test_an_endpoint_without_a_pod_is_plain() -> None:
    bare = slice_of("web", pod("x", "192.0.2.7"))
    del bare["endpoints"][0]["targetRef"]
    world = World([service("web"), bare])

    (found,) = world.services(WEB)

    assert found.endpoints == (Endpoint("192.0.2.7", 8080),)


def test_a_slice_that_names_no_pod_means_the_pod_at_its_address() -> None:
    backing = pod("web-1", "10.1.0.1")
    bare = slice_of("web", backing)
    del bare["endpoints"][0]["targetRef"]
    world = World([service("web"), bare])

    before = [e.identity for s in world.services(WEB) for e in s.endpoints]
    world.put(backing)

    assert before == [""]
    assert [e.identity for s in world.services(WEB) for e in s.endpoints] == [IDENTITY]


def test_one_pod_in_two_slices_is_one_endpoint() -> None:
    backing = pod("web-1")
    world = World(
        [service("web"), backing, slice_of("web", backing), slice_of("web", backing, suffix="2")]
    )

    assert _endpoints(world) == ["10.1.0.1:8080"]


def test_of_a_dual_stack_service_the_first_family_is_used() -> None:
    four = pod("web-1", "10.1.0.1", status={"podIPs": [{"ip": "10.1.0.1"}, {"ip": "fd00::1"}]})
    six = pod("web-1", "fd00::1")
    world = World(
        [
            service("web", ip="10.96.0.1", ipFamilies=["IPv6", "IPv4"]),
            four,
            slice_of("web", four),
            slice_of("web", six, suffix="6", family="IPv6"),
        ]
    )

    assert _endpoints(world) == ["fd00::1:8080"]


def test_traffic_kept_local_reaches_only_the_node_of_the_client() -> None:
    near, far = pod("near", "10.1.0.1", node="n1"), pod("far", "10.1.0.2", node="n2")
    world = World(
        [service("web", internalTrafficPolicy="Local"), near, far, slice_of("web", near, far)]
    )

    assert _endpoints(world, node="n1") == ["10.1.0.1:8080"]
    assert _endpoints(world, node="n3") == []


def test_any_port_of_a_pod_address_is_that_pod() -> None:
    world = World([pod("web-1")])

    assert world.target("10.1.0.1:9999") == Target(
        "10.1.0.1:9999",
        endpoint=Endpoint(
            "10.1.0.1", 9999, IDENTITY, pod="web-1", namespace="shop", workload="pod/web-1"
        ),
    )
    assert _identity(world, "10.1.0.1:4191") == ""


def test_a_pod_of_a_headless_service_has_its_authority() -> None:
    world = World(deployed("db", ip="None", pod_ip="10.1.0.1"))

    target = world.target("10.1.0.1:8080")

    assert target.authority == "db.shop.svc.cluster.local:80"
    assert target.endpoint is not None
    assert target.rules == ()
    assert world.target("10.1.0.1:9999").authority == ""


@pytest.mark.parametrize("address", ["10.96.0.1:81", "192.0.2.1:443", "[2001:db8::1]:80"])
def test_an_address_that_nobody_knows_is_outside(address: str) -> None:
    world = World(deployed("web", ip="10.96.0.1", pod_ip="10.1.0.1"))

    assert world.target(address) == Target(address)


def test_an_address_that_changes_hands_belongs_to_the_running_pod() -> None:
    world = World([pod("job", "10.1.0.1", phase="Succeeded"), pod("web-2", "10.1.0.1")])

    assert _pod(world, "10.1.0.1:80") == "web-2"


def test_an_address_of_the_hosts_network_is_no_pod() -> None:
    world = World([pod("agent", "192.0.2.5", spec={"hostNetwork": True})])

    assert world.target("192.0.2.5:80").endpoint is None


@pytest.mark.parametrize(
    ("name", "declared", "expected"),
    [
        ("http", "", Protocol.HTTP1),
        ("http-admin", "", Protocol.HTTP1),
        ("http2", "", Protocol.HTTP2),
        ("grpc-api", "", Protocol.GRPC),
        ("grpc-web", "", Protocol.HTTP1),
        ("https", "", Protocol.TLS),
        ("tcp-x", "", Protocol.OPAQUE),
        ("httpish", "", Protocol.DETECT),
        ("admin", "", Protocol.DETECT),
        ("admin", "kubernetes.io/h2c", Protocol.HTTP2),
        ("http", "grpc", Protocol.GRPC),
        ("http", "linkerd.io/opaque", Protocol.OPAQUE),
        ("x", "HTTP", Protocol.HTTP1),
        ("x", "example.com/own", Protocol.DETECT),
    ],
)
def test_the_protocol_of_a_port_is_as_declared(
    name: str, declared: str, expected: Protocol
) -> None:
    protocols = {name: declared} if declared else {}
    world = World([service("web", {name: 80}, protocols=protocols)])

    assert world.target(WEB).protocol is expected


@pytest.mark.parametrize("ports", ["80", "70-90", "db", "25, db"])
def test_an_opaque_port_may_be_named_on_the_service(ports: str) -> None:
    for note in ("mesh/opaque-ports", "config.linkerd.io/opaque-ports"):
        world = World([service("web", {"db": 80}, annotations={note: ports})])

        assert world.target(WEB).protocol is Protocol.OPAQUE


def test_the_service_overrides_the_opaque_ports_of_its_namespace() -> None:
    shop = namespace("shop", **{"mesh/opaque-ports": "80"})

    assert World([shop, service("web")]).target(WEB).protocol is Protocol.OPAQUE
    other = service("web", annotations={"mesh/opaque-ports": "25"})
    assert World([shop, other]).target(WEB).protocol is Protocol.HTTP1


def test_a_port_that_its_pods_declare_opaque_is_opaque() -> None:
    backing = pod("web-1", annotations={"mesh/opaque-ports": "8080"})
    world = World([service("web", {"x": 80}), backing, slice_of("web", backing, ports={"x": 8080})])

    assert world.target(WEB).protocol is Protocol.OPAQUE
    assert world.target("10.1.0.1:8080").protocol is Protocol.OPAQUE


def test_annotations_of_a_service_that_mean_nothing_are_said() -> None:
    world = World(
        [
            service(
                "web",
                annotations={
                    "mesh/opaque-port": "80",
                    "retry.linkerd.io/http": "6xx",
                    "retry.linkerd.io/status": "500",
                    "mesh/inject": "enabled",
                    "mesh/opaque-ports": "80,x!",
                    "prometheus.io/scrape": "true",
                },
            )
        ]
    )

    assert sorted(reasons(world.outcome("services", "web"))) == [
        ("metadata.annotations[mesh/inject]", "NotSupported"),
        ("metadata.annotations[mesh/opaque-port]", "UnknownField"),
        ("metadata.annotations[mesh/opaque-ports]", "InvalidPorts"),
        ("metadata.annotations[retry.linkerd.io/http]", "InvalidValue"),
        ("metadata.annotations[retry.linkerd.io/status]", "UnknownField"),
    ]


def test_inbound_knows_the_ports_of_the_services_in_front() -> None:
    strict = {"mesh/require-tls": "enabled"}
    world = World(
        [
            *deployed(
                "web",
                ip="10.96.0.1",
                pod_ip="10.1.0.1",
                annotations=strict,
            ),
            service("grpc", {"grpc": 9000}, ip="10.96.0.2"),
            slice_of("grpc", pod("web-1"), ports={"grpc": 9090}, ready=False),
        ]
    )

    inbound = look(world.snapshot, Client("shop", "web-1"), [], version=1).view.inbound

    assert inbound.ports == (
        InboundPort(8080, Protocol.HTTP1, 80),
        InboundPort(9090, Protocol.GRPC, 9000),
    )
    assert inbound.require_tls


@pytest.mark.parametrize(
    ("policy", "code", "leaving", "expected"),
    [
        ("Never", 1, False, True),
        ("OnFailure", 0, False, True),
        ("OnFailure", 1, False, False),
        ("Always", 0, False, False),
        ("Always", 1, True, True),
    ],
)
def test_a_pod_is_done_when_no_container_will_run_again(
    policy: str, code: int, leaving: bool, expected: bool
) -> None:
    containers = [{"name": "app"}, {"name": "mesh-proxy"}]
    ended = {"name": "app", "state": {"terminated": {"exitCode": code}}}
    world = World(
        [
            pod(
                "job-1",
                spec={"restartPolicy": policy, "containers": containers},
                status={"containerStatuses": [ended, {"name": "mesh-proxy", "state": {}}]},
                deletionTimestamp="2026-01-01T00:00:00Z" if leaving else None,
            )
        ]
    )

    view = look(world.snapshot, Client("shop", "job-1"), [], version=1).view

    assert view.app_done is expected


@pytest.mark.parametrize(
    ("owner", "labels", "expected"),
    [
        (None, {}, "pod/web-1"),
        ({"kind": "ReplicaSet", "name": "web-5d9"}, {"pod-template-hash": "5d9"}, "deployment/web"),
        ({"kind": "ReplicaSet", "name": "own"}, {}, "replicaset/own"),
        ({"kind": "StatefulSet", "name": "db"}, {}, "statefulset/db"),
    ],
)
def test_a_workload_is_named_by_its_owner(
    owner: dict[str, str] | None, labels: dict[str, str], expected: str
) -> None:
    owners = [owner | {"controller": True}] if owner else []
    world = World([pod("web-1", labels=labels, ownerReferences=owners)])

    endpoint = world.target("10.1.0.1:80").endpoint

    assert endpoint is not None
    assert endpoint.workload == expected


def _identity(world: World, address: str) -> str:
    endpoint = world.target(address).endpoint
    return endpoint.identity if endpoint is not None else "none"


def _pod(world: World, address: str) -> str:
    endpoint = world.target(address).endpoint
    return endpoint.pod if endpoint is not None else "none"


def _zoned_slice(hints: dict[str, str]) -> tuple[Object, list[Object]]:
    """A slice over two zones; pod name -> the zone that it is meant for, "" for no hint."""
    pods = [
        pod(name, f"10.1.0.{at + 1}", node=f"node-{name}") for at, name in enumerate(("a", "b"))
    ]
    made = slice_of("web", *pods)
    for item, backing in zip(made["endpoints"], pods, strict=True):
        name = backing["metadata"]["name"]
        item["zone"] = f"zone-{name}"
        if hints.get(name):
            item["hints"] = {"forZones": [{"name": hints[name]}]}
    return made, pods


@pytest.mark.parametrize(
    ("hints", "node", "expected"),
    [
        ({"a": "zone-a", "b": "zone-b"}, "node-a", ["10.1.0.1"]),
        ({"a": "zone-a", "b": "zone-b"}, "node-b", ["10.1.0.2"]),
        ({"a": "zone-a", "b": "zone-b"}, "node-c", ["10.1.0.1", "10.1.0.2"]),
        ({"a": "zone-a"}, "node-a", ["10.1.0.1", "10.1.0.2"]),
        ({"a": "zone-b", "b": "zone-b"}, "node-a", ["10.1.0.1", "10.1.0.2"]),
        ({}, "node-a", ["10.1.0.1", "10.1.0.2"]),
    ],
)
def test_hints_keep_clients_in_their_zone_where_all_endpoints_have_them(
    hints: dict[str, str], node: str, expected: list[str]
) -> None:
    made, pods = _zoned_slice(hints)
    world = World([service("web"), *pods, made])

    (found,) = world.services(WEB, node=node)

    assert [endpoint.address for endpoint in found.endpoints] == expected


@pytest.mark.parametrize(
    ("nodes", "zones", "client", "expected"),
    [
        ({"a": "node-a", "b": "node-b"}, {}, "node-a", ["10.1.0.1"]),
        ({"a": "node-a", "b": "node-b"}, {}, "node-c", ["10.1.0.1", "10.1.0.2"]),
        ({"a": "node-a"}, {}, "node-a", ["10.1.0.1", "10.1.0.2"]),
        # as PreferSameNode writes them: the own node, else the own zone, else everybody
        ({"a": "node-a", "b": "node-d"}, {"a": "zone-a", "b": "zone-b"}, "node-a", ["10.1.0.1"]),
        ({"a": "node-a", "b": "node-d"}, {"a": "zone-a", "b": "zone-b"}, "node-b", ["10.1.0.2"]),
        ({"a": "node-a", "b": "node-d"}, {"a": "zone-a", "b": "zone-a"}, "node-b",
         ["10.1.0.1", "10.1.0.2"]),
    ],
)  # fmt: skip
def test_hints_for_nodes_go_before_those_for_zones(
    nodes: dict[str, str], zones: dict[str, str], client: str, expected: list[str]
) -> None:
    made, pods = _zoned_slice(zones)
    for item, backing in zip(made["endpoints"], pods, strict=True):
        name = backing["metadata"]["name"]
        if name in nodes:
            item.setdefault("hints", {})["forNodes"] = [{"name": nodes[name]}]
    distribution = service("web", trafficDistribution="PreferSameNode")
    world = World([distribution, *pods, made])

    (found,) = world.services(WEB, node=client)

    assert [endpoint.address for endpoint in found.endpoints] == expected


def test_a_zone_that_becomes_known_wakes_the_pods_of_its_node() -> None:
    made, pods = _zoned_slice({"a": "zone-a", "b": "zone-b"})
    client = pod("client", "10.1.0.9", node="node-a")
    world = World([service("web"), client, *pods])

    world.put(made)

    assert client["metadata"]["name"] in {name for _, name in world.reach.pods}
