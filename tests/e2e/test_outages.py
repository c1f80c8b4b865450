"""Parts of the control plane away: what is there goes on, what is new says what it waits for.

MESH_E2E_OUTAGE: seconds without any control plane under load.
"""

from __future__ import annotations

import datetime
import functools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mesh.core import labels
from tests.e2e.load import failed_since, loaded_with, sent_to, told, wait_for_requests
from tests.e2e.stage import Stage, eventually
from tests.e2e.workloads import SERVE, apply, container, pod, settle, wait_ready

OUTAGE = float(os.environ.get("MESH_E2E_OUTAGE", "20"))
WAITING = "not ready: waiting for a certificate"
PARTS = (labels.IDENTITY, labels.DESTINATION, labels.INJECT)
CONTROL = labels.MESH_NAMESPACE

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(700 + int(OUTAGE))]


@pytest.fixture
def loaded(stage: Stage) -> Iterator[Stage]:
    """200 requests a second to the two replicas of the catalogue's first version."""
    with loaded_with(stage, 200):
        eventually(lambda: _is_even(stage))
        yield stage


def _is_even(stage: Stage) -> bool:
    """Whether requests reach both replicas."""
    pods = stage.pods("app=catalogue,version=v1")
    return all(sent_to(stage, f"{pod['status']['podIP']}:8080") for pod in pods)


@contextmanager
def away(stage: Stage, *parts: str) -> Iterator[None]:
    """These parts of the control plane have no pod."""
    _scale(stage, parts, 0)
    try:
        eventually(lambda: not any(_pods_of(stage, part) for part in parts))
        yield
    finally:
        _scale(stage, parts, 1)
        for part in parts:
            stage.kubectl("rollout", "status", f"deployment/{part}", "-n", CONTROL)
        stage.mesh("check", "--wait", "60s")


def _scale(stage: Stage, parts: tuple[str, ...], replicas: int) -> None:
    stage.kubectl("scale", "deployment", *parts, "-n", CONTROL, f"--replicas={replicas}")


def _pods_of(stage: Stage, part: str) -> list[Any]:
    return stage.pods(f"{labels.L_COMPONENT}={part.removeprefix('mesh-')}", CONTROL)


def test_pods_made_without_a_webhook_start_at_once_and_are_found(stage: Stage, space: str) -> None:
    with away(stage, labels.INJECT):
        began = time.monotonic()
        apply(stage, pod("bare", "default", container(stage, SERVE)))
        apply(stage, pod("missed", space, container(stage, SERVE)))
        assert time.monotonic() - began < 5.0
        wait_ready(stage, space, "pod/missed")
        assert "Deployment mesh/mesh-inject: is scaled to 0" in stage.mesh("check", check=False)
        stage.kubectl("delete", "pod", "bare", "-n", "default", "--now", "--wait=false")
    back = time.monotonic()

    chosen = "reason=InjectionMissed,involvedObject.name=missed"
    events = ("get", "events", "-n", space, "--field-selector", chosen, "-o", "name")
    assert eventually(lambda: stage.kubectl(*events), within=30.0)

    assert time.monotonic() - back < 30.0
    (inject,) = _pods_of(stage, labels.INJECT)
    address = inject["status"]["podIP"], labels.CONTROL_ADMIN_PORT
    assert "mesh_inject_missed_pods 1.0" in stage.ask(address, "/metrics")[2].decode()
    said = stage.mesh("check", "--proxy", "-n", space)
    assert f"pod {space}/missed: a pod asks for a proxy and has none" in said


def test_a_new_pod_says_what_it_waits_for(stage: Stage, space: str) -> None:
    with away(stage, labels.IDENTITY, labels.DESTINATION):
        apply(stage, pod("new", space, container(stage, SERVE)))
        address = eventually(lambda: stage.get("pod", "new", "-n", space)["status"]["podIP"])
        logs = ("logs", "new", "-n", space, "-c", labels.PROXY_CONTAINER)
        said = eventually(lambda: stage.ask((address, labels.ADMIN_PORT), "/ready")[2].decode())
        lines = eventually(lambda: _until(WAITING, stage.kubectl(*logs).splitlines()))
        check = stage.mesh("check", "--proxy", "-n", space, check=False)

    assert said.startswith("waiting for a certificate from mesh-identity.mesh.svc")
    assert (_time_of(lines[-1]) - _time_of(lines[0])).total_seconds() <= 1.0
    assert "kubectl -n mesh scale deploy mesh-identity --replicas=1" in check
    wait_ready(stage, space, "pod/new")


def _until(words: str, lines: list[str]) -> list[str]:
    """The lines up to the first with these words; none where there is no such line."""
    ends = next((n for n, line in enumerate(lines, 1) if words in line), 0)
    return lines[:ends]


def _time_of(line: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(line.split()[0])


def test_nobody_notices_that_there_is_no_control_plane(loaded: Stage) -> None:
    """Meanwhile the application's containers are restarted three times, one pod after the other."""
    # the kubelet waits for minutes before it restarts what ended often: begin with new pods
    loaded.kubectl("rollout", "restart", "deployment/catalogue-v1", "-n", "shop")
    settle(loaded)
    began, before = time.time(), loaded.load("/stats")
    with away(loaded, *PARTS):
        names = [item["metadata"]["name"] for item in loaded.pods("app=catalogue,version=v1")]
        since, restarts = time.monotonic(), 3 * names
        for number, name in enumerate(restarts, 1):
            _restart_application(loaded, name)
            part = since + OUTAGE * number / len(restarts)
            eventually(functools.partial(_is_after, part), within=OUTAGE + 1.0)
    after = loaded.load("/stats")

    assert told(failed_since(loaded, began)) == []
    assert after["failed"] == before["failed"]


def _is_after(moment: float) -> bool:
    return time.monotonic() > moment


def _restart_application(stage: Stage, name: str) -> None:
    def state() -> Any:
        found = stage.get("pod", name, "-n", "shop")["status"]["containerStatuses"]
        (app,) = (item for item in found if item["name"] == "catalogue")
        return app

    before = state()["restartCount"]
    end = ("python", "-c", "import os; os.kill(1, 15)")
    stage.kubectl("exec", name, "-n", "shop", "-c", "catalogue", "--", *end)
    eventually(
        lambda: (app := state())["restartCount"] > before and app["ready"],
        within=120.0,  # the kubelet waits longer after each restart
    )


def test_an_endpoint_that_is_gone_gets_no_request_three_seconds_later(loaded: Stage) -> None:
    gone, _ = loaded.pods("app=catalogue,version=v1")
    address = f"{gone['status']['podIP']}:8080"
    force = ("--grace-period=0", "--force")
    loaded.kubectl("delete", "pod", gone["metadata"]["name"], "-n", "shop", *force)

    since = time.monotonic()
    eventually(lambda: time.monotonic() > since + 3.0)
    count = sent_to(loaded, address)
    wait_for_requests(loaded, 600)
    assert sent_to(loaded, address) == count
    eventually(lambda: len(loaded.pods("app=catalogue,version=v1")) == 2)
