"""Clients that ask without pause, one request at a time each, and remember what failed."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from time import monotonic

from tests.proxy.h2_ends import End, head
from tests.proxy.world import Pod, read_response

GET = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Clients:
    """What some clients of one pod got. `failures` are (when it was sent, what came)."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self._is_over = False
        self.count = 0
        self.failures: list[tuple[float, str]] = []

    @property
    def words(self) -> Counter[str]:
        return Counter(word for _, word in self.failures)

    async def http1(self) -> None:
        """On a connection that is kept as long as it lasts."""
        while not self._is_over:
            reader, writer = await self._pod.connect()
            is_kept = True
            while is_kept and not self._is_over:
                began = monotonic()
                writer.write(GET)
                try:
                    status, headers, _ = await read_response(reader)
                except (ConnectionError, asyncio.IncompleteReadError):
                    self._note(began, "cut")
                    break
                reason = headers.get("mesh-reason", "").partition(";")[0]
                self._note(began, f"{status} {reason}".strip())
                is_kept = headers.get("connection") != "close"
            writer.close()

    async def http2(self) -> None:
        """Streams of one connection, one after the other; a new one after GOAWAY."""
        while not self._is_over:
            end = End(*await self._pod.connect(), client=True)
            while not (end.goaways or end.task.done() or self._is_over):
                began = monotonic()
                _, answer = end.ask(head())
                await answer.ended.wait()
                word = str(answer.status) if answer.reset is None else f"reset {answer.reset}"
                self._note(began, word)
            await end.close()

    def _note(self, began: float, word: str) -> None:
        self.count += 1
        if word != "200":
            self.failures.append((began, word))

    async def more(self, count: int) -> None:
        """Wait until so many further requests are over; the test's timeout bounds it."""
        wanted = self.count + count
        while self.count < wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.002)

    def end(self) -> None:
        self._is_over = True


@contextlib.asynccontextmanager
async def asking(pod: Pod, *, http1: int = 6, http2: int = 2) -> AsyncIterator[Clients]:
    """Clients at work; all of them have finished their last request at the end."""
    clients = Clients(pod)
    tasks = [asyncio.ensure_future(clients.http1()) for _ in range(http1)]
    tasks += [asyncio.ensure_future(clients.http2()) for _ in range(http2)]
    try:
        yield clients
        clients.end()
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
