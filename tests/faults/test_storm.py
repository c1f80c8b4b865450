"""Thousands of requests while faults come and go on both sides of the server's proxy: none
hangs, none is half answered without showing it, and all is well as soon as the faults are gone.

MESH_FAULTS: how many requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import Counter
from pathlib import Path
from time import monotonic
from typing import Final

import pytest
import uvloop

from tests.faults.stage import GET, WHOLE, faulty_both
from tests.faults.toxics import Link, Toxics
from tests.proxy.routing import until
from tests.proxy.world import World, parse_response

REQUESTS: Final = int(os.environ.get("MESH_FAULTS", "10000"))
CLIENTS: Final = 100
HUNG: Final = 5.0  # seconds; the rule's timeout is below one
PAUSE: Final = 0.15  # seconds between two requests of a client
CHANGE: Final = (0.1, 1.2)  # seconds that a fault stays: some outlast all timeouts
FAULTS: Final[tuple[tuple[str, dict[str, int]], ...]] = (
    ("latency", {"latency": 100, "jitter": 90}),
    ("reset_peer", {"timeout": 20}),
    ("timeout", {"timeout": 0}),
    ("timeout", {"timeout": 50}),
    ("slicer", {"average_size": 3000, "size_variation": 2000}),
    ("bandwidth", {"rate": 3000}),
    ("limit_data", {"bytes": 3000}),
    ("slow_close", {"delay": 100}),
    ("refuse", {}),
)

pytestmark = [pytest.mark.faults, pytest.mark.timeout(60 + REQUESTS // 50)]


async def change(links: tuple[Link, ...]) -> None:
    """Another fault now and then on one of the links; sometimes none."""
    dice = random.Random(3)
    while True:
        await asyncio.sleep(dice.uniform(*CHANGE))
        for link in links:
            await asyncio.to_thread(link.heal)
        if dice.random() < 0.8:
            kind, attributes = dice.choice(FAULTS)
            link = dice.choice(links)
            if kind == "refuse":
                await asyncio.to_thread(link.refuse)
            else:
                stream = dice.choice(("upstream", "downstream"))
                await asyncio.to_thread(link.add, kind, stream, **attributes)


async def ask(world: World) -> str:
    """One request; how it ended."""
    raw = b""
    reader, writer = await world.client.connect()
    try:
        async with asyncio.timeout(HUNG):
            writer.write(GET)
            with contextlib.suppress(ConnectionError):
                raw = await reader.read(-1)
    except TimeoutError:
        return "hung"
    finally:
        writer.close()
    status, headers, body = parse_response(raw)
    if len(body) != int(headers.get("content-length", -1)):
        return "cut"
    return str(status) if body in WHOLE else "other bytes"


def test_no_request_hangs_whatever_fails(toxics: Toxics, tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(storm(toxics, tmp_path))


async def storm(toxics: Toxics, folder: Path) -> None:
    words: Counter[str] = Counter()
    async with faulty_both(folder, toxics) as (world, *links):
        numbers = iter(range(REQUESTS))

        async def client() -> None:
            for _ in numbers:
                words[await ask(world)] += 1
                await asyncio.sleep(PAUSE)

        faults = asyncio.ensure_future(change(tuple(links)))
        began = monotonic()
        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        faults.cancel()
        print(f"{REQUESTS} requests in {monotonic() - began:.0f} s:", dict(words.most_common()))
        for link in links:
            link.heal()
        async with asyncio.timeout(HUNG):
            while await ask(world) != "200":
                words["not healed yet"] += 1
        await until(lambda: not _pending(world))

        assert set(words) <= {"200", "502", "503", "504", "cut", "not healed yet"}
        assert words.total() - words["not healed yet"] == REQUESTS
        assert words["200"] > REQUESTS / 10
        assert world.client.server.path.errors == world.server.server.path.errors == 0


def _pending(world: World) -> int:
    """Requests that either proxy believes to have in hand."""
    return sum(
        hop.load.pending for pod in (world.client, world.server) for hop in pod.server.hops()
    )
