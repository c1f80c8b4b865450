"""The requests that someone may ask about later: those that failed, and those in the access log.

Each has an id: the application's own x-request-id, or one made here. It goes back in
`mesh-request-id` of a response that failed, and `mesh explain --id` finds it here while it is
among the last ones. No query, body or field of a request is kept.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from time import time
from typing import Final

from mesh.core.labels import H_MESH_REQUEST_ID, H_REQUEST_ID
from proxy import guard
from proxy.exchange import Exchange, Journey
from proxy.guard import Fields
from proxy.heads import path_of
from proxy.hop import Hop
from proxy.http1 import COLON, CRLF
from proxy.plan import Plan

MOST: Final = 1000  # requests remembered
_LONGEST: Final = 128  # bytes of an id, and characters of a path
_PLAIN: Final = frozenset(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_.:/+=")


@dataclass(frozen=True, slots=True)
class Entry:
    """One request that is over. `at` is unix seconds of its end."""

    id: str
    at: float
    seconds: float
    method: str
    host: str
    path: str
    address: str
    service: str
    rule: str
    route: str
    backend: str
    endpoint: str
    pod: str
    tries: int
    status: int
    reason: str
    view: int


_Kept = tuple[float, float, bytes, bytes, bytes, str, Plan, Hop | None, int, int, str, int]


class Journal:
    """The last requests by id, oldest first."""

    __slots__ = ("_count", "_entries", "_prefix")

    def __init__(self) -> None:
        self._entries: dict[bytes, _Kept] = {}
        self._prefix = os.urandom(6).hex().encode()
        self._count = 0

    def name(self, exchange: Exchange) -> bytes:
        """The id of a request, made up if the application gave none."""
        journey = exchange.journey
        if journey is None:
            journey = exchange.journey = Journey()
        if not journey.id:
            found = guard.get(exchange.request.fields, H_REQUEST_ID) or b""
            if not found or len(found) > _LONGEST or not _PLAIN.issuperset(found):
                self._count += 1
                found = b"%b-%x" % (self._prefix, self._count)
            journey.id = found
        return journey.id

    def tag(self, exchange: Exchange) -> None:
        """Give a request that goes on an id, so that every log on its way has the same."""
        fields = exchange.request.fields
        if guard.get(fields, H_REQUEST_ID) is None:
            fields += (H_REQUEST_ID, COLON, self.name(exchange), CRLF)

    def fields(self, exchange: Exchange) -> Fields:
        """The field that tells a client its request's id."""
        return [H_MESH_REQUEST_ID, COLON, self.name(exchange), CRLF]

    def keep(self, exchange: Exchange, *, address: str, view: int, now: float) -> None:
        """Remember a request that is over; put into words only when somebody asks."""
        key = self.name(exchange)
        entries = self._entries
        entries.pop(key, None)
        if len(entries) >= MOST:
            del entries[next(iter(entries))]
        request, journey = exchange.request, exchange.journey
        retries = journey.tries if journey is not None else 0
        entries[key] = (
            time(),
            now - exchange.started,
            request.method,
            request.host,
            request.target.partition(b"?")[0][:_LONGEST],
            address,
            exchange.plan,
            exchange.endpoint,
            max(retries, len(exchange.tried or ())) + 1,
            exchange.status,
            exchange.error,
            view,
        )

    def find(self, key: str) -> Entry | None:
        """The request of an id, while it is among the last ones."""
        kept = self._entries.get(key.encode("latin-1", "replace"))
        if kept is None:
            return None
        at, seconds, method, host, target, address, plan, hop, tries, status, reason, view = kept
        return Entry(
            id=key,
            at=at,
            seconds=round(seconds, 6),
            method=method.decode("latin-1"),
            host=host.decode("latin-1")[:_LONGEST],
            path=path_of(target),
            address=address,
            service=plan.apex,
            rule=plan.origin,
            route=plan.route,
            backend=plan.leaf,
            endpoint=hop.address if hop is not None else "",
            pod=hop.endpoint.pod if hop is not None else "",
            tries=tries,
            status=status,
            reason=reason,
            view=view,
        )
