"""What detection found out, remembered per service port. Pure."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from proxy.detect import Verdict

MAX_REMEMBERED: Final = 4096
PATIENT: Final = 1.0  # seconds to wait for a silent client where clients have spoken HTTP

BOUNDS: Final = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 10.0)  # seconds

_SERVER_FIRST, _HTTP = "server-first", "http"


class Detection:
    """How long it took to know one verdict: responses up to each of BOUNDS, and their sum."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)  # the last one is for all that took longer
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds


class Verdicts:
    """Service port -> who talks first there. Forgets all when it grows too large."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[object, str] = {}

    def __len__(self) -> int:
        return len(self._known)

    def is_opaque(self, key: object) -> bool:
        """Whether servers talk first there, so that waiting for the client is in vain."""
        return self._known.get(key) == _SERVER_FIRST

    def patience(self, key: object, first: float) -> float:
        """Seconds of silence before the server is asked."""
        return PATIENT if self._known.get(key) == _HTTP else first

    def server_spoke(self, key: object) -> None:
        self._remember(key, _SERVER_FIRST)

    def client_spoke(self, key: object, verdict: Verdict) -> None:
        if verdict is Verdict.HTTP1 or verdict is Verdict.HTTP2:
            self._remember(key, _HTTP)

    def _remember(self, key: object, what: str) -> None:
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        self._known[key] = what
