"""Whose turn it is when many ask at once.

`FairGate` lets a fixed number work at a time and gives each service account
its turn, so that two hundred pods of one account do not keep the pod of another waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Hashable

from mesh.core.errors import IdentityError


class FairGate:
    """At most `width` inside; those who wait are let in account by account, in turn."""

    def __init__(self, *, width: int, most_waiting: int, most_waiting_each: int) -> None:
        self._free = width
        self._most = most_waiting
        self._most_each = most_waiting_each
        self._queues: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()
        self.waiting = 0

    @contextlib.asynccontextmanager
    async def turn(self, key: Hashable) -> AsyncIterator[None]:
        """Wait for a turn and hold it. Raises IdentityError `overloaded` when too many wait."""
        if self._free > 0:
            self._free -= 1
        else:
            await self._wait(key)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, key: Hashable) -> None:
        queue = self._queues.setdefault(key, deque())
        if self.waiting >= self._most or len(queue) >= self._most_each:
            if not queue:
                del self._queues[key]
            raise IdentityError("overloaded", "too many requests wait; try again")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        self.waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()  # the turn came and nobody is there to take it
            else:
                self._leave(key, turn)
            raise

    def _leave(self, key: Hashable, turn: asyncio.Future[None]) -> None:
        queue = self._queues.get(key)
        if queue is not None and turn in queue:
            queue.remove(turn)
            self.waiting -= 1
            if not queue:
                del self._queues[key]

    def _pass_on(self) -> None:
        """Give the turn to the next account's first, or put it back."""
        while self._queues:
            key, queue = next(iter(self._queues.items()))
            turn = queue.popleft()
            self.waiting -= 1
            if queue:
                self._queues.move_to_end(key)
            else:
                del self._queues[key]
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
