"""First bytes -> tls, http/1, http/2 or opaque. Pure.

Each function answers None while more bytes could change the verdict, so that a short first
segment is completed and not misjudged. A ClientHello is read only as far as its server name
and ALPN (RFC 8446 §4.1.2, RFC 6066 §3, RFC 7301 §3.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 §3.4
MAX_METHOD: Final = 24
_METHODS: Final = frozenset(b"GET HEAD POST PUT DELETE PATCH OPTIONS CONNECT TRACE".split())
MAX_LINE: Final = 16 * 1024
MAX_HELLO: Final = 32 * 1024  # bytes looked at for a ClientHello
MAX_RECORDS: Final = 64  # that it may be spread over


class Verdict(StrEnum):
    """What a connection speaks. SILENT: nobody knows yet, the client has not said a word."""

    TLS = "tls"
    HTTP1 = "http1"
    HTTP2 = "http2"
    OPAQUE = "opaque"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What a client asks for before the handshake; empty where it does not say."""

    server_name: str = ""
    alpn: tuple[str, ...] = ()


NOT_TLS: Final = ClientHello("?")  # bytes that are no ClientHello


def classify(data: bytes) -> Verdict | None:
    """The protocol that `data` begins, None when it is too short to tell."""
    if not data:
        return None
    if data[0] == 0x16:
        return _classify_tls(data)
    if PREFACE.startswith(data[: len(PREFACE)]):
        return Verdict.HTTP2 if len(data) >= len(PREFACE) else None
    return _classify_line(data)


def guess(data: bytes) -> Verdict:
    """What a beginning is most likely of whose rest does not come: a client of HTTP that is slow
    stays one, so that it meets our limits and not the application."""
    method = data.lstrip(b"\r\n").partition(b" ")[0]
    return Verdict.HTTP1 if method in _METHODS and b" " in data else Verdict.OPAQUE


def classify_http2(data: bytes) -> Verdict | None:
    """The same where HTTP/2 is declared: bytes that are nothing we know break its rules."""
    verdict = classify(data)
    return Verdict.HTTP2 if verdict is Verdict.OPAQUE else verdict


def classify_http1(data: bytes) -> Verdict | None:
    """The same where HTTP/1 is declared, mostly by a port named http: HTTP/2 and TLS go on as
    they are, anything else breaks HTTP/1's rules."""
    verdict = classify(data)
    return Verdict.HTTP1 if verdict is Verdict.OPAQUE else verdict


def _classify_tls(data: bytes) -> Verdict | None:
    """Handshake record, TLS 1.0 to 1.3 on the record layer, ClientHello inside."""
    head = data[:6]
    expected = (b"\x16", b"\x03", b"\x00\x01\x02\x03\x04", None, None, b"\x01")
    for byte, allowed in zip(head, expected, strict=False):
        if allowed is not None and byte not in allowed:
            return Verdict.OPAQUE
    return Verdict.TLS if len(data) >= 6 else None


def _classify_line(data: bytes) -> Verdict | None:
    """A request line: an upper-case method, a target, HTTP/1.x. Leading CRLFs are allowed."""
    data = data[:MAX_LINE].lstrip(b"\r\n")
    if not data:
        return None
    method, space, rest = data.partition(b" ")
    if not (method[:1].isalpha() and method.replace(b"-", b"").isalpha() and method.isupper()):
        return Verdict.OPAQUE
    if len(method) > MAX_METHOD:
        return Verdict.OPAQUE
    if not space:
        return None
    line, newline, _ = rest.partition(b"\n")
    if newline:
        version = line.rstrip(b"\r").rpartition(b" ")[2]
        return Verdict.HTTP1 if version.startswith(b"HTTP/") else Verdict.OPAQUE
    return None if len(data) < MAX_LINE else Verdict.HTTP1


def read_hello(data: bytes) -> ClientHello | None:
    """The ClientHello that `data` begins with; None: more bytes needed; NOT_TLS: none at all.

    Never raises: lengths that do not fit are NOT_TLS.
    """
    verdict = _classify_tls(data) if data else None
    if verdict is not Verdict.TLS:
        return None if verdict is None else NOT_TLS
    message = _handshake_message(data)
    if message is None:
        return None if len(data) < MAX_HELLO else NOT_TLS
    try:
        return _parse_hello(message)
    except (IndexError, ValueError):
        return NOT_TLS


def _handshake_message(data: bytes) -> bytes | None:
    """The body of the first handshake message, collected over records; None: incomplete."""
    message = b""
    at = records = 0
    has_length = len(data) >= 9 and data[3:5] >= b"\x00\x04"
    if has_length and len(data) < 9 + int.from_bytes(data[6:9], "big"):
        return None  # without a look at its records, however small they come
    while at + 5 <= len(data):
        records += 1
        if data[at] != 0x16 or records > MAX_RECORDS:
            return b""  # parsed as nothing, so NOT_TLS
        size = int.from_bytes(data[at + 3 : at + 5], "big")
        message += data[at + 5 : at + 5 + size]
        at += 5 + size
        if len(message) >= 4:
            want = 4 + int.from_bytes(message[1:4], "big")
            if len(message) >= want:
                return message[4:want]
    return None


def _parse_hello(body: bytes) -> ClientHello:
    at = 2 + 32  # version, random
    at += 1 + body[at]  # session id
    at += 2 + int.from_bytes(body[at : at + 2], "big")  # suites
    at += 1 + body[at]  # compression
    end = at + 2 + int.from_bytes(body[at : at + 2], "big")
    if end > len(body):
        raise ValueError("extensions longer than the message")
    at += 2
    server_name, alpn = "", tuple[str, ...]()
    while at + 4 <= end:
        kind = int.from_bytes(body[at : at + 2], "big")
        size = int.from_bytes(body[at + 2 : at + 4], "big")
        at += 4
        if at + size > end:
            raise ValueError("extension longer than the message")
        if kind == 0:
            server_name = _parse_server_name(body[at : at + size])
        elif kind == 16:
            alpn = _parse_alpn(body[at : at + size])
        at += size
    return ClientHello(server_name, alpn)


def _parse_server_name(data: bytes) -> str:
    if len(data) < 5 or data[2] != 0:
        return ""
    size = int.from_bytes(data[3:5], "big")
    return data[5 : 5 + size].decode("ascii").lower()


def _parse_alpn(data: bytes) -> tuple[str, ...]:
    names = []
    at = 2
    while at < len(data):
        size = data[at]
        names.append(data[at + 1 : at + 1 + size].decode("latin-1"))
        at += 1 + size
    return tuple(names)
