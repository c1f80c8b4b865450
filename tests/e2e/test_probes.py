"""Probes keep their meaning in the mesh: who listens gets Ready, who does not never does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from mesh.core import labels
from tests.e2e.stage import Stage, eventually
from tests.e2e.workloads import Object, apply, namespace

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

_SILENT = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: exit()); time.sleep(1e6)"
_PROBES: dict[str, dict[str, Any]] = {
    "tcp": {"tcpSocket": {"port": "web"}},
    "http": {"httpGet": {"path": "/", "port": "web"}},
    "https": {"httpGet": {"path": "/", "port": "web", "scheme": "HTTPS"}},
    "grpc": {"grpc": {"port": 8000}},
    "exec": {"exec": {"command": ["python", "-c", "import sys; sys.exit(1)"]}},
}
_RESTARTING = ("startupProbe", "livenessProbe")


@pytest.fixture(scope="module")
def probes(stage: Stage) -> Iterator[str]:
    with namespace(stage, "probes") as name:
        yield name


@pytest.mark.parametrize("kind", ["tcp", "http"])
def test_an_application_that_listens_gets_ready_and_stays(
    stage: Stage, probes: str, kind: str
) -> None:
    name, probe = f"listening-{kind}", _PROBES[kind]
    command = ["python", "-m", "http.server", "8000"]
    every = dict.fromkeys(("startupProbe", "readinessProbe", "livenessProbe"), probe)
    apply(stage, _pod(name, _container(stage, "app", command, **every)))

    eventually(lambda: _readiness(stage, name).get("app"))
    began = time.monotonic()
    eventually(lambda: time.monotonic() - began > 5)  # of liveness, every second

    assert _readiness(stage, name)["app"]
    assert _readiness(stage, name)[labels.PROXY_CONTAINER]
    assert _restarts(stage, name)["app"] == 0


@pytest.fixture(scope="module")
def silent(stage: Stage, probes: str) -> None:
    """Applications that never listen, all started at the same time: a pod for each kind of
    readiness probe, and one with a container for each kind of the two others."""
    command = ["python", "-c", _SILENT]
    pods = [
        _pod(f"silent-{kind}", _container(stage, "app", command, readinessProbe=probe))
        for kind, probe in _PROBES.items()
    ]
    for field in _RESTARTING:
        containers = [
            _container(stage, kind, command, **{field: probe}) for kind, probe in _PROBES.items()
        ]
        for number, container in enumerate(containers):
            container["ports"] = [{"name": "web", "containerPort": 8000 + number}]
        pods.append(_pod(f"silent-{field.lower()}", *containers))
    apply(stage, *pods)


@pytest.mark.parametrize("kind", _PROBES)
def test_an_application_that_never_listens_is_never_ready(
    stage: Stage, silent: None, kind: str
) -> None:
    name = f"silent-{kind}"

    eventually(lambda: _failures(stage, name) >= 3)

    ready = _readiness(stage, name)
    assert ready[labels.PROXY_CONTAINER]
    assert not ready["app"]


@pytest.mark.parametrize("field", _RESTARTING)
def test_an_application_that_never_listens_is_started_again(
    stage: Stage, silent: None, field: str
) -> None:
    name = f"silent-{field.lower()}"

    eventually(lambda: all(_restarts(stage, name)[kind] for kind in _PROBES))

    ready = _readiness(stage, name)
    assert ready[labels.PROXY_CONTAINER]
    if field == "startupProbe":
        assert not any(ready[kind] for kind in _PROBES)


def _container(stage: Stage, name: str, command: list[str], **probes: dict[str, Any]) -> Object:
    """A container with a port named web; each probe asks every second, three failures count."""
    fields = {field: {**probe, "periodSeconds": 1} for field, probe in probes.items()}
    ports = [{"name": "web", "containerPort": 8000}]
    return {"name": name, "image": stage.image, "command": command, "ports": ports} | fields


def _pod(name: str, *containers: Object) -> Object:
    meta = {"name": name, "namespace": "probes"}
    spec = {"terminationGracePeriodSeconds": 1, "containers": containers}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def _restarts(stage: Stage, name: str) -> dict[str, int]:
    status = stage.get("pod", name, "-n", "probes")["status"]
    return {item["name"]: item["restartCount"] for item in status.get("containerStatuses", [])}


def _readiness(stage: Stage, name: str) -> dict[str, bool]:
    status = stage.get("pod", name, "-n", "probes")["status"]
    found = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    return {item["name"]: item["ready"] for item in found}


def _failures(stage: Stage, name: str) -> int:
    """How often the application's own readiness probe failed, as the kubelet tells."""
    events = stage.get("events", "-n", "probes")["items"]
    return sum(
        event.get("count") or 1
        for event in events
        if event["involvedObject"]["name"] == name
        and event["involvedObject"].get("fieldPath", "").endswith("{app}")
        and event["reason"] == "Unhealthy"
    )
