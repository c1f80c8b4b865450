"""Handshakes within a budget of CPU time: who waits, and whose turn is next. Pure.

A handshake costs some milliseconds, so a few hundred clients a second would leave nothing to
those who are in. Beyond the budget clients wait; addresses take turns, so that one that
connects a thousand times does not keep another waiting for more than a handshake.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Generic, TypeVar

RATE: Final = 0.22  # CPU seconds a second in OpenSSL; with accepting and closing 0.4
BURST: Final = 0.2  # CPU seconds that may be used at once
MOST_WAITING: Final = 2048

T = TypeVar("T")


class Turns(Generic[T]):
    """The budget and its queue. The caller passes the time, in seconds of one clock."""

    __slots__ = ("_filled", "_left", "_waiting", "waiting")

    def __init__(self, now: float) -> None:
        self._left = BURST  # below zero when a handshake cost more than there was
        self._filled = now
        self._waiting: dict[str, deque[T]] = {}  # by address, the next one first
        self.waiting = 0

    def spend(self, seconds: float) -> None:
        """A step of a handshake took this much CPU time."""
        self._left -= seconds

    def may_begin(self, now: float) -> bool:
        """Whether a handshake that comes now need not wait."""
        return not self.waiting and self.wait(now) == 0.0

    def wait(self, now: float) -> float:
        """Seconds until there is budget again."""
        self._left = min(BURST, self._left + (now - self._filled) * RATE)
        self._filled = now
        return max(0.0, -self._left / RATE)

    def queue(self, address: str, one: T) -> T | None:
        """Let one wait; who has to go instead where too many do: of those who have most."""
        self._waiting.setdefault(address, deque()).append(one)
        self.waiting += 1
        if self.waiting <= MOST_WAITING:
            return None
        greediest = max(self._waiting, key=lambda known: len(self._waiting[known]))
        return self._take(greediest, last=True)

    def next(self, now: float) -> T | None:
        """Whose turn it is; None where nobody waits, or there is no budget."""
        if not self.waiting or self.wait(now) > 0.0:
            return None
        address = next(iter(self._waiting))
        one = self._take(address, last=False)
        if address in self._waiting:  # behind all others
            self._waiting[address] = self._waiting.pop(address)
        return one

    def _take(self, address: str, *, last: bool) -> T:
        queue = self._waiting[address]
        one = queue.pop() if last else queue.popleft()
        if not queue:
            del self._waiting[address]
        self.waiting -= 1
        return one
