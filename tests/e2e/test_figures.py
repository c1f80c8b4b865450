"""What `mesh stat` says against what a client measured: counts exactly, the rest within 5 %."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest

from tests.e2e.stage import Stage, eventually
from tests.e2e.workloads import apply, container, pod, service, wait_ready, workload
from tests.support.standstill import measured

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(300)]

RATE, SECONDS = 40, 30
REQUESTS: Final = RATE * SECONDS

# Answers after 0.1 to 0.5 s by the number in the path; each seventh fails.
SERVER: Final = """
import asyncio
from aiohttp import web

async def answer(request):
    number = int(request.match_info["number"])
    await asyncio.sleep(0.1 + (number * 37 % 100) * 0.004)
    return web.Response(status=500 if number % 7 == 3 else 200)

app = web.Application()
app.router.add_get("/{number}", answer)
web.run_app(app, port=8080)
"""
# Asks at a fixed rate, prints [[when it asked, seconds, status], ...] and stays.
CLIENT: Final = f"""
import asyncio, json, time
from aiohttp import ClientSession, TCPConnector

async def ask(session, number, rows):
    await asyncio.sleep(number / {RATE})
    began = time.monotonic()
    async with session.get(f"http://wobbly:8080/{{number}}") as response:
        await response.read()
    rows.append((began, time.monotonic() - began, response.status))

async def main():
    rows = []
    async with ClientSession(connector=TCPConnector(limit=0)) as session:
        await asyncio.gather(*(ask(session, number, rows) for number in range({REQUESTS})))
    print(json.dumps(rows), flush=True)

asyncio.run(main())
time.sleep(3600)
"""


@dataclass(frozen=True)
class Seen:
    """What the client saw, and whether it had the CPU that it wanted: without, it waits for its
    turn after the server's proxy has counted."""

    rows: list[tuple[float, float, int]]
    is_calm: bool


@pytest.fixture
def seen(stage: Stage, space: str) -> Seen:
    ready = {"readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1}}
    server = container(stage, ["python", "-c", SERVER], ports=[{"containerPort": 8080}])
    apply(
        stage,
        workload("Deployment", "wobbly", space, server | ready),
        service("wobbly", space),
    )
    wait_ready(stage, space, "pod -l app=wobbly")
    rows: list[tuple[float, float, int]] = []

    def ask() -> None:
        apply(stage, pod("client", space, container(stage, ["python", "-c", CLIENT])))
        wait_ready(stage, space, "pod/client")
        rows[:] = eventually(
            lambda: json.loads(stage.kubectl("logs", "client", "-n", space, "-c", "app")),
            within=SECONDS + 60,
            every=1.0,
        )

    turn = measured(ask)
    busy = os.getloadavg()[0] > 1.5 * (os.cpu_count() or 1)
    return Seen(rows, is_calm=not (busy or turn.says_nothing))


def test_stat_agrees_with_what_the_client_measured(stage: Stage, space: str, seen: Seen) -> None:
    rows = seen.rows
    row = eventually(lambda: _counted(stage, space, len(rows)), within=20)

    failed = sum(1 for _, _, status in rows if status != 200)
    took = sorted(seconds for _, seconds, _ in rows)
    asked = sorted(began for began, _, _ in rows)
    rate = (len(rows) - 1) / (asked[-1] - asked[0])
    assert (row["requests"], row["failures"]) == (REQUESTS, failed)
    assert failed == sum(1 for number in range(REQUESTS) if number % 7 == 3)
    assert row["rps"] == pytest.approx(rate, rel=0.02 if seen.is_calm else 0.1)
    for percent in (50, 95, 99):
        shown = row[f"latency_ms_p{percent}"] / 1000
        expected = _quantile(took, percent / 100)
        assert shown == pytest.approx(expected, rel=0.05 if seen.is_calm else 0.25), percent


def _counted(stage: Stage, space: str, requests: int) -> dict[str, Any]:
    """The row once the proxy reported all of it."""
    shown = stage.mesh("stat", "deploy/wobbly", "-n", space, "-t", "60s", "-o", "json")
    (row,) = json.loads(shown)
    return row if row["requests"] >= requests else {}


def _quantile(values: Sequence[float], share: float) -> float:
    return values[math.ceil(share * len(values)) - 1]
