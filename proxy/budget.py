"""How many requests may be tried again: one budget per service, always on. Pure.

A retry is paid from what requests that ended well have earned within the last `ttl` seconds,
or else from a floor per second. So while most requests succeed, up to `ratio` of them may be
tried again; when a backend fails altogether, nothing is earned and retries fade to the floor
within `ttl`. A proxy further down fades in the same way, so that tiers do not multiply.
"""

from __future__ import annotations

from collections import deque
from typing import Final

RATIO: Final = 0.2  # of requests that ended well
MIN_PER_SECOND: Final = 10.0
TTL: Final = 10.0  # seconds
_SLOTS: Final = 10  # marks within a window
_BURST: Final = 2.0  # seconds of the floor that may be saved up


class RetryBudget:
    """The budget of one service. `earned` counts requests that ended well: add to it."""

    __slots__ = (
        "_floor",
        "_floor_at",
        "_marks",
        "_slot",
        "_spent",
        "_ttl",
        "earned",
        "rate",
        "ratio",
    )

    def __init__(
        self,
        now: float,
        *,
        ratio: float = RATIO,
        min_per_second: float = MIN_PER_SECOND,
        ttl: float = TTL,
    ) -> None:
        self.ratio = ratio
        self.rate = min_per_second
        self.earned = 0
        self._ttl = ttl
        self._slot = ttl / _SLOTS
        self._spent = 0  # paid from what was earned
        self._floor = min_per_second * _BURST
        self._floor_at = now
        self._marks: deque[tuple[float, int, int]] = deque([(now, 0, 0)])

    def set(self, *, ratio: float, min_per_second: float, ttl: float) -> None:
        """Go by other numbers from now on; what was earned stays."""
        self.ratio, self.rate = ratio, min_per_second
        self._ttl, self._slot = ttl, ttl / _SLOTS

    def tick(self, now: float) -> None:
        """Let what is older than the window expire. Called every second, and before use."""
        marks = self._marks
        if now - marks[-1][0] >= self._slot:
            marks.append((now, self.earned, self._spent))
        while len(marks) > 1 and marks[1][0] <= now - self._ttl:
            marks.popleft()

    def withdraw(self, now: float) -> bool:
        """Whether one more retry may go out; if so it is paid."""
        self.tick(now)
        _, earned, spent = self._marks[0]
        if self._spent - spent + 1 <= self.ratio * (self.earned - earned):
            self._spent += 1
            return True
        self._floor = min(self.rate * _BURST, self._floor + (now - self._floor_at) * self.rate)
        self._floor_at = now
        if self._floor < 1.0:
            return False
        self._floor -= 1.0
        return True

    def left(self, now: float) -> int:
        """How many retries could go out at once now."""
        self.tick(now)
        _, earned, spent = self._marks[0]
        floor = min(self.rate * _BURST, self._floor + (now - self._floor_at) * self.rate)
        return int(max(0.0, self.ratio * (self.earned - earned) - (self._spent - spent))) + int(
            floor
        )
