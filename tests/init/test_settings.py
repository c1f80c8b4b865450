"""Environment -> settings of init, with every fault at once."""

from __future__ import annotations

import pytest

from init.settings import parse_subnets, read_settings
from mesh.core.errors import ConfigError


def test_an_empty_environment_gives_the_ports_of_the_mesh() -> None:
    settings = read_settings({})

    assert (settings.inbound_port, settings.outbound_port, settings.admin_port) == (
        4143,
        4140,
        4191,
    )
    assert (settings.proxy_uid, settings.mode) == (2102, "auto")


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        read_settings(
            {
                "MESH_INIT_PROXY_UID": "0",
                "MESH_INIT_MODE": "plain",
                "MESH_INIT_SKIP_INBOUND_PORTS": "80,90000",
                "MESH_INIT_SKIP_SUBNETS": "10.0.0.1/8",
            }
        )

    assert [problem.split(":")[0] for problem in raised.value.problems] == [
        "MESH_INIT_PROXY_UID",
        "MESH_INIT_SKIP_INBOUND_PORTS",
        "MESH_INIT_SKIP_SUBNETS",
        "MESH_INIT_MODE",
    ]
    assert 'got "plain"' in raised.value.problems[3]


def test_two_listeners_on_one_port_are_refused() -> None:
    with pytest.raises(ConfigError, match="three different ports"):
        read_settings({"MESH_INIT_INBOUND_PORT": "4140"})


def test_subnets_of_both_families_are_sorted_and_said_once() -> None:
    subnets = parse_subnets("fd00::/8, 10.0.0.0/8,10.0.0.0/8,192.168.1.7")

    assert [str(subnet) for subnet in subnets] == ["10.0.0.0/8", "192.168.1.7/32", "fd00::/8"]
