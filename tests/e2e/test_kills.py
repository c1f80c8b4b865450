"""SIGKILL of one process of the mesh under load.

Of the control plane: nobody notices. Of a proxy: its own pod's connections are refused until it
is back, soon, and never hang; other pods lose only the requests that it had in hand.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mesh.core import labels
from tests.e2e.load import failed_since, loaded_with, told, wait_for_requests
from tests.e2e.processes import process_of
from tests.e2e.stage import Stage

RATE = 200
BACK = 1.5  # seconds on a machine where a Python starts in QUICK
QUICK = 0.15  # seconds
IN_HAND = 20  # requests that one proxy may have in hand at this rate: a tenth of a second
PARTS = (labels.IDENTITY, labels.DESTINATION, labels.INJECT)

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture
def loaded(stage: Stage) -> Iterator[Stage]:
    """200 requests a second to the two replicas of the catalogue's first version."""
    with loaded_with(stage, RATE):
        wait_for_requests(stage, RATE)
        yield stage


def _kill(pod: Any, module: str) -> float:
    """SIGKILL the process of a pod that runs `python -m module`; when (unix seconds)."""
    os.kill(process_of(pod, module), signal.SIGKILL)
    return time.time()


def _slowness() -> float:
    """How many times slower than it could be this machine starts a Python now; at least 1."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import asyncio, ssl, uvloop"], check=True)
    return max(1.0, (time.monotonic() - began) / QUICK)


@pytest.mark.parametrize("part", PARTS)
def test_nobody_notices_that_a_part_of_the_control_plane_was_killed(
    loaded: Stage, part: str
) -> None:
    (pod,) = loaded.pods(f"{labels.L_COMPONENT}={part.removeprefix('mesh-')}", "mesh")
    module = "mesh.inject" if part == labels.INJECT else part.removeprefix("mesh-")

    began = _kill(pod, module)
    wait_for_requests(loaded, 5 * RATE)

    assert told(failed_since(loaded, began)) == []
    loaded.mesh("check", "--wait", "60s")


def test_a_killed_proxy_of_a_server_loses_only_what_it_had_in_hand(loaded: Stage) -> None:
    pod = loaded.pods("app=catalogue,version=v1")[0]

    began = _kill(pod, "proxy")
    wait_for_requests(loaded, 5 * RATE)

    failed = failed_since(loaded, began - 0.5)
    assert len(failed) <= IN_HAND
    assert all(row[0] - began < 0.5 * _slowness() for row in failed)


def test_a_killed_proxy_is_back_soon_and_its_pod_waits_for_nobody(loaded: Stage) -> None:
    (pod,) = loaded.pods("app=load")

    began = _kill(pod, "proxy")
    slowness = _slowness()
    wait_for_requests(loaded, 5 * RATE)

    failed = failed_since(loaded, began - 0.5)
    print("refused for", round(max(row[0] for row in failed) - began, 2), "s at", slowness)
    assert max(row[0] for row in failed) - began <= BACK * slowness
    assert {row[2] for row in failed} <= {0, 502, 503}  # refused or cut, never timed out
