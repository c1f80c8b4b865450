"""Services and pods to EndpointSlices."""

from __future__ import annotations

from typing import Any

from mesh.local.controllers.endpoints import slices

SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "shop", "uid": "s", "labels": {"team": "a"}},
    "spec": {
        "clusterIP": "10.96.0.1",
        "ipFamilies": ["IPv4"],
        "ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}],
    },
}


def pod(
    name: str, address: str = "10.1.0.1", *, ready: bool = True, port: int = 8080, **meta: Any
) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "shop", "uid": name, **meta},
        "spec": {
            "nodeName": "n1",
            "containers": [{"ports": [{"name": "web", "containerPort": port}]}],
        },
        "status": {
            "phase": "Running",
            "podIPs": [{"ip": address}, {"ip": "fd00::" + address.rpartition(".")[2]}],
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True" if ready else "False",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }
            ],
        },
    }


def conditions(service: dict[str, Any], *pods: dict[str, Any]) -> list[tuple[bool, bool, bool]]:
    (found,) = slices(service, pods, "z")
    return [
        tuple(entry["conditions"][name] for name in ("ready", "serving", "terminating"))
        for entry in found["endpoints"]
    ]


def test_an_endpoint_tells_pod_node_zone_and_its_port_by_number() -> None:
    (found,) = slices(SERVICE, [pod("a")], "zone-1")

    (endpoint,) = found["endpoints"]
    assert endpoint["targetRef"] == {"kind": "Pod", "name": "a", "namespace": "shop", "uid": "a"}
    assert (endpoint["nodeName"], endpoint["zone"]) == ("n1", "zone-1")
    assert found["ports"] == [{"name": "http", "protocol": "TCP", "port": 8080}]
    assert found["metadata"]["labels"]["kubernetes.io/service-name"] == "web"
    assert found["metadata"]["labels"]["team"] == "a"


def test_conditions_tell_ready_unready_and_leaving_pods_apart() -> None:
    leaving: dict[str, Any] = {"deletionTimestamp": "2026-01-01T00:00:00Z"}

    found = conditions(
        SERVICE,
        pod("a", "10.1.0.1"),
        pod("b", "10.1.0.2", ready=False),
        pod("c", "10.1.0.3", **leaving),
        pod("d", "10.1.0.4", ready=False, **leaving),
    )

    assert found == [
        (True, True, False),
        (False, False, False),
        (False, True, True),
        (False, False, True),
    ]


def test_a_service_that_publishes_early_calls_all_ready() -> None:
    early = {**SERVICE, "spec": {**SERVICE["spec"], "publishNotReadyAddresses": True}}

    assert conditions(early, pod("a", ready=False)) == [(True, True, False)]


def test_finished_pods_and_pods_without_an_address_are_left_out() -> None:
    done = pod("a")
    done["status"]["phase"] = "Succeeded"
    new = pod("b")
    new["status"]["podIPs"] = []

    assert conditions(SERVICE, done, new) == []


def test_pods_with_other_port_numbers_get_a_slice_of_their_own() -> None:
    found = slices(SERVICE, [pod("a", port=8080), pod("b", "10.1.0.2", port=9090)], "z")

    assert [item["ports"][0]["port"] for item in found] == [8080, 9090]
    assert len({item["metadata"]["name"] for item in found}) == 2


def test_a_dual_stack_service_has_a_slice_a_family() -> None:
    both = {**SERVICE, "spec": {**SERVICE["spec"], "ipFamilies": ["IPv4", "IPv6"]}}

    found = {item["addressType"]: item["endpoints"] for item in slices(both, [pod("a")], "z")}

    assert found["IPv4"][0]["addresses"] == ["10.1.0.1"]
    assert found["IPv6"][0]["addresses"] == ["fd00::1"]


def test_a_headless_service_names_its_hosts() -> None:
    headless = {**SERVICE, "spec": {**SERVICE["spec"], "clusterIP": "None"}}
    named = pod("a")
    named["spec"] |= {"hostname": "web-0", "subdomain": "web"}

    (found,) = slices(headless, [named], "z")

    assert found["endpoints"][0]["hostname"] == "web-0"
    assert found["metadata"]["labels"]["service.kubernetes.io/headless"] == ""


def test_the_names_of_slices_stay_when_endpoints_change() -> None:
    (first,) = slices(SERVICE, [pod("a")], "z")
    (second,) = slices(SERVICE, [pod("a"), pod("b", "10.1.0.2")], "z")

    assert first["metadata"]["name"] == second["metadata"]["name"]


def test_a_service_without_pods_still_has_its_slice() -> None:
    (found,) = slices(SERVICE, [], "z")

    assert found["endpoints"] == []
