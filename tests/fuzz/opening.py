"""First bytes of a connection: no later byte changes a verdict, and the name that a ClientHello
asks for is the one that OpenSSL reads there."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from functools import cache

from proxy.detect import (
    NOT_TLS,
    PREFACE,
    classify,
    classify_http1,
    classify_http2,
    read_hello,
)
from tests.proxy.smuggling import ATTACKS
from tests.proxy.test_detect import client_hello


def detect(data: bytes) -> None:
    """The first two bytes say where the first segment ends."""
    at, raw = int.from_bytes(data[:2], "big"), data[2:]
    for look in (classify, classify_http1, classify_http2):
        early, late = look(raw[:at]), look(raw)
        assert early is None or early is late, (look, early, late)
    hello = read_hello(raw)
    early_hello = read_hello(raw[:at])
    assert early_hello is None or early_hello == hello, (early_hello, hello)
    if hello is None or hello is NOT_TLS:
        return
    theirs = _name_by_openssl(raw)
    if theirs is not None:
        assert hello.server_name == theirs, (hello, theirs)


@cache
def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _name_by_openssl(raw: bytes) -> str | None:
    """The server name as OpenSSL reads it, None where it refuses the hello before."""
    seen: list[str] = []

    def on_name(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> int:
        seen.append((name or "").lower())
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    context = _context()
    context.sni_callback = on_name
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(raw)
    with contextlib.suppress(ssl.SSLError, UnicodeError):
        server.do_handshake()
    return seen[0] if seen else None


def seeds() -> Iterator[bytes]:
    hellos = [
        client_hello("web.shop.svc", "mesh-http1/1", "h2"),
        client_hello(None),
        client_hello("a.b"),
    ]
    message = hellos[0][5:]
    hellos.append(
        b"".join(
            b"\x16\x03\x01" + len(message[i : i + 50]).to_bytes(2, "big") + message[i : i + 50]
            for i in range(0, len(message), 50)
        )
    )
    for hello in hellos:
        for at in (0, 5, 60, 1000):
            yield at.to_bytes(2, "big") + hello
    for text in (PREFACE, b"SSH-2.0-x\r\n", b"\x16\x03\x01", b"*3\r\n$3\r\n", b"GET"):
        yield b"\x00\x02" + text
    for attack in ATTACKS:
        if len(attack.raw) < 200:
            yield b"\x00\x08" + attack.raw
