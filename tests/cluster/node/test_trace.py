"""A node comes and goes, and the machine is as before."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cache import BuildError
from tests.cluster.node import lifecycle, machine
from tests.cluster.node.inside import SHOWN

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]

NAME = f"trace-{os.getpid()}"


@pytest.fixture
def name() -> Iterator[str]:
    yield NAME
    lifecycle.down(NAME)
    lifecycle.lock_file(NAME).unlink()


def seen() -> dict[str, str]:
    """What a node could leave behind on the machine; others may work here meanwhile."""
    ours = {"ip -brief link": "lmn-", "ip route show table all": "lmn-"}
    rules = ("iptables-save", "iptables-legacy-save")
    found = {words: _lines(_said(words), mark) for words, mark in ours.items()}
    found |= {words: re.sub(r"\[\d+:\d+\]|#.*", "", _said(words)) for words in rules}
    found["mounts"] = _lines(Path("/proc/self/mounts").read_text(), "lightmesh")
    groups = Path("/sys/fs/cgroup").glob("*/lightmesh-*")
    found["groups"] = "\n".join(sorted(str(path) for path in groups))
    settings = [Path("/proc/sys", key) for key in (*SHOWN, "net/ipv4/ip_forward")]
    found["settings"] = " ".join(path.read_text() for path in settings if path.exists())
    return found


def _said(words: str) -> str:
    return subprocess.run(words.split(), capture_output=True, text=True).stdout


def _lines(text: str, mark: str) -> str:
    return "\n".join(line for line in text.splitlines() if mark in line)


def test_a_node_leaves_nothing_also_when_it_was_killed(name: str) -> None:
    before = seen()

    plan = lifecycle.up(name, print)
    assert lifecycle.find(name) == plan
    assert lifecycle.kubectl(plan, "get", "node", name)
    alive = machine.processes(plan)
    os.kill(int((plan.folder / "pid").read_text()), signal.SIGKILL)
    assert lifecycle.down(name)

    assert not any(Path(f"/proc/{pid}").exists() for pid in alive)
    assert not plan.folder.exists()
    assert seen() == before
    assert not lifecycle.down(name)


def test_an_up_that_fails_names_a_log_and_leaves_only_that(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = seen()
    monkeypatch.setattr(lifecycle, "READY_SECONDS", 0.0)
    monkeypatch.setattr(lifecycle, "_answers", lambda plan: False)

    with pytest.raises(BuildError, match=r"see \S+/log") as caught:
        lifecycle.up(name, print)

    log = Path(str(caught.value).rpartition("see ")[2].split()[0])
    assert (log / "kube-apiserver.log").exists()
    assert seen() == before
