"""Ranges that nobody on the machine uses, and addresses that come again late."""

from __future__ import annotations

import ipaddress

import pytest

from mesh.core.errors import ConfigError
from mesh.local.node.ranges import Addresses, parse_routes4, parse_routes6, pick

ROUTES4 = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
cni0\t0000F40A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
"""
ROUTES6 = (
    "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 "
    "00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n"
    "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
    "fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n"
    "fe800000000000000000000000000000 40 00000000000000000000000000000000 00 "
    "00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n"
)


def test_routes_are_read_without_default_and_link_local_ones() -> None:
    assert [str(found) for found in parse_routes4(ROUTES4)] == ["192.0.2.0/24", "10.244.0.0/16"]
    assert [str(found) for found in parse_routes6(ROUTES6)] == ["fd00::/64"]


def test_a_taken_range_is_passed_over() -> None:
    found = pick(parse_routes4(ROUTES4), ipv6=True)

    assert (found.pods, found.services) == ("10.245.0.0/16", "10.96.0.0/16")
    assert found.pods6.startswith("fd6d:6573:")


def test_a_machine_that_routes_all_of_ten_gets_another_block() -> None:
    found = pick([ipaddress.ip_network("10.0.0.0/8")], ipv6=False)

    assert found.pods.startswith("172.")
    assert found.services.startswith("172.")
    assert found.pods != found.services
    assert found.pods6 == ""


def test_a_given_range_that_is_taken_is_refused_with_its_flag() -> None:
    with pytest.raises(ConfigError, match=r"--pod-cidr: 10\.244\.0\.0/16 overlaps"):
        pick(parse_routes4(ROUTES4), ipv6=False, pods="10.244.0.0/16")


@pytest.mark.parametrize("text", ["10.1.0.0", "nonsense", "10.1.0.0/24", "fd00::/64"])
def test_a_given_range_must_be_a_large_ipv4_range(text: str) -> None:
    with pytest.raises(ConfigError, match="--service-cidr: expected"):
        pick([], ipv6=False, services=text)


def test_where_nothing_is_free_the_error_names_the_flag() -> None:
    with pytest.raises(ConfigError, match="--pod-cidr CIDR"):
        pick([ipaddress.ip_network("0.0.0.0/0")], ipv6=False)


def test_a_released_address_comes_again_last() -> None:
    addresses = Addresses("10.1.0.0/16", first=1, last=3)
    first = addresses.take()
    addresses.release(first)

    assert [addresses.take() for _ in range(3)] == ["10.1.0.2", "10.1.0.3", first]
    with pytest.raises(ConfigError, match="used up"):
        addresses.take()


def test_an_address_can_be_reserved_once_and_only_inside() -> None:
    addresses = Addresses("fd00:1::/64", first=257)

    assert addresses.reserve("fd00:1::200")
    assert not addresses.reserve("fd00:1::200")
    assert not addresses.reserve("fd00:2::1")
    assert addresses.take() == "fd00:1::101"
