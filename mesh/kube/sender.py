"""Requests that end by themselves, also when nobody waits for their answer any more.

httpcore2 loses the connection of a request that is cancelled while it connects or gives a
connection back (a socket that only the garbage collector closes). So each request runs as a
task of its own; who is cancelled leaves it behind, and `close` waits for what was left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

import httpx2 as httpx

_CLOSE_SECONDS: Final = 1.0


class Sender:
    """Sends over one httpx client, which it closes."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._tasks: set[asyncio.Task[Any]] = set()

    async def send(self, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
        """The response; with `stream` its body is still to come and the caller closes it."""
        task = self._start(self._http.send(request, stream=stream))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._abandon)
            raise

    async def close(self) -> None:
        """Wait a moment for requests that were left behind, then close all connections."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_CLOSE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.aclose()

    def _start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _abandon(self, task: asyncio.Task[httpx.Response]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._start(task.result().aclose())
