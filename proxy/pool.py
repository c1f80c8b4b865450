"""Connections to one endpoint: which to reuse, which to close, decided as data. Pure.

The last one given back is the first one taken, so that spare ones grow old and expire. The
shell opens, closes and keeps the clock.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Generic, TypeVar

C = TypeVar("C")

APPLICATION_IDLE: Final = 4.0  # seconds; below the 5 s after which many servers hang up
PEER_IDLE: Final = 50.0  # seconds; our own inbound keeps idle connections for 60
MAX_IDLE: Final = 256  # connections kept per endpoint
MARGIN: Final = 1.0  # seconds by which we are earlier than a server, as we look every second
LEARNT_FOR: Final = 300.0  # seconds; a server that was only restarted is given another chance


class Pool(Generic[C]):
    """The idle connections of one endpoint, oldest first."""

    __slots__ = ("_idle", "_idle_seconds", "_learnt_at", "_most_seconds", "open")

    def __init__(self, idle_seconds: float) -> None:
        self._idle: deque[tuple[float, C]] = deque()
        self._idle_seconds = self._most_seconds = idle_seconds
        self._learnt_at = 0.0
        self.open = 0  # kept by the shell: connections that exist, idle or not

    def __len__(self) -> int:
        return len(self._idle)

    def take(self) -> C | None:
        """The connection used last, or None: open a new one."""
        return self._idle.pop()[1] if self._idle else None

    def give(self, connection: C, now: float) -> C | None:
        """Keep an idle connection. Gives back one to close when there are too many."""
        self._idle.append((now, connection))
        return self._idle.popleft()[1] if len(self._idle) > MAX_IDLE else None

    def drop(self, connection: C, now: float) -> None:
        """Forget a connection that died, whether it was idle or not. How long it was says how
        long its server waits: others are closed before that from now on."""
        for entry in self._idle:
            if entry[1] is connection:
                self._idle.remove(entry)
                waits = max(0.0, now - entry[0] - MARGIN)
                if waits < self._idle_seconds:
                    self._idle_seconds = waits
                    self._learnt_at = now
                return

    def expire(self, now: float) -> list[C]:
        """Take out the connections that have been idle for too long: close them."""
        old: list[C] = []
        if now - self._learnt_at > LEARNT_FOR:
            self._idle_seconds = self._most_seconds
        while self._idle and now - self._idle[0][0] >= self._idle_seconds:
            old.append(self._idle.popleft()[1])
        return old

    def empty(self) -> list[C]:
        """Take out all: the endpoint is gone, or its credentials have changed."""
        old = [connection for _, connection in self._idle]
        self._idle.clear()
        return old
