"""Token buckets: how often a key may do something. Pure: the caller passes the time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

MAX_BUCKETS: Final = 20_000


class Buckets:
    """A bucket for each key: `burst` at once, `rate` a second after that.

    Buckets that are full again are forgotten; beyond `most` the least recently used go.
    """

    def __init__(self, *, rate: float, burst: int, most: int = MAX_BUCKETS) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._most = most
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, key: Hashable, now: float) -> float:
        """Take one and give 0.0, or take none and give the seconds until there is one."""
        wait = self.wait(key, now)
        if wait > 0:
            return wait
        self._levels[key] = (self._level(key, now) - 1.0, now)
        self._levels.move_to_end(key)
        self._forget(now)
        return 0.0

    def wait(self, key: Hashable, now: float) -> float:
        """Seconds until `take` would succeed; takes nothing."""
        missing = 1.0 - self._level(key, now)
        return max(0.0, missing / self._rate)

    def __len__(self) -> int:
        return len(self._levels)

    def _level(self, key: Hashable, now: float) -> float:
        level, since = self._levels.get(key, (self._burst, now))
        return min(self._burst, level + max(0.0, now - since) * self._rate)

    def _forget(self, now: float) -> None:
        while self._levels:
            oldest = next(iter(self._levels))
            if len(self._levels) <= self._most and self._level(oldest, now) < self._burst:
                return
            del self._levels[oldest]
