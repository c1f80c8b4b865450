"""Endpoints + latencies -> one endpoint: by default peak EWMA and power of two choices. Pure.

An endpoint's cost is its peak-sensitive moving average of latency times the requests it has
in hand, plus one. Two are drawn at random and the cheaper one is taken, so that a slow or
new endpoint is found out without asking all of them. The caller passes time and randomness.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import exp
from typing import Final, Protocol, TypeVar

from mesh.core.model import Balancing
from proxy.native import mypyc_attr

DEFAULT_RTT: Final = 0.030  # seconds, taken for an endpoint that has not answered yet
DECAY: Final = 10.0  # seconds in which an old sample loses 63 % of its weight


class Load:
    """What is known of one endpoint.

    `average` is seconds, 0 for one that is not known yet: it is tried at once, with a single
    request until it answers. `pending` counts requests that were sent and not answered.

    The first answer tells nothing: it waits for what is opened behind the endpoint, and taken for
    a peak it would keep the endpoint from requests, and so from a second answer, for many seconds.
    """

    __slots__ = ("_answers", "_at", "average", "pending")

    def __init__(self, now: float) -> None:
        self.pending = 0
        self.average = 0.0
        self._at = now
        self._answers = 0  # 2 stands for any more

    def begin(self) -> None:
        """A request is sent."""
        self.pending += 1
        if self._answers < 2:
            self.average = DEFAULT_RTT

    def observe(self, seconds: float, now: float) -> None:
        """Take a latency: a rise counts at once, a fall bit by bit."""
        average = self.average
        if self._answers < 2:
            self.average = seconds if self._answers else 0.0
            self._answers += 1
        elif seconds >= average:
            self.average = seconds
        else:
            elapsed = now - self._at
            weight = exp(-elapsed / DECAY) if elapsed > 1.0 else 1.0 - elapsed / DECAY
            self.average = average * weight + seconds * (1.0 - weight)
        self._at = now

    def fade(self, now: float) -> None:
        """Make an endpoint cheaper that was not heard of for a while, so that it is asked
        again. Called now and then; requests do not pay for it."""
        elapsed = now - self._at
        if elapsed > 1.0 and (self._answers == 2 or not self.pending):
            self.average *= exp(-elapsed / DECAY)
            self._at = now

    @property
    def cost(self) -> float:
        """What one more request would wait, in seconds."""
        return self.average * (self.pending + 1)


@mypyc_attr(allow_interpreted_subclasses=True)
class Loaded:
    """Anything with a load."""

    __slots__ = ()

    load: Load


E = TypeVar("E", bound=Loaded)
Random = Callable[[], float]


def pick(endpoints: list[E], random: Random, avoid: Collection[E] = ()) -> E | None:
    """One endpoint by power of two choices; those to avoid only when nothing else is left."""
    if avoid:
        endpoints = _others(endpoints, avoid)
    count = len(endpoints)
    if count < 2:
        return endpoints[0] if endpoints else None
    first = int(random() * count)
    second = int(random() * (count - 1))
    one = endpoints[first]
    two = endpoints[second if second < first else second + 1]
    load, other = one.load, two.load
    if load.average * (load.pending + 1) <= other.average * (other.pending + 1):
        return one
    return two


def pick_least(endpoints: list[E], random: Random, avoid: Collection[E] = ()) -> E | None:
    """Of two drawn at random the one with fewer requests in hand."""
    if avoid:
        endpoints = _others(endpoints, avoid)
    count = len(endpoints)
    if count < 2:
        return endpoints[0] if endpoints else None
    first = int(random() * count)
    second = int(random() * (count - 1))
    one = endpoints[first]
    two = endpoints[second if second < first else second + 1]
    return one if one.load.pending <= two.load.pending else two


def pick_random(endpoints: list[E], random: Random, avoid: Collection[E] = ()) -> E | None:
    """Any of them."""
    if avoid:
        endpoints = _others(endpoints, avoid)
    return endpoints[int(random() * len(endpoints))] if endpoints else None


class RoundRobin:
    """One after the other, from a place of its own in the order."""

    __slots__ = ("_next",)

    def __init__(self, random: Random) -> None:
        self._next = int(random() * 1_000_000)

    def __call__(self, endpoints: list[E], random: Random, avoid: Collection[E] = ()) -> E | None:
        if avoid:
            endpoints = _others(endpoints, avoid)
        if not endpoints:
            return None
        self._next += 1
        return endpoints[self._next % len(endpoints)]


class Pick(Protocol):
    """What every balancer is."""

    def __call__(
        self, endpoints: list[E], random: Random, avoid: Collection[E] = ...
    ) -> E | None: ...


def balancer(kind: Balancing, random: Random) -> Pick:
    """The balancer of one service."""
    if kind is Balancing.ROUND_ROBIN:
        return RoundRobin(random)
    return {Balancing.LEAST_REQUEST: pick_least, Balancing.RANDOM: pick_random}.get(kind, pick)


def _others(endpoints: list[E], avoid: Collection[E]) -> list[E]:
    return [endpoint for endpoint in endpoints if endpoint not in avoid] or endpoints
