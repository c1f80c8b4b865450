"""The redirect as connections see it, for each backend and each set of address families."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from init.plan import Family
from mesh.core.labels import ADMIN_PORT, PROXY_UID
from tests.init.netns import LOOPBACK, PEER, POD, Pod, make_pod, needs_root, where_it_lands

pytestmark = needs_root

SETS = {"v4": (Family.V4,), "v6": (Family.V6,), "dual": (Family.V4, Family.V6)}
SKIP_OUT, SKIP_IN = 3306, 8081


@pytest.fixture(scope="module", params=[f"{b}-{s}" for b in ("nft", "legacy") for s in SETS])
def pod(request: pytest.FixtureRequest) -> Iterator[Pod]:
    backend, families = request.param.split("-")
    with make_pod(SETS[families]) as made:
        done = made.init(
            mode=backend,
            skip_outbound_ports=f"{SKIP_OUT},5000-5002",
            skip_inbound_ports=f"{SKIP_IN},9000-9002",
        )
        assert done.returncode == 0, done.stderr
        for family in made.families:
            assert f"{family.label}:proven" in done.stderr
        yield made


def test_outbound_reaches_the_proxy_with_its_original_destination(pod: Pod) -> None:
    for family in pod.families:
        landed = where_it_lands(pod, family, sender=pod.namespace, address=PEER[family], port=8080)

        assert landed == ("proxy-out", (PEER[family], 8080))


def test_inbound_reaches_the_proxy_with_its_original_destination(pod: Pod) -> None:
    for family in pod.families:
        landed = where_it_lands(pod, family, sender=pod.peer, address=POD[family], port=8080)

        assert landed == ("proxy-in", (POD[family], 8080))


def test_the_proxy_s_own_connections_pass(pod: Pod) -> None:
    for family in pod.families:
        landed = where_it_lands(
            pod, family, sender=pod.namespace, address=PEER[family], port=8080, uid=PROXY_UID
        )

        assert landed == ("peer", None)


def test_loopback_and_the_pod_s_own_address_pass(pod: Pod) -> None:
    for family in pod.families:
        for address in (LOOPBACK[family], POD[family]):
            landed = where_it_lands(pod, family, sender=pod.namespace, address=address, port=8080)

            assert landed == ("pod", None)


@pytest.mark.parametrize("port", [53, SKIP_OUT, 5001])
def test_dns_and_skipped_ports_pass_on_the_way_out(pod: Pod, port: int) -> None:
    for family in pod.families:
        landed = where_it_lands(pod, family, sender=pod.namespace, address=PEER[family], port=port)

        assert landed == ("peer", None)


@pytest.mark.parametrize("port", [ADMIN_PORT, SKIP_IN, 9002])
def test_the_admin_port_and_skipped_ports_pass_on_the_way_in(pod: Pod, port: int) -> None:
    for family in pod.families:
        landed = where_it_lands(pod, family, sender=pod.peer, address=POD[family], port=port)

        assert landed == ("pod", None)


@pytest.mark.parametrize("port", [53, 8080])
def test_udp_passes_both_ways(pod: Pod, port: int) -> None:
    for family in pod.families:
        ends = [
            (namespace, own[family], namespace.open_socket(family, socket.SOCK_DGRAM))
            for namespace, own in ((pod.namespace, POD), (pod.peer, PEER))
        ]
        for _, address, end in ends:
            end.bind((address, port))

        for (_, _, near), (_, far_address, far) in (ends, ends[::-1]):
            near.sendto(b"ping", (far_address, port))
            assert far.recv(16) == b"ping"
        for _, _, end in ends:
            end.close()
