"""Probes keep their meaning in the mesh: who listens gets Ready, who does not never does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from mesh.core import labels
from tests.e2e.stage import Stage, eventually

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

_SILENT = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: exit()); time.sleep(1e6)"
_PROBES: dict[str, dict[str, Any]] = {
    "tcp": {"tcpSocket": {"port": "web"}},
    "http": {"httpGet": {"path": "/", "port": "web"}},
    "https": {"httpGet": {"path": "/", "port": "web", "scheme": "HTTPS"}},
    "grpc": {"grpc": {"port": 8000}},
    "exec": {"exec": {"command": ["python", "-c", "import sys; sys.exit(1)"]}},
}


@pytest.fixture(scope="module")
def namespace(stage: Stage) -> Iterator[str]:
    annotations = {labels.A_INJECT: "enabled"}
    meta = {"name": "probes", "annotations": annotations}
    stage.apply(json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": meta}))
    yield "probes"
    stage.kubectl("delete", "namespace", "probes", "--wait=false")


def _pod(stage: Stage, name: str, command: list[str], probe: dict[str, Any]) -> None:
    container = {
        "name": "app",
        "image": stage.image,
        "command": command,
        "ports": [{"name": "web", "containerPort": 8000}],
        "readinessProbe": {**probe, "periodSeconds": 1},
    }
    meta = {"name": name, "namespace": "probes"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]}}
    stage.apply(json.dumps(pod))


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


@pytest.mark.parametrize("kind", _PROBES)
def test_an_application_that_never_listens_is_never_ready(
    stage: Stage, namespace: str, kind: str
) -> None:
    name = f"silent-{kind}"
    _pod(stage, name, ["python", "-c", _SILENT], _PROBES[kind])

    eventually(lambda: _failures(stage, name) >= 3)

    ready = _readiness(stage, name)
    assert ready[labels.PROXY_CONTAINER]
    assert not ready["app"]


@pytest.mark.parametrize("kind", ["tcp", "http"])
def test_an_application_that_listens_gets_ready(stage: Stage, namespace: str, kind: str) -> None:
    name = f"listening-{kind}"
    _pod(stage, name, ["python", "-m", "http.server", "8000"], _PROBES[kind])

    eventually(lambda: _readiness(stage, name).get("app"))

    assert _readiness(stage, name)[labels.PROXY_CONTAINER]
