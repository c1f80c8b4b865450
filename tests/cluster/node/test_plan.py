"""Names and addresses of a node, and what its parts are told, as data."""

from __future__ import annotations

import ipaddress
import json

import pytest

from tests.cluster.cache import BuildError
from tests.cluster.node.configs import CONFIG, node_commands, node_files
from tests.cluster.node.inside import SHOWN, mount_commands
from tests.cluster.node.plan import Plan, pick_plan

PLAN = Plan("node", "10.40.0.0/16", "10.41.0.0/16")


def test_ranges_that_the_machine_uses_are_left_alone() -> None:
    taken = ["10.40.7.0/24", "10.43.0.1", "192.168.0.0/16", "127.0.0.0/8"]

    plan = pick_plan("node", taken)

    assert (plan.pods, plan.services) == ("10.44.0.0/16", "10.45.0.0/16")


def test_a_machine_without_a_free_range_is_told_so() -> None:
    with pytest.raises(BuildError, match="no free pair"):
        pick_plan("node", ["10.0.0.0/8"])


def test_the_link_is_outside_of_what_pods_get() -> None:
    pods = ipaddress.IPv4Network(PLAN.pod_subnet)

    assert ipaddress.IPv4Address(PLAN.address) not in pods
    assert ipaddress.IPv4Address(PLAN.machine) in ipaddress.IPv4Network(f"{PLAN.address}/30", False)
    assert (PLAN.api, PLAN.dns) == ("10.41.0.1", "10.41.0.10")


def test_two_nodes_share_no_name_on_the_machine() -> None:
    other = Plan("other", PLAN.pods, PLAN.services)

    assert PLAN.link != other.link
    assert PLAN.cgroup != other.cgroup
    assert len(PLAN.link) <= 15


def test_every_file_that_a_command_names_is_there() -> None:
    files = node_files(PLAN)

    for name, command in node_commands(PLAN).items():
        for flag in command[1:]:
            value = flag.partition("=")[2]
            if value.endswith((".crt", ".key", ".pub", ".json", ".kubeconfig")):
                assert f"{CONFIG}/{value}" in files, f"{name}: {flag}"


def test_a_machine_without_cap_sys_resource_can_start_pods() -> None:
    config = node_files(PLAN)["/etc/containerd/config.toml"].decode()

    assert "restrict_oom_score_adj = true" in config


def test_the_node_stays_in_its_own_control_group() -> None:
    kubelet = json.loads(node_files(PLAN)[f"{CONFIG}/kubelet.json"])

    assert kubelet["cgroupRoot"] == f"/{PLAN.cgroup}"
    assert kubelet["cgroupDriver"] == "cgroupfs"


def test_settings_of_the_whole_machine_are_shown_and_never_written() -> None:
    commands = mount_commands("/r", "/f", "/lower", "/components")

    covered = [command[-1] for command in commands if "/proc/sys/" in command[-1]]
    assert covered == [f"/r/proc/sys/{key}" for key in SHOWN]
