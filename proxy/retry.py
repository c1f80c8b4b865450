"""What may be tried again, and after how long. Pure.

Without being told, only what the server provably did not process: a connection that failed,
a stream that was refused, a reused connection that died before a byte of its response while
the method may be repeated (RFC 9110 §9.2.2), one that was reset with the request unread; and
once, within the service's budget, what an application dropped as it ended, if it only reads. More
only where a route says so, for any method then, within that budget and while the body is still
at hand.
"""

from __future__ import annotations

from typing import Final

from mesh.core.labels import H_RETRY
from mesh.core.model import Retry
from proxy import grpc, guard
from proxy.exchange import REFUSED, UNREAD, Exchange
from proxy.guard import Fields

MAX_CONNECTS: Final = 3
ELSEWHERE: Final = Retry(limit=1, backoff=0.0, redraw=False)  # what a peer's application dropped
MOST: Final = 10  # retries of one request where a route leaves their number to the budget
ONCE: Final = b"once"  # what a proxy says in `mesh-retry` where another endpoint may be asked
AT_ONCE: Final = 0.1  # seconds within which a peer refuses that has not tried anything
_SAFE: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE"))
_REPEATABLE: Final = _SAFE | {b"PUT", b"DELETE"}


def after_connect_failure(tried: int, others: int) -> bool:
    """Whether to ask another endpoint, having failed to reach `tried`; `others` are left."""
    return others > 0 and tried < MAX_CONNECTS


def after_refusal(exchange: Exchange, tried: int, *, others: int, is_quick: bool) -> bool:
    """Whether a request that a peer never looked at may go out again: elsewhere, or there where
    it was refused at once. A peer that drains says so at once; one that took its time could not
    reach its application, and would take that time again: `is_quick`, within AT_ONCE."""
    return (
        tried < MAX_CONNECTS
        and (others > 0 or is_quick)
        and not exchange.has_answered
        and exchange.is_replayable
    )


def was_unread(exchange: Exchange, reason: str) -> bool:
    """Whether an application closed without reading the request, so that another may be asked.
    One that closes in anger resets what it has read, too: not for a method that must not be
    repeated, nor for more than a head."""
    return reason == UNREAD and exchange.request.method in _REPEATABLE and _is_head(exchange)


def may_be_dropped(exchange: Exchange, reason: str) -> bool:
    """Whether to find out if an application has ended that closed without an answer: one that
    ends may drop what it has just read, and what only reads (RFC 9110 §9.2.1) another may be
    asked then, once, for it may also be what ended the application."""
    return (
        reason in ("server-closed", UNREAD)
        and exchange.request.method in _SAFE
        and _is_head(exchange)
    )


def is_dropped(exchange: Exchange, fields: Fields) -> bool:
    """Whether a peer says with its answer that its application dropped the request."""
    return guard.get(fields, H_RETRY) == ONCE and exchange.request.method in _SAFE


def _is_head(exchange: Exchange) -> bool:
    """Whether the request is a head and no more, and has no answer."""
    request = exchange.request
    return request.length == 0 and not request.upgrade and not exchange.has_answered


def after_dead_connection(exchange: Exchange, reason: str = "") -> bool:
    """Whether the same request may go out again on a new connection. `reason` is why the last
    one was lost: a refused stream was never looked at, whatever its method."""
    return (
        exchange.tried is None
        and not exchange.has_answered
        and exchange.is_replayable
        and (reason == REFUSED or (exchange.was_reused and exchange.request.method in _REPEATABLE))
    )


def after_rejection(exchange: Exchange, reason: str) -> bool:
    """Whether the peer did not accept our certificate. In TLS 1.3 that is heard after we have
    written (RFC 8446 §4.4.4), and is still a failure to connect: nothing was looked at."""
    return (
        reason == "tls-failed"
        and not exchange.was_reused
        and not exchange.has_answered
        and exchange.is_replayable
    )


def is_asked_for(retry: Retry, statuses: frozenset[int], status: int, fields: Fields) -> bool:
    """Whether the route wants a response like this one tried again. `statuses` are the route's;
    a gRPC server that fails at once says so in its head (gRPC over HTTP2, Trailers-Only), one
    that fails later in its trailers, which are `fields` then."""
    if status in statuses:
        return True
    if not retry.grpc and not retry.on_failure:
        return False
    code = guard.get(fields, b"grpc-status")
    if code is None or not code.isdigit() or not _is_welcome(fields):
        return False
    return int(code[:3]) in retry.grpc or (retry.on_failure and code in grpc.FAILURES)


def _is_welcome(fields: Fields) -> bool:
    """Whether the server does not mind another try: it says so with a number of milliseconds
    that is none (gRPC's A6, `grpc-retry-pushback-ms`)."""
    value = guard.get(fields, b"grpc-retry-pushback-ms")
    return value is None or value.isdigit()


def may_go_again(exchange: Exchange, retry: Retry, tries: int) -> bool:
    """Whether one more try is possible and within the route's number."""
    limit = MOST if retry.limit is None else retry.limit
    return (
        tries < limit
        and not exchange.is_over
        and not exchange.has_answered
        and not exchange.request.upgrade
        and exchange.is_replayable
    )


def backoff(retry: Retry, tries: int, draw: float) -> float:
    """Seconds to wait before retry number `tries` + 1: doubled each time, and drawn longer by
    up to a half, so that clients that failed together do not come back together."""
    wait = min(retry.max_backoff, retry.backoff * 2.0 ** min(tries, 30))
    return wait * (1.0 + draw / 2)
