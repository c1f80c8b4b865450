"""What detection found out, remembered per service port. Pure."""

from __future__ import annotations

from typing import Final

from proxy.detect import Verdict

MAX_REMEMBERED: Final = 4096
PATIENT: Final = 1.0  # seconds to wait for a silent client where clients have spoken HTTP

_SERVER_FIRST, _HTTP = "server-first", "http"


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
