"""What a proxy of the mesh that has been taken over could say to another one over HTTP/2, for an
application that speaks HTTP/1: each hides a request for /smuggled, or could.

Each entry is a name and the frames of stream 1, behind preface and SETTINGS. None of their
requests carries `:scheme`: they came as HTTP/1, so HTTP/1 is what the application gets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from proxy.http2_frames import END_HEADERS, END_STREAM, PADDED
from tests.proxy.frame_scripts import GET, OPEN, POST, ROOT, data, head, text
from tests.proxy.smuggling import HIDDEN

Frames = tuple[str, list[bytes]]

HOST: Final = text(b"Host", b"a")
PLAIN: Final = GET + ROOT + HOST
BODY: Final = POST + ROOT + HOST
END: Final = b"0\r\n\r\n" + HIDDEN


def get(name: str, block: bytes) -> Frames:
    return name, [head(1, block, OPEN)]


def post(name: str, fields: bytes, *pieces: bytes) -> Frames:
    frames = [head(1, BODY + fields, END_HEADERS)]
    frames += [data(1, piece) for piece in pieces[:-1]]
    return name, [*frames, data(1, pieces[-1] if pieces else b"", END_STREAM)]


def heads() -> Iterator[Frames]:
    for path in (
        b"/ HTTP/1.1\r\nHost: a\r\n\r\nGET /smuggled",
        b"/ HTTP/1.1\nX: y",
        b"/a b",
        b"/a\tb",
        b"/#a",
        b"",
        b"a",
        b"http://b/",
        b"http://a/",
        b"*",
        b"/\x7f",
        b"/\xff",
        b"//a",
        b"/\x00",
        b"/\x0b",
    ):
        yield get(f"path {path!r}", GET + text(b":path", path) + HOST)
    for method in (
        b"GET /smuggled HTTP/1.1\r\nX:",
        b"GET /smuggled",
        b"GET\r\n",
        b"CONNECT",
        b"GET\x00",
        b"",
        b"G:T",
        b"G(T",
        b"PRI",
    ):
        yield get(f"method {method!r}", text(b":method", method) + ROOT + HOST)
    for host in (b"", b"a/b", b"u@a", b"a b", b"a\r\nX: y", b"a, b", b"a:1:2"):
        yield get(f"host {host!r}", GET + ROOT + text(b"Host", host))
    for name, block in (
        ("two hosts", PLAIN + text(b"host", b"b")),
        ("no host", GET + ROOT),
        ("two paths", GET + ROOT + ROOT + HOST),
        ("another pseudo-field", GET + ROOT + text(b":other", b"1") + HOST),
        ("an authority beside the host", GET + ROOT + text(b":authority", b"b") + HOST),
        ("a status", GET + ROOT + b"\x88" + HOST),
    ):
        yield get(name, block)


def fields() -> Iterator[Frames]:
    for name, value in (
        (b"x", b"a\r\nTransfer-Encoding: chunked"),
        (b"x", b"a\nb"),
        (b"x", b"a\rb"),
        (b"x", b"a\x00b"),
        (b"x\r\ny", b"z"),
        (b"x: y", b"z"),
        (b"x ", b"z"),
        (b"Content-Length ", b"5"),
        (b" Content-Length", b"5"),
        (b"Content_Length", b"5"),
        (b"Transfer_Encoding", b"chunked"),
        (b"", b"z"),
        (b"x\xff", b"z"),
        (b"Connection", b"transfer-encoding"),
        (b"Connection", b"content-length"),
        (b"Connection", b"close, X-Forwarded-For"),
        (b"Connection", b"close"),
        (b"Upgrade", b"h2c"),
        (b"Keep-Alive", b"1"),
        (b"TE", b"gzip"),
        (b"Expect", b"100-continue"),
        (b"l5d-client-id", b"forged"),
        (b"l5d-anything", b"forged"),
        (b"mesh-anything", b"forged"),
    ):
        yield get(f"field {name!r}: {value!r}", PLAIN + text(name, value))


def bodies() -> Iterator[Frames]:
    chunked = text(b"Transfer-Encoding", b"chunked")
    yield post("an end of chunks in a body", b"", END)
    yield post("the same in pieces", b"", b"0\r", b"\n\r\n", HIDDEN)
    yield post("an end of chunks in a chunked body", chunked, END)
    yield post("a request behind its length", text(b"Content-Length", b"5"), b"hello" + HIDDEN)
    yield post(
        "a request behind its length, apart", text(b"Content-Length", b"5"), b"hello", HIDDEN
    )
    yield post("a body shorter than its length", text(b"Content-Length", b"500"), HIDDEN)
    yield post("no body for a length", text(b"Content-Length", b"5"))
    yield post("length 0 and a body", text(b"Content-Length", b"0"), HIDDEN)
    yield post("a length and chunks", text(b"Content-Length", b"5") + chunked, b"hello")
    yield post("two lengths", text(b"Content-Length", b"5") * 2, b"hello")
    for value in (b"5, 5", b"+5", b"0x5", b"5 ", b"", b"-0", b"99999999999999999999"):
        yield post(f"length {value!r}", text(b"Content-Length", value), b"hello" + HIDDEN)
    for value in (
        b"gzip",
        b"chunked, identity",
        b"xchunked",
        b"",
        b"identity",
        b"chunked, chunked",
    ):
        yield post(f"coding {value!r}", text(b"Transfer-Encoding", value), END)
    yield post("chunked twice", chunked + chunked, END)
    yield get("chunked and no body", PLAIN + chunked)
    yield get("a length and no body", PLAIN + text(b"Content-Length", b"5"))
    yield (
        "trailers that frame",
        [
            head(1, BODY, END_HEADERS),
            data(1, b"x"),
            head(1, text(b"content-length", b"9") + text(b"host", b"b") + chunked, OPEN),
        ],
    )
    yield (
        "trailers with a line end",
        [head(1, BODY, END_HEADERS), head(1, text(b"x", b"a\r\n\r\n" + HIDDEN), OPEN)],
    )
    yield (
        "padding that looks like a request",
        [head(1, BODY, END_HEADERS), data(1, bytes([40]) + HIDDEN.ljust(80), PADDED | END_STREAM)],
    )
    upgrade = text(b"Connection", b"Upgrade") + text(b"Upgrade", b"websocket")
    yield "an upgrade and more", [head(1, PLAIN + upgrade, END_HEADERS), data(1, HIDDEN)]


DOWNGRADES: Final[list[Frames]] = [*heads(), *fields(), *bodies()]
