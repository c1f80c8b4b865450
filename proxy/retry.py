"""What may be tried again. Pure.

A connect failure sent nothing, so another endpoint may always be tried. A reused connection
that died before a byte of its response was most likely closed for idleness as we wrote; once
more on a new one, if the method may be repeated (RFC 9110 §9.2.2) or nothing was written.
"""

from __future__ import annotations

from typing import Final

from proxy.exchange import Exchange

MAX_CONNECTS: Final = 3
_REPEATABLE: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))


def after_connect_failure(tried: int, others: int) -> bool:
    """Whether to ask another endpoint, having failed to reach `tried`; `others` are left."""
    return others > 0 and tried < MAX_CONNECTS


def after_refusal(exchange: Exchange, tried: int) -> bool:
    """Whether a request that a peer never looked at may go out again, there or elsewhere."""
    return tried < MAX_CONNECTS and not exchange.has_answered and exchange.is_replayable


def after_dead_connection(exchange: Exchange, reason: str = "") -> bool:
    """Whether the same request may go out again on a new connection.

    A stream that was refused was never looked at, so any request may (RFC 9113 §8.7).
    """
    return (
        exchange.tried is None
        and not exchange.has_answered
        and exchange.is_replayable
        and (
            reason == "refused-stream"
            or (exchange.was_reused and exchange.request.method in _REPEATABLE)
        )
    )
