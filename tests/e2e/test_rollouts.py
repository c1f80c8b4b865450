"""Rollouts under load lose nothing. MESH_E2E_ROLLOUTS: how many (`make test-rollouts`: 50)."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mesh.local.shop import manifests
from tests.e2e.stage import Stage, eventually
from tests.e2e.workloads import apply, container, service, workload

ROLLOUTS = int(os.environ.get("MESH_E2E_ROLLOUTS", "3"))
RATE = 200

pytestmark = [pytest.mark.root, pytest.mark.timeout(300 + 30 * ROLLOUTS)]


@pytest.fixture
def loaded(stage: Stage) -> Iterator[Stage]:
    """200 requests a second to the two replicas of the catalogue's first version."""
    stage.apply(yaml.safe_dump_all(manifests.split(100, 0)))
    stage.load(f"/resume?rate={RATE}&target=catalogue", "POST")
    try:
        yield stage
    finally:
        stage.load("/resume?rate=20", "POST")
        stage.kubectl("delete", "trafficsplit", "catalogue", "-n", "shop")


def test_rolling_restarts_lose_no_request(loaded: Stage) -> None:
    began, sent = time.time(), loaded.load("/stats")["sent"]
    failed: list[object] = []

    for _ in range(ROLLOUTS):
        since = time.time()
        loaded.kubectl("rollout", "restart", "deployment/catalogue-v1", "-n", "shop")
        loaded.kubectl(
            "rollout", "status", "deployment/catalogue-v1", "-n", "shop", "--timeout=120s"
        )
        eventually(lambda: len(loaded.pods("app=catalogue,version=v1")) == 2)
        failed += [row for row in loaded.load(f"/recent?since={since}") if row[2] != 200]

    assert failed == []
    sent = loaded.load("/stats")["sent"] - sent
    assert sent >= 0.8 * RATE * (time.time() - began)  # it was the load that it says


GRPC = Path(__file__).with_name("grpc_app.py")


@pytest.fixture
def grpc(stage: Stage) -> Iterator[str]:
    """Two replicas of a gRPC server and a client with one connection; gives its namespace."""
    space = "grpc-rollouts"
    stage.kubectl("create", "namespace", space)
    stage.kubectl("annotate", "namespace", space, "mesh/inject=enabled")
    code = {"name": "code", "configMap": {"name": "code"}}
    mount = {"volumeMounts": [{"name": "code", "mountPath": "/app"}]}
    ready = {"readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1}}
    run = ["python", "/app/grpc_app.py"]
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
    stage.kubectl("delete", "namespace", space, "--wait=false")


def _counts(stage: Stage, space: str) -> Any:
    (load,) = stage.pods("app=load", space)
    return json.loads(stage.ask((load["status"]["podIP"], 8081), "/")[2])


def test_rolling_restarts_lose_no_call(stage: Stage, grpc: str) -> None:
    """gRPC: one connection of the client's, through all of them."""
    before, began = _counts(stage, grpc), time.monotonic()

    for _ in range(ROLLOUTS):
        stage.kubectl("rollout", "restart", "deployment/grpc", "-n", grpc)
        stage.kubectl("rollout", "status", "deployment/grpc", "-n", grpc, "--timeout=120s")
        eventually(lambda: len(stage.pods("app=grpc", grpc)) == 2)

    after = _counts(stage, grpc)
    assert after["failed"] == before["failed"]
    assert after["sent"] - before["sent"] >= 0.8 * RATE * (time.monotonic() - began)
