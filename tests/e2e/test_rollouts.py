"""Rollouts under load lose nothing. MESH_E2E_ROLLOUTS: how many (`make test-rollouts`: 50)."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mesh.core import labels
from tests.e2e.load import failed_since, loaded_with, told
from tests.e2e.stage import Stage, eventually
from tests.e2e.workloads import apply, container, namespace, service, settle, workload

ROLLOUTS = int(os.environ.get("MESH_E2E_ROLLOUTS", "3"))
RATE = 200

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(300 + 30 * ROLLOUTS)]


@pytest.fixture
def loaded(stage: Stage) -> Iterator[Stage]:
    """200 requests a second to the two replicas of the catalogue's first version."""
    with loaded_with(stage, RATE):
        yield stage


def test_rolling_restarts_lose_no_request_and_no_call(loaded: Stage, grpc: str) -> None:
    """HTTP/1.1, and gRPC on one connection of its client's, at the same time."""
    began, sent = time.time(), loaded.load("/stats")["sent"]
    calls = _counts(loaded, grpc)

    failed = [row for _ in range(ROLLOUTS) for row in _failed_in_a_restart(loaded, grpc)]

    assert told(failed) == []
    after, seconds = _counts(loaded, grpc), time.time() - began
    assert after["failed"] == calls["failed"]
    # it was the load that it says
    assert loaded.load("/stats")["sent"] - sent >= 0.8 * RATE * seconds
    assert after["sent"] - calls["sent"] >= 0.8 * RATE * seconds


def _failed_in_a_restart(stage: Stage, grpc: str) -> list[object]:
    since = time.time()
    for deployment, space in (("catalogue-v1", "shop"), ("grpc", grpc)):
        stage.kubectl("rollout", "restart", f"deployment/{deployment}", "-n", space)
    settle(stage)
    settle(stage, "grpc", grpc, "app=grpc")
    return failed_since(stage, since)


def test_rolling_restarts_with_ordinary_sidecars_lose_no_request(loaded: Stage) -> None:
    """As on a cluster before 1.29: TERM comes to application and proxy at the same time.

    From native sidecars to ordinary ones, once between those, and back again.
    """
    since = time.time()
    _choose_sidecars(loaded, "false")
    try:
        pods = loaded.pods("app=catalogue,version=v1")
        loaded.kubectl("rollout", "restart", "deployment/catalogue-v1", "-n", "shop")
        settle(loaded)
    finally:
        _choose_sidecars(loaded, None)

    assert all(labels.PROXY_CONTAINER in _applications(pod) for pod in pods)
    assert told(failed_since(loaded, since)) == []


def _choose_sidecars(stage: Stage, native: str | None) -> None:
    annotations = {"mesh/native-sidecar": native}
    patch = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
    chosen = ("deployment", "catalogue-v1", "-n", "shop")
    stage.kubectl("patch", *chosen, "--type=merge", "-p", json.dumps(patch))
    settle(stage)


def _applications(pod: Any) -> list[str]:
    return [item["name"] for item in pod["spec"]["containers"]]


@pytest.mark.node  # mesh local has no evictions
def test_evictions_within_a_budget_lose_no_request(loaded: Stage) -> None:
    since, names = time.time(), [p["metadata"]["name"] for p in _servers(loaded)]
    marks = {"app": "catalogue", "version": "v1"}
    spec = {"minAvailable": 1, "selector": {"matchLabels": marks}}
    meta = {"name": "catalogue", "namespace": "shop"}
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta}
    apply(loaded, budget | {"spec": spec})
    try:
        eventually(
            lambda: loaded.get("pdb", "catalogue", "-n", "shop")["status"]["currentHealthy"] == 2
        )
        for name in names:
            eventually(functools.partial(_evict, loaded, name))
            eventually(lambda: _ready(_servers(loaded)) == 2)
    finally:
        loaded.kubectl("delete", "pdb", "catalogue", "-n", "shop")

    assert not {p["metadata"]["name"] for p in _servers(loaded)} & set(names)
    assert told(failed_since(loaded, since)) == []


def _servers(stage: Stage) -> list[Any]:
    found = stage.pods("app=catalogue,version=v1")
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def _ready(pods: list[Any]) -> int:
    conditions = [c for pod in pods for c in pod["status"].get("conditions") or ()]
    return sum(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _evict(stage: Stage, name: str) -> bool:
    """Whether the budget had room for it."""
    meta = {"name": name, "namespace": "shop"}
    asked = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}
    path = f"/api/v1/namespaces/shop/pods/{name}/eviction"
    text = json.dumps(asked)
    return "Success" in stage.kubectl("create", "--raw", path, "-f", "-", text=text, check=False)


GRPC = Path(__file__).with_name("grpc_app.py")


@pytest.fixture
def grpc(stage: Stage) -> Iterator[str]:
    """Two replicas of a gRPC server and a client with one connection; gives its namespace."""
    space = "grpc-rollouts"
    code = {"name": "code", "configMap": {"name": "code"}}
    mount = {"volumeMounts": [{"name": "code", "mountPath": "/app"}]}
    ready = {"readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1}}
    run = ["python", "/app/grpc_app.py"]
    with namespace(stage, space):
        apply(
            stage,
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "code", "namespace": space},
                "data": {GRPC.name: GRPC.read_text()},
            },
            service("grpc", space, ports=[{"name": "grpc", "port": 8080}]),
            workload(
                "Deployment",
                "grpc",
                space,
                container(stage, [*run, "serve"], **mount, **ready),
                replicas=2,
                pod={"volumes": [code]},
            ),
        )
        stage.kubectl("rollout", "status", "deployment/grpc", "-n", space, "--timeout=120s")
        load = container(stage, [*run, "load", "grpc", str(RATE)], **mount)
        apply(stage, workload("Deployment", "load", space, load, pod={"volumes": [code]}))
        stage.kubectl("rollout", "status", "deployment/load", "-n", space, "--timeout=120s")
        eventually(lambda: _counts(stage, space)["ok"] > RATE)
        yield space


def _counts(stage: Stage, space: str) -> Any:
    (load,) = stage.pods("app=load", space)
    return json.loads(stage.ask((load["status"]["podIP"], 8081), "/")[2])
