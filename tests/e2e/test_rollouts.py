"""Rollouts under load lose nothing. MESH_E2E_ROLLOUTS: how many (`make test-rollouts`: 50)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
import yaml

from mesh.local.shop import manifests
from tests.e2e.stage import Stage, eventually

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
