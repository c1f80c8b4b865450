"""What the node leaves on the machine while it runs: a veth end, two routes, control groups.

Every function may be called when there is nothing to do.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from tests.cluster.cache import BuildError
from tests.cluster.node.plan import Plan

GONE_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.02

# Of the CPU. A whole node counts as much as one process of the machine, unless it says more: its
# pods would get next to nothing beside a few compilers.
_SHARES: Final = {"cpu.shares": "8192", "cpu.weight": "800"}


def taken_networks() -> list[str]:
    """Networks and addresses that the machine's routes and links hold, IPv4, as text."""
    found = [route["dst"] for route in _ip("route", "show", "table", "all")]
    links = _ip("address", "show")
    found += [info["local"] for link in links for info in link.get("addr_info", [])]
    return [text for text in found if text not in ("default", "0.0.0.0/0")]


def join_network(plan: Plan, pid: int) -> None:
    """Link the machine with the network namespace of `pid`, and route the node's ranges."""
    inside = ["nsenter", f"--net=/proc/{pid}/ns/net", "ip"]
    _run("ip", "link", "add", plan.link, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    _run("ip", "address", "add", f"{plan.machine}/30", "dev", plan.link)
    _run("ip", "link", "set", plan.link, "up")
    _run(*inside, "link", "set", "lo", "up")
    _run(*inside, "address", "add", f"{plan.address}/30", "dev", "eth0")
    _run(*inside, "link", "set", "eth0", "up")
    _run(*inside, "route", "add", "default", "via", plan.machine)
    for destination in (plan.pods, plan.services):
        _run("ip", "route", "add", destination, "via", plan.address)


def leave_network(plan: Plan) -> None:
    """Remove the link, which takes its routes along."""
    subprocess.run(["ip", "link", "delete", plan.link], capture_output=True, check=False)


def make_groups(plan: Plan) -> None:
    """A control group for the node in each hierarchy; cpusets start with what the parent has."""
    for hierarchy in _hierarchies():
        group = hierarchy / plan.cgroup
        group.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (group / name).exists() and not (group / name).read_text().strip():
                (group / name).write_text((hierarchy / name).read_text())
        for name, share in _SHARES.items():
            if (group / name).exists():
                (group / name).write_text(share)


def enter_groups(plan: Plan, pid: int) -> None:
    """Put a process, and so its later children, into a leaf of the node's groups."""
    for hierarchy in _hierarchies():
        leaf = hierarchy / plan.cgroup / "parts"
        leaf.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (leaf / name).exists() and not (leaf / name).read_text().strip():
                (leaf / name).write_text((leaf.parent / name).read_text())
        (leaf / "cgroup.procs").write_text(str(pid))


def processes(plan: Plan) -> set[int]:
    """Every process of the node, by its control groups."""
    found: set[int] = set()
    for hierarchy in _hierarchies():
        for folder, _, _ in os.walk(hierarchy / plan.cgroup):  # past those that go meanwhile
            with suppress(OSError):
                found |= {int(line) for line in Path(folder, "cgroup.procs").read_text().split()}
    return found - {0}


def end_processes(plan: Plan) -> bool:
    """Kill whatever runs in the node's groups, then remove them; whether there was anything.

    Raises BuildError when something does not end.
    """
    was = False
    deadline = time.monotonic() + GONE_SECONDS
    while left := processes(plan):
        was = True
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise BuildError(f"processes of the node do not end: {sorted(left)}")
        time.sleep(_POLL_SECONDS)
    for hierarchy in _hierarchies():
        _remove_group(hierarchy / plan.cgroup, deadline)
    return was


def _remove_group(group: Path, deadline: float) -> None:
    for folder, _, _ in os.walk(group, topdown=False):
        while True:
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                pass
            except OSError as error:  # the kernel is still taking processes out
                if time.monotonic() > deadline:
                    raise BuildError(f"{folder}: cannot be removed: {error}") from error
                time.sleep(_POLL_SECONDS)
                continue
            break


def _hierarchies() -> Iterator[Path]:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind in ("cgroup", "cgroup2") and place.startswith("/sys/fs/cgroup"):
            yield Path(place)


def _ip(*arguments: str) -> list[dict[str, Any]]:
    said = _run("ip", "-4", "-json", *arguments)
    found: list[dict[str, Any]] = json.loads(said or "[]")
    return found


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout
