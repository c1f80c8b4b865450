"""TLS sessions to resume, which spares a handshake most of its work (RFC 8446 §2.2).

CPython leaks a copy of the session whenever it gives one out (`SSLObject.session`; 6.5 KB with
our chains, seen in 3.11). So one is taken only of a peer that hands were shaken with in full
before, goes on being offered as long as it is resumed, and no more than `MOST_TAKEN` are taken in
the life of a process: 3 MB. Who has none shakes hands in full, which costs CPU time alone.
"""

from __future__ import annotations

import ssl
from collections.abc import Hashable
from typing import Final

MOST_TAKEN: Final = 500
AGAIN: Final = 3600.0  # seconds until a peer that did not resume a session is asked for another
_MOST_MET: Final = 4096  # peers that are remembered; all are forgotten when there are more
_NEVER: Final = float("-inf")


class Sessions:
    """The sessions of one process. The caller passes the time, in seconds of one clock."""

    __slots__ = ("_contexts", "_known", "_met", "_taken")

    def __init__(self) -> None:
        self._known: dict[tuple[Hashable, tuple[str, ...]], ssl.SSLSession] = {}
        self._contexts: dict[tuple[str, ...], ssl.SSLContext] = {}  # that the sessions are of
        self._met: dict[tuple[Hashable, tuple[str, ...]], float] = {}  # when one was taken
        self._taken = 0

    def offer(
        self, peer: Hashable, alpn: tuple[str, ...], context: ssl.SSLContext
    ) -> ssl.SSLSession | None:
        """What to resume, if we were there before with the same leaf and bundle."""
        if self._contexts.get(alpn) is not context:
            self._known = {key: kept for key, kept in self._known.items() if key[1] != alpn}
            self._contexts[alpn] = context
        return self._known.get((peer, alpn))

    def learn(self, peer: Hashable, alpn: tuple[str, ...], link: ssl.SSLObject, now: float) -> None:
        """Keep the session of a connection for the next one. Its ticket has come by now."""
        key = peer, alpn
        if link.session_reused or self._contexts.get(alpn) is not link.context:
            return
        if key not in self._met:
            if len(self._met) >= _MOST_MET:
                self._met.clear()
            self._met[key] = _NEVER
            return
        if now - self._met[key] < AGAIN or self._taken >= MOST_TAKEN:
            return
        self._met[key] = now
        self._taken += 1
        session = link.session
        if session is not None and session.has_ticket:
            self._known[key] = session
