"""The kinds of requests that went by: method and path with parameters, for `mesh profile`.

A sample, told only when somebody asks. At most CREDIT requests a second are looked at, so that
a flood costs nothing; kinds are folded where words are many and then forgotten from the rarest
on, so that no client decides how much is kept. No value, query, field or body is.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Final

from mesh.core.shapes import NOISE, Shape, collapse, path_of, shape_of
from proxy.exchange import Exchange

CREDIT: Final = 100  # requests looked at in a second
MOST_KINDS: Final = 100  # of one place; folded when there are more
MOST_PLACES: Final = 20
_LONGEST: Final = 512  # bytes of a target; longer ones are not looked at
_IS_METHOD: Final = re.compile(rb"[A-Z]{1,20}").fullmatch
_IS_PATH: Final = re.compile(rb"/[!-~]*").fullmatch

Kind = tuple[str, Shape]


class Seen:
    """One kind of request: how often it was looked at, and when last (monotonic)."""

    __slots__ = ("count", "last")

    def __init__(self, count: int, last: float) -> None:
        self.count = count
        self.last = last


class Observed:
    """See the module. `place` is where requests went: the authority of a Service outbound, a
    port of this pod inbound."""

    __slots__ = ("_places", "credit", "started")

    def __init__(self, now: float) -> None:
        self.started = now
        self.credit = CREDIT  # requests still to be looked at; the caller asks before it calls
        self._places: dict[str, dict[Kind, Seen]] = {}

    def tick(self) -> None:
        """A second has gone by."""
        self.credit = CREDIT

    def look(self, place: str, exchange: Exchange, now: float) -> None:
        """Look at one request that is over, as its client sent it."""
        request, journey = exchange.request, exchange.journey
        if journey is not None and journey.original is not None:
            request = journey.original
        self.note(place, request.method, request.target, exchange.status, now)

    def note(self, place: str, method: bytes, target: bytes, status: int, now: float) -> None:
        """The same of its parts."""
        self.credit -= 1
        path = target.partition(b"?")[0]
        if status in NOISE or status == 0 or len(path) > _LONGEST:
            return
        if _IS_METHOD(method) is None or _IS_PATH(path) is None:
            return
        kinds = self._places.get(place)
        if kinds is None:
            if len(self._places) >= MOST_PLACES:
                del self._places[min(self._places, key=self._newest)]
            kinds = self._places[place] = {}
        kind = (method.decode("ascii"), shape_of(path.decode("ascii")))
        seen = kinds.get(kind)
        if seen is not None:
            seen.count += 1
            seen.last = now
            return
        kinds[kind] = Seen(1, now)
        if len(kinds) > MOST_KINDS:
            self._places[place] = _folded(kinds)

    def tell(self, places: Collection[str], window: float, now: float) -> list[dict[str, Any]]:
        """The kinds of some places (none: of all) that were seen in the last `window` seconds."""
        return [
            {
                "place": place,
                "method": method,
                "path": path_of(shape),
                "count": seen.count,
                "age": round(now - seen.last, 1),
            }
            for place, kinds in self._places.items()
            if not places or place in places
            for (method, shape), seen in kinds.items()
            if now - seen.last <= window
        ]

    def _newest(self, place: str) -> float:
        return max((seen.last for seen in self._places[place].values()), default=0.0)


def _folded(kinds: dict[Kind, Seen]) -> dict[Kind, Seen]:
    """At most half as many kinds as there may be: words that are many become parameters, and
    the rarest of what is left are forgotten."""
    names = collapse({shape for _, shape in kinds})
    folded: dict[Kind, Seen] = {}
    for (method, shape), seen in kinds.items():
        kind = (method, names[shape])
        known = folded.get(kind)
        if known is None:
            folded[kind] = Seen(seen.count, seen.last)
        else:
            known.count += seen.count
            known.last = max(known.last, seen.last)
    ranked = sorted(((seen.count, seen.last, kind) for kind, seen in folded.items()), reverse=True)
    return {kind: folded[kind] for _, _, kind in ranked[: MOST_KINDS // 2]}
