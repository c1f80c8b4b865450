"""Asks the gateway at a steady rate, once the shop is open, and counts what comes back.

$RATE requests a second (20), of which every fifth places an order. `GET /stats` gives the
counts as JSON, so that a test can hold the mesh's numbers against them, `GET /recent` the
newest answers with the time they were asked for; `POST /pause` stops the traffic and answers
once nothing is in flight, `POST /resume?rate=200&target=catalogue` goes on, at another rate
and straight to the catalogue if asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import Counter, deque
from collections.abc import AsyncIterator

from aiohttp import ClientError, ClientSession, web

from mesh.local.shop.web import CLIENT, address_of, make_app, serve

RATE = float(os.environ.get("RATE", "20"))
_LOG_EVERY = 10.0  # seconds
_KEPT = 20_000  # newest answers
_KNOCK_EVERY = 0.2  # seconds


class Load:
    """The traffic and its counts."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.recent: deque[tuple[float, str, int, str]] = deque(maxlen=_KEPT)
        self.failed: deque[tuple[float, str, int, str]] = deque(maxlen=_KEPT)
        self.rate = RATE
        self.target = "gateway"
        self.running = asyncio.Event()
        self.running.set()
        self._flying: set[asyncio.Task[None]] = set()

    async def run(self, client: ClientSession) -> None:
        """Start requests on a fixed schedule for ever; a slow answer does not slow the rate."""
        await self._wait_until_open(client)
        number, due, logged = 0, time.monotonic(), time.monotonic()
        while True:
            if not self.running.is_set():
                await self.running.wait()
                due = time.monotonic()
            task = asyncio.create_task(self.ask(client, number))
            self._flying.add(task)
            task.add_done_callback(self._flying.discard)
            number, due = number + 1, due + 1 / self.rate
            if due - logged >= _LOG_EVERY:
                logged = due
                logging.info("%s", dict(self.counts))
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _wait_until_open(self, client: ClientSession) -> None:
        while True:
            with contextlib.suppress(ClientError, TimeoutError, ValueError, KeyError):
                async with client.get(f"{address_of('gateway', 8080)}/open") as answer:
                    if (await answer.json())["open"]:
                        return
            await asyncio.sleep(_KNOCK_EVERY)

    async def settle(self) -> None:
        """Wait until nothing is in flight."""
        while self._flying:
            await asyncio.wait(self._flying)

    async def ask(self, client: ClientSession, number: int) -> None:
        self.counts["sent"] += 1
        base, asked, status, version, reason = address_of(self.target, 8080), time.time(), 0, "", ""
        try:
            if self.target == "catalogue":
                request = client.get(f"{base}/items")
            elif number % 5 == 4:
                request = client.post(f"{base}/api/orders", json={"item": "tea"})
            else:
                request = client.get(f"{base}/api/items")
            async with request as answer:
                await answer.read()
                status, version = answer.status, answer.headers.get("x-shop-version", "")
                reason = answer.headers.get("mesh-reason", "")
        except (ClientError, TimeoutError) as error:
            logging.warning("%s", error)
            reason = repr(error)
        is_ok, row = 200 <= status < 500, (asked, version, status, reason)
        if len(self.recent) == _KEPT and not 200 <= self.recent[0][2] < 500:
            self.failed.append(self.recent[0])  # failures stay longer
        self.recent.append(row)
        self.counts["ok" if is_ok else "failed"] += 1


LOAD = web.AppKey("load", Load)


async def stats(request: web.Request) -> web.Response:
    load = request.app[LOAD]
    counts = {name: load.counts[name] for name in ("sent", "ok", "failed")}
    return web.json_response({**counts, "rate": load.rate})


async def recent(request: web.Request) -> web.Response:
    """[[unix time asked, version, status, reason], ...], oldest first; status 0: no answer.

    The reason is that of a proxy or of the client library, empty where the shop answered.
    """
    since = float(request.query.get("since", "0"))
    load = request.app[LOAD]
    return web.json_response([row for row in (*load.failed, *load.recent) if row[0] >= since])


async def pause(request: web.Request) -> web.Response:
    request.app[LOAD].running.clear()
    await request.app[LOAD].settle()
    return await stats(request)


async def resume(request: web.Request) -> web.Response:
    load = request.app[LOAD]
    load.rate = float(request.query.get("rate", load.rate))
    load.target = request.query.get("target", "gateway")
    load.running.set()
    return await stats(request)


async def _traffic(app: web.Application) -> AsyncIterator[None]:
    task = asyncio.create_task(app[LOAD].run(app[CLIENT]))
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def main() -> None:
    app = make_app()
    app[LOAD] = Load()
    app.cleanup_ctx.append(_traffic)
    app.router.add_get("/stats", stats)
    app.router.add_get("/recent", recent)
    app.router.add_post("/pause", pause)
    app.router.add_post("/resume", resume)
    serve(app)


if __name__ == "__main__":
    main()
