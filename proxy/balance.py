"""Endpoints + latencies -> one endpoint: peak EWMA and power of two choices. Pure.

An endpoint's cost is its peak-sensitive moving average of latency times the requests it has
in hand, plus one. Two are drawn at random and the cheaper one is taken, so that a slow or
new endpoint is found out without asking all of them. The caller passes time and randomness.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import exp
from typing import Final, Protocol, TypeVar

DEFAULT_RTT: Final = 0.030  # seconds, until the first sample
DECAY: Final = 10.0  # seconds in which an old sample loses 63 % of its weight


class Load:
    """What is known of one endpoint. `pending` is kept by the caller: +1 sent, -1 answered."""

    __slots__ = ("_at", "_cost", "_is_known", "pending")

    def __init__(self, now: float, rtt: float = DEFAULT_RTT) -> None:
        self.pending = 0
        self._cost = rtt
        self._at = now
        self._is_known = False

    def observe(self, seconds: float, now: float) -> None:
        """Take a latency: a rise counts at once, a fall bit by bit."""
        if seconds >= self._cost or not self._is_known:
            self._is_known = True
            self._cost = seconds
        else:
            weight = exp((self._at - now) / DECAY)
            self._cost = self._cost * weight + seconds * (1.0 - weight)
        self._at = now

    def cost(self, now: float) -> float:
        """Expected wait of one more request; an endpoint not asked for long becomes cheap.

        One that was never asked is tried at once, with a single request until it answers.
        """
        if not self._is_known and not self.pending:
            return 0.0
        elapsed = now - self._at
        average = self._cost * exp(-elapsed / DECAY) if elapsed > 0.1 else self._cost
        return average * (self.pending + 1)


class Loaded(Protocol):
    """Anything with a load."""

    load: Load


E = TypeVar("E", bound=Loaded)


def pick(
    endpoints: list[E],
    now: float,
    random: Callable[[], float],
    avoid: Iterable[E] = (),
) -> E | None:
    """One endpoint by power of two choices; those to avoid only when nothing else is left."""
    if avoid:
        fresh = [endpoint for endpoint in endpoints if endpoint not in avoid]
        endpoints = fresh or endpoints
    count = len(endpoints)
    if count < 2:
        return endpoints[0] if endpoints else None
    first = int(random() * count)
    second = int(random() * (count - 1))
    if second >= first:
        second += 1
    one, two = endpoints[first], endpoints[second]
    return one if one.load.cost(now) <= two.load.cost(now) else two
