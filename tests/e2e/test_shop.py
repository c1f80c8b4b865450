"""The shop in the mesh: traffic flows, encrypted, split by weight, and counted exactly."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.e2e.load import split, wait_for_requests
from tests.e2e.stage import Stage, eventually

CHANGES = 50

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]


def _stat(stage: Stage, *args: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(stage.mesh("stat", *args, "-n", "shop", "-o", "json"))
    return rows


def test_the_shop_answers_through_the_mesh_without_a_failure(stage: Stage) -> None:
    before = stage.load("/stats")

    after = eventually(lambda: (s := stage.load("/stats"))["ok"] > before["ok"] + 40 and s)

    assert after["failed"] == before["failed"]


def test_every_request_between_pods_is_mutually_authenticated(stage: Stage) -> None:
    sent = _metric(stage, "app=gateway", "request_total", 'direction="outbound"')
    came = _metric(stage, "app=orders", "request_total", 'client_id="gateway.shop.')

    assert sent
    reached = [line for line in sent if "target_addr=" in line]  # not where nobody was ready
    assert all('tls="true"' in line and "server_id=" in line for line in reached)
    assert came


def _metric(stage: Stage, selector: str, name: str, label: str) -> dict[str, float]:
    """The series of one metric that carry `label`, from the one pod that `selector` finds."""
    (pod,) = stage.pods(selector)
    found = {}
    for line in stage.metrics(pod["status"]["podIP"]):
        if line.startswith(name + "{") and label in line:
            series, _, value = line.rpartition(" ")
            found[series] = float(value)
    return found


def test_no_request_keeps_the_old_weights_for_a_second(stage: Stage) -> None:
    """Changes under 200 requests a second: from kubectl's exit to the last old answer."""
    stage.load("/resume?rate=200&target=catalogue", "POST")
    changes: list[tuple[float, float, str]] = []  # kubectl's start and exit, the old version
    try:
        for turn in range(CHANGES):
            begun = time.time()
            split(stage, *((0, 100) if turn % 2 == 0 else (100, 0)))
            changes.append((begun, time.time(), "v1" if turn % 2 == 0 else "v2"))
            wait_for_requests(stage, 200)
        rows = stage.load(f"/recent?since={changes[0][1]}")
    finally:
        stage.load("/resume?rate=20", "POST")
        stage.kubectl("delete", "trafficsplit", "catalogue", "-n", "shop")

    until = [begun for begun, _, _ in changes[1:]] + [float("inf")]  # the next may act at once
    late = [
        max((row[0] - when for row in rows if when < row[0] < end and row[1] == old), default=0.0)
        for (_, when, old), end in zip(changes, until, strict=True)
    ]
    assert max(late) <= 1.0, sorted(late)[-5:]
    assert all(row[2] == 200 for row in rows)


def test_a_split_sends_each_version_its_share(stage: Stage) -> None:
    split(stage, 75, 25)
    try:
        stage.load("/resume?rate=100&target=catalogue", "POST")
        wait_for_requests(stage, 200)  # until nobody knows other weights
        since = time.time()
        rows = eventually(lambda: _enough(stage.load(f"/recent?since={since}")))
    finally:
        stage.load("/resume?rate=20", "POST")
        stage.kubectl("delete", "trafficsplit", "catalogue", "-n", "shop")

    share = sum(1 for row in rows if row[1] == "v2") / len(rows)
    assert share == pytest.approx(0.25, abs=0.08)


def _enough(rows: list[Any]) -> list[Any]:
    listed = [row for row in rows if row[1]]
    return listed if len(listed) >= 350 else []


def test_stat_counts_what_the_load_generator_counted(stage: Stage) -> None:
    """Requests exact after one report interval; the rate within 2 % while it lasts."""
    sent_before = stage.load("/pause", "POST")["sent"]
    quiet = _quiet(stage)

    stage.load("/resume?rate=50", "POST")
    wait_for_requests(stage, 500)
    while not _was_steady(stage, rate=50, requests=1000):
        pass  # the machine was too busy to send that much: its rate is no measure
    (row,) = _stat(stage, "deploy/gateway", "-t", "20s")
    sent = stage.load("/pause", "POST")["sent"] - sent_before

    def is_counted() -> bool:
        count = _requests_since(stage, quiet)
        assert count == sent, stage.load("/stats")
        return True

    try:
        eventually(is_counted, within=15)
    finally:
        stage.load("/resume?rate=20", "POST")

    assert row["rps"] == pytest.approx(50, rel=0.02)


def _was_steady(stage: Stage, *, rate: float, requests: int) -> bool:
    """Whether the next requests go out at that rate, within 1 %."""
    began, sent = time.monotonic(), stage.load("/stats")["sent"]
    wait_for_requests(stage, requests)
    seen: float = (stage.load("/stats")["sent"] - sent) / (time.monotonic() - began)
    return abs(seen / rate - 1.0) <= 0.01


def _quiet(stage: Stage) -> float:
    """A moment from which on windows count exactly: no request for long before it, nor since.

    A window begins with the newest report from before it. Those that are kept come at most
    15 s apart for five minutes, which is as long as a test may take.
    """
    eventually(lambda: _requests_since(stage, time.monotonic() - 25.0) == 0)
    return time.monotonic() - 8.0  # windows end when stat's question arrives, later than asked


def _requests_since(stage: Stage, moment: float) -> int:
    """Requests that the gateway answered since `moment` (monotonic) or up to 15 s before."""
    window = time.monotonic() - moment
    (row,) = _stat(stage, "deploy/gateway", "-t", f"{window:.1f}s")
    return int(row["requests"])
