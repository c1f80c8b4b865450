"""A key -> the endpoint that serves it, always the same while endpoints stay. Pure.

Each endpoint has many points on a ring; a key belongs to the next point. When an endpoint goes,
only its own keys move, and each to another neighbour (consistent hashing, Karger 1997).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from typing import Final, Generic, TypeVar

from mesh.core.digest import sha256
from mesh.core.model import HashKey
from proxy import guard
from proxy.http1 import Request

POINTS: Final = 100  # of each endpoint: shares differ by some 10 %

E = TypeVar("E")


class Ring(Generic[E]):
    """The ring of one set of endpoints; made anew when the set changes."""

    __slots__ = ("_owners", "_points")

    def __init__(self, endpoints: Sequence[E], name: Callable[[E], str]) -> None:
        points = sorted(
            (_place(f"{name(endpoint)}#{number}".encode()), at)
            for at, endpoint in enumerate(endpoints)
            for number in range(POINTS)
        )
        self._points = [point for point, _ in points]
        self._owners = [endpoints[at] for _, at in points]

    def find(self, key: bytes, usable: Collection[E], avoid: Collection[E] = ()) -> E | None:
        """Whose key this is; the next one that is usable, and not to be avoided, after it."""
        if not usable:
            return None
        owners = self._owners
        start = bisect_left(self._points, _place(key))
        last: E | None = None
        seen: set[int] = set()
        for step in range(len(owners)):
            owner = owners[(start + step) % len(owners)]
            if id(owner) in seen:
                continue
            seen.add(id(owner))
            if owner in usable:
                if owner not in avoid:
                    return owner
                last = last or owner
        return last


def read_key(request: Request, key: HashKey) -> bytes | None:
    """The value of the header or cookie that decides, or None where there is none."""
    if key.header:
        return guard.get(request.fields, key.header.encode("latin-1", "replace")) or None
    wanted = key.cookie.encode("latin-1", "replace")
    for at in range(0, len(request.fields), 4):
        if request.fields[at].lower() == b"cookie":
            for pair in request.fields[at + 2].split(b";"):
                name, _, value = pair.strip().partition(b"=")
                if name == wanted and value:
                    return value
    return None


def _place(data: bytes) -> int:
    return int.from_bytes(sha256(data).digest()[:8], "big")
