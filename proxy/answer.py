"""An outcome -> the HTTP reply that the client sees. Pure.

Every reply that the proxy makes itself has no body, says why in `mesh-reason` (a fixed word,
and behind a semicolon the object and rule responsible) and, in Linkerd's words, in
`l5d-proxy-error`. Statuses follow Linkerd's table, so that clients and retries keep working.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from mesh.core.labels import H_PROXY_CONNECTION, H_PROXY_ERROR, H_REASON
from mesh.core.model import Rule
from mesh.core.names import split_authority


@dataclass(frozen=True, slots=True)
class Kind:
    """How an outcome looks: status, word, text, and whether the client's connection ends."""

    status: int
    reason: str
    text: str
    closes: bool = False


class Outcome(Enum):
    """How a request can end without an answer from a server."""

    CONNECT_FAILED = Kind(502, "connect-failed", "connect failed", True)
    CONNECT_TIMEOUT = Kind(504, "connect-timeout", "connect timed out", True)
    TLS_FAILED = Kind(502, "tls-failed", "TLS handshake failed", True)
    WRONG_IDENTITY = Kind(502, "wrong-identity", "peer proved another identity", True)
    NO_CREDENTIALS = Kind(503, "no-credentials", "no certificate yet")
    SERVER_CLOSED = Kind(502, "server-closed", "server closed before answering", True)
    BAD_RESPONSE = Kind(502, "bad-response", "server sent no valid HTTP response", True)
    TIMEOUT = Kind(504, "timeout", "request timed out")
    NO_ENDPOINTS = Kind(503, "no-endpoints", "no ready endpoint")
    NO_SERVICE = Kind(503, "no-service", "no such Service")
    NO_WEIGHT = Kind(503, "no-weight", "all backends have weight 0")
    NO_RULE = Kind(404, "no-rule", "no rule matches")
    INVALID_BACKEND = Kind(500, "invalid-backend", "backend may not serve this route")
    ALL_BROKEN = Kind(503, "all-broken", "all endpoints are broken")
    QUEUE_FULL = Kind(503, "queue-full", "too many requests under way")
    TRY_TIMEOUT = Kind(504, "try-timeout", "a try timed out")
    RESPONSE_TIMEOUT = Kind(504, "response-timeout", "response timed out")
    IDLE_TIMEOUT = Kind(504, "idle-timeout", "nothing was sent for too long")
    STREAM_ENDED = Kind(503, "stream-ended", "the stream has lived as long as it may")
    DEADLINE = Kind(504, "deadline-exceeded", "the caller's deadline has passed")
    TLS_REQUIRED = Kind(403, "tls-required", "mutual TLS is required here", True)
    UNMESHED_TARGET = Kind(502, "unmeshed-target", "mutual TLS is required, peer has none", True)
    OVERLOADED = Kind(503, "overloaded", "too many connections", True)
    DRAINING = Kind(503, "draining", "proxy is stopping", True)
    LOOP = Kind(508, "loop", "connection to the proxy itself", True)
    INTERNAL = Kind(500, "internal-error", "unexpected error in the proxy", True)


# Reasons that a dialler gives -> outcomes.
DIAL_OUTCOMES: Final = {
    "connect-timeout": Outcome.CONNECT_TIMEOUT,
    "connect-failed": Outcome.CONNECT_FAILED,
    "wrong-identity": Outcome.WRONG_IDENTITY,
    "no-credentials": Outcome.NO_CREDENTIALS,
    "too-many-files": Outcome.OVERLOADED,
}

PHRASES: Final = {
    200: b"OK",
    204: b"No Content",
    301: b"Moved Permanently",
    302: b"Found",
    303: b"See Other",
    307: b"Temporary Redirect",
    308: b"Permanent Redirect",
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
    508: b"Loop Detected",
}


def dial_outcome(reason: str) -> Outcome:
    """The outcome behind a dialler's reason; anything else came from the handshake."""
    return DIAL_OUTCOMES.get(reason, Outcome.TLS_FAILED)


def origin_of(rule: Rule | None, authority: str = "") -> str:
    """`kind/namespace/name#rule` of the object responsible: the rule's, else the Service that
    an authority names, else nothing."""
    if rule is not None and rule.source is not None:
        return f"{rule.source}#{rule.index}"
    name, _, rest = split_authority(authority)[0].partition(".")
    namespace, _, kind = rest.partition(".")
    return f"Service/{namespace}/{name}" if kind.startswith("svc") else ""


def reply_fields(reason: str, text: str, origin: str, *, closes: bool) -> list[bytes]:
    """The fields of a reply of our own, flat as a head's fields are."""
    words = f"{reason}; {origin}" if origin else reason
    fields = [H_REASON, b": ", words.encode(), b"\r\n"]
    if text:
        fields += (H_PROXY_ERROR, b": ", text.encode(), b"\r\n")
    fields += (b"content-length", b": ", b"0", b"\r\n")
    if closes:
        fields += (H_PROXY_CONNECTION, b": ", b"close", b"\r\n")
    return fields


def phrase(status: int) -> bytes:
    """The reason phrase of a status that we answer ourselves."""
    return PHRASES.get(status, b"Error")
