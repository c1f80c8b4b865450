"""Services and EndpointSlices to one nft table."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from mesh.local.node.ranges import Ranges
from mesh.local.node.services import Port, script, service_ports

RANGES = Ranges("10.244.0.0/16", "10.96.0.0/16", "fd00:1::/64", "fd00:2::/112")


def service(**spec: Any) -> dict[str, Any]:
    made = {
        "clusterIP": "10.96.0.7",
        "ports": [{"name": "http", "port": 80, "targetPort": "web"}],
        **spec,
    }
    return {"metadata": {"name": "web", "namespace": "shop"}, "spec": made}


def endpoint(address: str, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "conditions": conditions}


def slice_(*endpoints: dict[str, Any], family: str = "IPv4") -> dict[str, Any]:
    return {
        "metadata": {
            "name": "web-1",
            "namespace": "shop",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": family,
        "endpoints": list(endpoints),
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


def test_a_port_leads_to_ready_endpoints_at_their_port() -> None:
    ready, unready = endpoint("10.244.1.1", ready=True), endpoint("10.244.1.2", ready=False)

    assert service_ports([service()], [slice_(ready, unready)]) == [
        Port("10.96.0.7", "tcp", 80, (("10.244.1.1", 8080),))
    ]


def test_terminating_endpoints_serve_while_nobody_else_does() -> None:
    last = endpoint("10.244.1.3", ready=False, serving=True, terminating=True)

    (alone,) = service_ports([service()], [slice_(last)])
    (beside,) = service_ports([service()], [slice_(last, endpoint("10.244.1.1", ready=True))])

    assert alone.targets == (("10.244.1.3", 8080),)
    assert beside.targets == (("10.244.1.1", 8080),)


def test_each_family_has_its_own_endpoints() -> None:
    both = service(clusterIPs=["10.96.0.7", "fd00:2::7"])
    slices = [
        slice_(endpoint("10.244.1.1", ready=True)),
        slice_(endpoint("fd00:1::5", ready=True), family="IPv6"),
    ]

    found = {port.address: port.targets for port in service_ports([both], slices)}

    assert found == {"10.96.0.7": (("10.244.1.1", 8080),), "fd00:2::7": (("fd00:1::5", 8080),)}


@pytest.mark.parametrize("spec", [{"clusterIP": "None"}, {"type": "ExternalName"}])
def test_services_without_an_address_have_no_rules(spec: dict[str, Any]) -> None:
    assert service_ports([service(**spec)], []) == []


def test_the_script_has_a_chain_for_each_served_port_only() -> None:
    text = script(
        [
            Port("10.96.0.7", "tcp", 80, (("10.244.1.1", 8080), ("10.244.1.2", 8080))),
            Port("10.96.0.8", "tcp", 80, ()),
        ],
        RANGES,
    )

    assert "meta l4proto tcp dnat ip to numgen random mod 2" in text
    assert "10.96.0.7 . tcp . 80 : goto s0" in text
    assert "10.96.0.8" not in text
    assert "ip daddr 10.96.0.0/16 meta l4proto tcp reject with tcp reset" in text


def test_a_table_without_ipv6_has_no_ipv6_range() -> None:
    assert "fd00" not in script([], Ranges("10.244.0.0/16", "10.96.0.0/16"))


@pytest.mark.root
@pytest.mark.parametrize("ranges", [RANGES, Ranges("10.244.0.0/16", "10.96.0.0/16")])
def test_nft_takes_the_script_again_and_again(root: None, ranges: Ranges) -> None:
    ports = [
        Port("10.96.0.7", "tcp", 80, (("10.244.1.1", 8080), ("10.244.1.2", 8080)), 30080),
        Port("10.96.0.9", "udp", 53, (("10.244.1.1", 53),), sticky=60),
    ]
    if ranges.pods6:
        ports.append(Port("fd00:2::7", "tcp", 80, (("fd00:1::5", 8080),)))
    text = script(ports, ranges, node=("10.244.0.1",))

    done = subprocess.run(
        ["unshare", "-n", "nft", "-f", "-"], input=text * 2, text=True, capture_output=True
    )

    assert done.stderr == ""
