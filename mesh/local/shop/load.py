"""Asks the gateway at a steady rate and counts what comes back.

$RATE requests a second (20), of which every fifth places an order. `GET /stats` gives the
counts as JSON, so that a test can hold the mesh's numbers against them; `POST /pause`
stops the traffic and answers once nothing is in flight, `POST /resume` goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import AsyncIterator

from aiohttp import ClientError, ClientSession, web

from mesh.local.shop.web import CLIENT, address_of, make_app, serve

RATE = float(os.environ.get("RATE", "20"))
_LOG_EVERY = 10.0  # seconds


class Load:
    """The traffic and its counts."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.versions: Counter[str] = Counter()
        self.running = asyncio.Event()
        self.running.set()
        self._flying: set[asyncio.Task[None]] = set()

    async def run(self, client: ClientSession) -> None:
        """Start requests on a fixed schedule for ever; a slow answer does not slow the rate."""
        number, due, logged = 0, time.monotonic(), time.monotonic()
        while True:
            if not self.running.is_set():
                await self.running.wait()
                due = time.monotonic()
            task = asyncio.create_task(self.ask(client, number))
            self._flying.add(task)
            task.add_done_callback(self._flying.discard)
            number, due = number + 1, due + 1 / RATE
            if due - logged >= _LOG_EVERY:
                logged = due
                logging.info("%s", dict(self.counts))
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def settle(self) -> None:
        """Wait until nothing is in flight."""
        while self._flying:
            await asyncio.wait(self._flying)

    async def ask(self, client: ClientSession, number: int) -> None:
        self.counts["sent"] += 1
        base = address_of("gateway", 8080)
        try:
            if number % 5 == 4:
                request = client.post(f"{base}/api/orders", json={"item": "tea"})
            else:
                request = client.get(f"{base}/api/items")
            async with request as answer:
                await answer.read()
                ok = answer.status < 500
                if version := answer.headers.get("x-shop-version"):
                    self.versions[version] += 1
        except (ClientError, TimeoutError):
            ok = False
        self.counts["ok" if ok else "failed"] += 1


LOAD = web.AppKey("load", Load)


async def stats(request: web.Request) -> web.Response:
    load = request.app[LOAD]
    counts = {name: load.counts[name] for name in ("sent", "ok", "failed")}
    return web.json_response({**counts, "versions": dict(load.versions), "rate": RATE})


async def pause(request: web.Request) -> web.Response:
    request.app[LOAD].running.clear()
    await request.app[LOAD].settle()
    return await stats(request)


async def resume(request: web.Request) -> web.Response:
    request.app[LOAD].running.set()
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
    app.router.add_post("/pause", pause)
    app.router.add_post("/resume", resume)
    serve(app)


if __name__ == "__main__":
    main()
