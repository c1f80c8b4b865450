"""What the requests that this pod serves allow of the requests that it makes for them. Pure.

A proxy in front says in headers which try of a request this is and how long it may take. The
application's own requests are known to belong to it by an id that it passes on (x-request-id,
or the trace id of traceparent): then they inherit the deadline, and those of a second try are
not multiplied by retries of their own. Without such an id the retry budget alone protects;
when it runs out here, failed answers of this pod say that trying again would not help.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mesh.core.labels import H_ATTEMPT, H_DEADLINE, H_REQUEST_ID
from proxy import guard
from proxy.deadline import parse_millis
from proxy.guard import Fields
from proxy.http1 import Request

MOST: Final = 10_000  # requests in hand that are remembered
PUSHBACK: Final = 1.0  # seconds for which a budget that ran out is told


@dataclass(frozen=True, slots=True)
class Origin:
    """Which try of a request this is, and until when (monotonic seconds) it may take."""

    attempt: int = 1
    deadline: float | None = None


class Lineage:
    """The requests in hand by their ids."""

    __slots__ = ("_overflowed", "known")

    def __init__(self) -> None:
        self.known: dict[bytes, Origin] = {}  # empty: nothing to look for
        self._overflowed = float("-inf")

    def enter(self, request: Request, now: float) -> bytes | None:
        """A request has come in. Gives the id to `leave` with, None when there is nothing to
        remember."""
        ours = request.ours
        if ours is None or (H_DEADLINE not in ours and H_ATTEMPT not in ours):
            return None
        found = request_id(request.fields)
        if found is None or len(self.known) >= MOST:
            return None
        seconds = parse_millis(ours.get(H_DEADLINE, b""))
        attempt = ours.get(H_ATTEMPT, b"1")
        self.known[found] = Origin(
            attempt=int(attempt) if attempt.isdigit() and len(attempt) < 4 else 1,
            deadline=now + seconds if seconds is not None else None,
        )
        return found

    def leave(self, key: bytes) -> None:
        self.known.pop(key, None)

    def find(self, request: Request) -> Origin | None:
        """The request that this one belongs to."""
        found = request_id(request.fields)
        return self.known.get(found) if found is not None else None

    def overflowed(self, now: float) -> None:
        """A retry was wanted and the budget did not allow it."""
        self._overflowed = now

    def pushes_back(self, now: float) -> bool:
        """Whether who asked this pod should rather not ask again."""
        return now - self._overflowed < PUSHBACK


def request_id(fields: Fields) -> bytes | None:
    """The id that an application passes on: x-request-id, else the trace id."""
    found = guard.get(fields, H_REQUEST_ID)
    if found:
        return found
    trace = guard.get(fields, b"traceparent")
    return trace[3:35] if trace is not None and len(trace) >= 55 else None
