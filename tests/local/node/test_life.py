"""The life of a cluster seen from the machine: up, down, killed, up again; what stays behind."""

from __future__ import annotations

import ipaddress
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.core.errors import ConfigError, MeshError
from mesh.local import cluster
from mesh.local.cluster import Cluster, Options
from mesh.local.demo import find_kubectl
from mesh.local.node import ranges, record
from tests.local.node.machine import Machine, eventually, fill, shell

pytestmark = pytest.mark.root


@pytest.fixture
def state(root: None, tmp_path: Path) -> Iterator[Path]:
    """A state folder whose cluster is gone after the test."""
    folder = tmp_path / "state"
    yield folder
    cluster.down(folder)


def machine_of(found: Cluster) -> Machine:
    kubectl = find_kubectl()
    if kubectl is None:
        pytest.skip("needs kubectl 1.28 or newer in PATH")
    return Machine(found, kubectl)


def dump(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith("#"))


def rules() -> list[str]:
    """The machine's own packet rules and the settings that a node must not touch."""
    settings = (
        "net/ipv4/ip_forward",
        "net/ipv6/conf/all/forwarding",
        "net/ipv4/conf/all/rp_filter",
    )
    return [
        dump("nft", "list", "ruleset"),
        dump("iptables-save"),
        dump("iptables-legacy-save"),
        dump("ip6tables-save"),
        *(Path("/proc/sys", name).read_text() for name in settings),
    ]


def traces(state: Path) -> list[str]:
    """What on this machine still belongs to the cluster."""
    left = [name for name in os.listdir("/sys/class/net") if name == cluster._link(state)]
    left += [line for line in Path("/proc/mounts").read_text().splitlines() if str(state) in line]
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                command = (path / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(state) in command or "sleep\x0054321" in command:
                left.append(command)
    routes = Path("/proc/net/route").read_text() + Path("/proc/net/ipv6_route").read_text()
    return left + [line for line in routes.splitlines() if cluster._link(state) in line]


SLEEPER = {"containers": [shell("sleep 54321 & wait")]}


def sleeping(machine: Machine) -> None:
    machine.start("sleeper", SLEEPER)
    eventually(lambda: machine.phase("sleeper") == "Running")


@pytest.mark.parametrize("how", ["down", "kill -9 of PID 1", "kill -9 of the daemon"])
def test_whatever_ends_it_nothing_stays_behind(state: Path, how: str) -> None:
    before = rules()
    found = cluster.up(state)
    sleeping(machine_of(found))
    assert rules() == before

    if how == "down":
        assert cluster.down(state)
    elif how == "kill -9 of PID 1":
        os.kill(found.pid, signal.SIGKILL)
    else:
        (child,) = Path(f"/proc/{found.pid}/task/{found.pid}/children").read_text().split()[:1]
        os.kill(int(child), signal.SIGKILL)

    eventually(lambda: not traces(state) and cluster.status(state) is None)
    assert not cluster.down(state)
    assert rules() == before


def test_a_connection_that_waits_for_the_dead_keeps_no_link(state: Path) -> None:
    """An open socket in the node's network keeps it, and so its link, alive."""
    found = cluster.up(state)
    link = Path("/sys/class/net", cluster._link(state))
    command = ["nsenter", f"--net=/proc/{found.pid}/ns/net", "sleep", "1000"]
    with subprocess.Popen(command) as holder:
        try:
            eventually(lambda: _network(holder.pid) == _network(found.pid))
            os.kill(found.pid, signal.SIGKILL)
            eventually(lambda: record.living_pid(state) is None)
            assert link.exists()

            cluster.down(state)

            assert not link.exists()
            assert traces(state) == []
        finally:
            holder.kill()


def _network(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/net")


def test_after_a_kill_the_next_up_goes_on_where_the_last_was(state: Path) -> None:
    first = cluster.up(state)
    machine = machine_of(first)
    sleeping(machine)
    os.kill(first.pid, signal.SIGKILL)

    again = cluster.up(state)

    assert again.ranges == first.ranges
    eventually(lambda: machine.phase("sleeper") == "Running")
    status = machine.get("pod", "sleeper")["status"]["containerStatuses"][0]
    eventually(lambda: machine.get("pod", "sleeper")["status"]["containerStatuses"][0]["ready"])
    assert status["restartCount"] <= 1


def test_a_second_up_finds_the_first(state: Path) -> None:
    first = cluster.up(state)

    assert cluster.up(state) == first
    assert cluster.status(state) == first
    assert cluster.kubeconfig(state).stat().st_mode & 0o777 == 0o600


def test_two_ups_at_once_make_one_cluster(state: Path) -> None:
    code = "import sys; from pathlib import Path; from mesh.local import cluster\n"
    code += "print(cluster.up(Path(sys.argv[1])).pid)"
    command = [sys.executable, "-c", code, str(state)]
    starting = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]

    pids = {process.communicate(timeout=50)[0] for process in starting}

    assert len(pids) == 1
    assert [process.returncode for process in starting] == [0, 0, 0]


def test_an_up_that_is_killed_leaves_a_cluster_that_is_found(state: Path) -> None:
    code = "import sys; from pathlib import Path; from mesh.local import cluster\n"
    code += "cluster.up(Path(sys.argv[1]))"
    with subprocess.Popen([sys.executable, "-c", code, str(state)]) as starting:
        eventually(lambda: record.living_pid(state))
        starting.kill()

    found = cluster.up(state)

    assert found.pid == record.living_pid(state)
    assert cluster.status(state) == found


def test_clusters_live_side_by_side_in_ranges_of_their_own(state: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    first = cluster.up(state)
    try:
        second = cluster.up(other, Options(ipv6=False))
        assert {first.ranges.pods, first.ranges.services}.isdisjoint(
            {second.ranges.pods, second.ranges.services}
        )
        assert second.ranges.pods6 == ""
        machine = machine_of(second)
        sleeping(machine)
        assert len(machine.get("pod", "sleeper")["status"]["podIPs"]) == 1
    finally:
        cluster.down(other)


def test_a_cluster_whose_ranges_were_taken_moves(state: Path, tmp_path: Path) -> None:
    first = cluster.up(state)
    machine = machine_of(first)
    machine.kubectl("create", "service", "clusterip", "web", "--tcp=80")
    cluster.down(state)
    other = tmp_path / "other"
    wanted = Options(pod_cidr=first.ranges.pods, service_cidr=first.ranges.services)
    cluster.up(other, wanted)
    try:
        second = cluster.up(state)

        assert {second.ranges.pods, second.ranges.services}.isdisjoint(
            {first.ranges.pods, first.ranges.services}
        )
        services = machine.get("services")["items"]
        networks = ipaddress.ip_network(second.ranges.services)
        assert len(services) == 2
        for service in services:
            assert ipaddress.ip_address(service["spec"]["clusterIP"]) in networks
    finally:
        cluster.down(other)


def test_a_range_that_is_taken_is_refused_before_anything_starts(state: Path) -> None:
    busy = next(str(network) for network in ranges.taken_on_machine() if network.version == 4)

    with pytest.raises(ConfigError, match="--pod-cidr"):
        cluster.up(state, Options(pod_cidr="0.0.0.0/0" if busy.endswith("/32") else "192.0.0.0/8"))

    assert cluster.status(state) is None


def test_a_damaged_journal_is_named_and_nothing_is_left(state: Path) -> None:
    cluster.up(state)
    cluster.down(state)
    journal = state / "journal"
    journal.write_bytes(b"nonsense\n" + journal.read_bytes())

    with pytest.raises(MeshError, match="journal"):
        cluster.up(state)

    assert cluster.status(state) is None
    assert not cluster.down(state)


def test_a_state_that_cannot_be_written_is_named(root: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(MeshError, match="--state"):
        cluster.up(tmp_path / "file" / "state")


def test_a_full_disk_under_the_state_leaves_pods_running(state: Path) -> None:
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(state)], check=True)
    try:
        found = cluster.up(state)
        machine = machine_of(found)
        chatty = "while :; do echo $$ aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; sleep 0.01; done"
        machine.start("chatty", {"containers": [shell(chatty)]})
        eventually(lambda: machine.phase("chatty") == "Running")

        fill(state / "filler")

        names = (f"more-{number}" for number in range(1000))
        eventually(
            lambda: "the disk is full" in machine.kubectl("create", "ns", next(names), check=False)
        )
        assert machine.phase("chatty") == "Running"
        (state / "filler").unlink()
        assert "created" in machine.kubectl("create", "ns", "again")
        cluster.down(state)
    finally:
        cluster.down(state)
        subprocess.run(["umount", "-l", str(state)], check=True)


def test_without_root_one_line_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(MeshError, match="needs root"):
        cluster.up(tmp_path)
