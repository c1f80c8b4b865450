"""What a gRPC client sees of an outcome: status 200 and `grpc-status` in place of an HTTP error.

A gRPC client reads the HTTP status only when all else is missing; its retries and its users
want a code and a message (gRPC's PROTOCOL-HTTP2, "Responses"). Pure.
"""

from __future__ import annotations

from typing import Final

from mesh.core.labels import H_REASON
from proxy import guard
from proxy.guard import Fields
from proxy.http1 import COLON, CRLF, Request, Response, WholeResponse

DEADLINE_EXCEEDED: Final = 4
UNAVAILABLE: Final = 14
# HTTP statuses of our own answers -> codes (gRPC's http-grpc-status-mapping).
_CODES: Final = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 431: 8, 500: 13, 501: 12}
_DEADLINES: Final = frozenset(
    ("timeout", "try-timeout", "response-timeout", "idle-timeout", "deadline-exceeded")
)


# Codes that mean the server's failure, not the caller's (Linkerd's classification).
FAILURES: Final = frozenset((b"2", b"4", b"7", b"13", b"14", b"15"))


def is_grpc(request: Request) -> bool:
    """Whether a request came as gRPC: on HTTP/2, and its content type says so."""
    if not request.is_http2:
        return False
    kind = guard.get(request.fields, b"content-type")
    return kind is not None and kind.lower().startswith(b"application/grpc")


def status_of(status: int, reason: str) -> int:
    """The code for an answer of our own, by its HTTP status and reason."""
    if reason in _DEADLINES:
        return DEADLINE_EXCEEDED
    return _CODES.get(status, UNAVAILABLE)


def trailers_for(status: int, reason: str, text: str, origin: str = "") -> Fields:
    """`grpc-status` and `grpc-message`, flat as a head's fields are."""
    words = f"{reason}; {origin}" if origin else reason
    message = f"{text} ({words})" if text else words
    return [
        b"grpc-status",
        COLON,
        b"%d" % status_of(status, reason),
        CRLF,
        b"grpc-message",
        COLON,
        _encode(message),
        CRLF,
        H_REASON,
        COLON,
        words.encode(),
        CRLF,
    ]


def reply(status: int, reason: str, text: str, origin: str) -> Response:
    """A whole answer: nothing but a head, as gRPC's Trailers-Only form has it."""
    fields = [b"content-type", COLON, b"application/grpc", CRLF]
    return WholeResponse(200, b"OK", fields + trailers_for(status, reason, text, origin))


def _encode(message: str) -> bytes:
    """Percent-encoding of what may not stand in `grpc-message`."""
    return b"".join(
        b"%c" % byte if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte
        for byte in message.encode()
    )
