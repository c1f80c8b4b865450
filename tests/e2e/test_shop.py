"""The shop in the mesh: traffic flows, encrypted, split by weight, and counted exactly."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import yaml

from mesh.local.shop import manifests
from tests.e2e.stage import Stage, eventually

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]


def _apply_split(stage: Stage, v1: int, v2: int) -> None:
    stage.apply(yaml.safe_dump_all(manifests.split(v1, v2)))


def _stat(stage: Stage, *args: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(stage.mesh("stat", *args, "-n", "shop", "-o", "json"))
    return rows


def test_the_shop_answers_through_the_mesh_without_a_failure(stage: Stage) -> None:
    before = stage.load("/stats")

    after = eventually(lambda: (s := stage.load("/stats"))["ok"] > before["ok"] + 40 and s)

    assert after["failed"] == before["failed"]


def test_every_connection_between_pods_is_mutually_authenticated(stage: Stage) -> None:
    (pod,) = stage.pods("app=orders")

    _, _, metrics = stage.ask((pod["status"]["podIP"], 4191), "/metrics")

    inbound = [
        line
        for line in metrics.decode().splitlines()
        if line.startswith("request_total{") and 'direction="inbound"' in line
    ]
    assert inbound
    assert all('tls="true"' in line for line in inbound if "healthz" not in line)
    assert any('client_id="gateway.shop.serviceaccount.identity.mesh' in line for line in inbound)


def test_no_connection_keeps_the_old_weights_for_a_second(stage: Stage) -> None:
    """50 changes under 200 requests a second: from kubectl's exit to the last old answer."""
    stage.load("/resume?rate=200", "POST")
    late: list[float] = []
    try:
        for turn in range(50):
            version, other = ("v2", "v1") if turn % 2 == 0 else ("v1", "v2")
            _apply_split(stage, *((0, 100) if version == "v2" else (100, 0)))
            changed = time.time()
            eventually(lambda now=changed: stage.load("/stats") and time.time() > now + 1.0)
            rows = stage.load(f"/recent?since={changed}")
            late.append(max((row[0] - changed for row in rows if row[1] == other), default=0.0))
    finally:
        stage.load("/resume?rate=20", "POST")
        stage.kubectl("delete", "trafficsplit", "catalogue", "-n", "shop")

    assert sorted(late)[49] <= 1.0, sorted(late)[-5:]


def test_a_split_sends_each_version_its_share(stage: Stage) -> None:
    _apply_split(stage, 75, 25)
    try:
        stage.load("/resume?rate=100", "POST")
        rows = eventually(
            lambda: (r := stage.load(f"/recent?since={time.time() - 5}")) and _settled(r)
        )
    finally:
        stage.load("/resume?rate=20", "POST")
        stage.kubectl("delete", "trafficsplit", "catalogue", "-n", "shop")

    share = sum(1 for row in rows if row[1] == "v2") / len(rows)
    assert share == pytest.approx(0.25, abs=0.08)


def _settled(rows: list[Any]) -> list[Any]:
    listed = [row for row in rows if row[1]]
    return listed if len(listed) >= 350 else []


def test_stat_counts_what_the_load_generator_counted(stage: Stage) -> None:
    """Requests exact after one report interval; the rate within 2 %."""
    stage.load("/pause", "POST")
    before = eventually(lambda: _settled_total(stage))
    sent_before = stage.load("/stats")["sent"]

    stage.load("/resume?rate=50", "POST")
    eventually(lambda: stage.load("/stats")["sent"] >= sent_before + 500)
    sent = stage.load("/pause", "POST")["sent"] - sent_before
    expected = before + sent
    try:
        eventually(lambda: _total(stage) == expected, within=15)
        assert _total(stage) == expected
    finally:
        stage.load("/resume?rate=20", "POST")


def _total(stage: Stage) -> int:
    """Requests that the gateway's proxy has ever received from the load generator."""
    (pod,) = stage.pods("app=gateway")
    _, _, metrics = stage.ask((pod["status"]["podIP"], 4191), "/metrics")
    return sum(
        int(float(line.rpartition(" ")[2]))
        for line in metrics.decode().splitlines()
        if line.startswith("request_total{")
        and 'direction="inbound"' in line
        and 'client_id="load.' in line
    )


def _settled_total(stage: Stage) -> int:
    first = _total(stage)
    time.sleep(0.3)
    return first if _total(stage) == first else 0
