"""What strangers may send on HTTP/2, frame by frame, and what must become of it.

Each script runs on a fresh connection behind preface and SETTINGS. `ends` is the GOAWAY code and
the reason that is counted; `resets` are the streams that are reset, with their codes; `served`
are the methods, targets and bodies of the requests that came through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proxy.http2_frames import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITISED,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    frame,
)

OPEN = END_HEADERS | END_STREAM
Served = tuple[bytes, bytes, bytes]


@dataclass(frozen=True)
class Script:
    name: str
    frames: Sequence[bytes]
    ends: tuple[int, str] | None = None
    resets: tuple[tuple[int, int], ...] = ()
    served: tuple[Served, ...] = ()
    answered: tuple[int, ...] = ()  # statuses that we answer ourselves


def text(name: bytes, value: bytes) -> bytes:
    """A literal that stays out of the table."""
    return b"\x00" + _string(name) + _string(value)


def _string(data: bytes) -> bytes:
    assert len(data) < 127 + 128
    head = bytes([len(data)]) if len(data) < 127 else bytes([127, len(data) - 127])
    return head + data


GET, POST, HTTP, ROOT = b"\x82", b"\x83", b"\x86", b"\x84"
HOST = text(b":authority", b"web")
HEAD = GET + HTTP + ROOT + HOST
POSTS = POST + HTTP + ROOT + HOST
ONE: Served = (b"GET", b"/", b"")


def head(number: int, block: bytes = HEAD, flags: int = OPEN) -> bytes:
    return frame(HEADERS, flags, number, block)


def data(number: int, payload: bytes = b"", flags: int = 0) -> bytes:
    return frame(DATA, flags, number, payload)


def long(value: int) -> bytes:
    return value.to_bytes(4, "big")


def setting(key: int, value: int) -> bytes:
    return frame(SETTINGS, 0, 0, key.to_bytes(2, "big") + long(value))


def malformed(name: str, block: bytes) -> Script:
    """A head that is none: its stream is reset, the next one served."""
    frames = [head(1, block), head(3)]
    return Script(name, frames, resets=((1, PROTOCOL_ERROR),), served=(ONE,))


def broken(name: str, code: int, *frames: bytes, reason: str = "http2_error") -> Script:
    return Script(name, frames, ends=(code, reason))


def pairs(count: int, *of: bytes) -> list[bytes]:
    """The same frames on stream after stream: 1, 3, 5 ..."""
    return [part[:5] + long(number) + part[9:] for number in range(1, 2 * count, 2) for part in of]


MALFORMED = [
    malformed("no method", HTTP + ROOT + HOST),
    malformed("no scheme", GET + ROOT + HOST),
    malformed("no path", GET + HTTP + HOST),
    malformed("empty path", GET + HTTP + text(b":path", b"") + HOST),
    malformed("two methods", GET + GET + HTTP + ROOT + HOST),
    malformed("two paths", GET + HTTP + ROOT + ROOT + HOST),
    malformed("two authorities", HEAD + HOST),
    malformed("pseudo-field behind a field", GET + HTTP + text(b"a", b"b") + ROOT + HOST),
    malformed("unknown pseudo-field", HEAD + text(b":test", b"1")),
    malformed("status in a request", HEAD + b"\x88"),
    malformed("upper-case name", HEAD + text(b"X-Test", b"1")),
    malformed("space in a name", HEAD + text(b"x test", b"1")),
    malformed("empty name", HEAD + text(b"", b"1")),
    malformed("CR in a value", HEAD + text(b"x", b"a\rb")),
    malformed("LF in a value", HEAD + text(b"x", b"a\nb")),
    malformed("NUL in a value", HEAD + text(b"x", b"a\0b")),
    malformed("CRLF that begins a header", HEAD + text(b"x", b"a\r\nhost: evil")),
    malformed("space before a value", HEAD + text(b"x", b" a")),
    malformed("tab behind a value", HEAD + text(b"x", b"a\t")),
    malformed("connection", HEAD + text(b"connection", b"close")),
    malformed("keep-alive", HEAD + text(b"keep-alive", b"1")),
    malformed("proxy-connection", HEAD + text(b"proxy-connection", b"close")),
    malformed("transfer-encoding", HEAD + text(b"transfer-encoding", b"chunked")),
    malformed("upgrade", HEAD + text(b"upgrade", b"h2c")),
    malformed("te beside trailers", HEAD + text(b"te", b"trailers, gzip")),
    malformed("twin of content-length", HEAD + text(b"content_length", b"1")),
    malformed("two lengths", HEAD + 2 * text(b"content-length", b"0")),
    malformed("a length that is none", HEAD + text(b"content-length", b"0x1")),
    malformed("a length and no body", HEAD + text(b"content-length", b"5")),
    malformed("host against authority", HEAD + text(b"host", b"other")),
    malformed("a path in the authority", GET + HTTP + ROOT + text(b":authority", b"a/b")),
    malformed("a user in the authority", GET + HTTP + ROOT + text(b":authority", b"u@a")),
    malformed("a space in the path", GET + HTTP + HOST + text(b":path", b"/ HTTP/1.1")),
    malformed("a tab in the path", GET + HTTP + HOST + text(b":path", b"/a\tb")),
    malformed("an octet beyond ASCII in the path", GET + HTTP + HOST + text(b":path", b"/\xff")),
    malformed("a tab in the method", text(b":method", b"GET\tx") + HTTP + ROOT + HOST),
    malformed("a fragment in the path", GET + HTTP + HOST + text(b":path", b"/a#b")),
    malformed("a path without a slash", GET + HTTP + HOST + text(b":path", b"a")),
    malformed("absolute form", GET + HTTP + HOST + text(b":path", b"http://web/")),
    malformed("a star for GET", GET + HTTP + HOST + text(b":path", b"*")),
    malformed("a space in the method", text(b":method", b"GET /x") + HTTP + ROOT + HOST),
    malformed("CRLF in the method", text(b":method", b"GET\r\n") + HTTP + ROOT + HOST),
    malformed("another scheme", GET + text(b":scheme", b"file") + ROOT + HOST),
    malformed("CONNECT with a path", text(b":method", b"CONNECT") + ROOT + HOST),
    malformed("CONNECT without a port", text(b":method", b"CONNECT") + HOST),
    malformed(
        "extended CONNECT",
        text(b":method", b"CONNECT") + text(b":protocol", b"websocket") + HTTP + ROOT + HOST,
    ),
]

BODIES = [
    Script(
        "a body longer than said",
        [
            head(1, POSTS + text(b"content-length", b"3"), END_HEADERS),
            data(1, b"four", END_STREAM),
        ],
        resets=((1, PROTOCOL_ERROR),),
        served=((b"POST", b"/", b""),),
    ),
    Script(
        "a body shorter than said",
        [
            head(1, POSTS + text(b"content-length", b"5"), END_HEADERS),
            data(1, b"four", END_STREAM),
        ],
        resets=((1, PROTOCOL_ERROR),),
        served=((b"POST", b"/", b""),),
    ),
    Script(
        "trailers that do not end the stream",
        [head(1, POSTS, END_HEADERS), head(1, text(b"a", b"b"), END_HEADERS)],
        resets=((1, PROTOCOL_ERROR),),
        served=((b"POST", b"/", b""),),
    ),
    Script(
        "pseudo-fields in trailers",
        [head(1, POSTS, END_HEADERS), head(1, GET)],
        resets=((1, PROTOCOL_ERROR),),
        served=((b"POST", b"/", b""),),
    ),
    Script(
        "DATA behind the end",
        [head(1), data(1, b"more")],
        resets=((1, STREAM_CLOSED),),
        served=(ONE,),
    ),
    Script(
        "HEADERS behind the end", [head(1), head(1)], resets=((1, STREAM_CLOSED),), served=(ONE,)
    ),
    Script(
        "a body in padded pieces",
        [
            head(1, POSTS, END_HEADERS),
            data(1, b"\x03ab\0\0\0", PADDED),
            data(1, b"c", END_STREAM),
        ],
        served=((b"POST", b"/", b"abc|end"),),
    ),
    Script(
        "a window too large for its stream",
        [head(1), frame(WINDOW_UPDATE, 0, 1, long(2**31 - 1))],
        resets=((1, FLOW_CONTROL_ERROR),),
        served=(ONE,),
    ),
    Script(
        "more streams than allowed",
        pairs(257, head(1, POSTS, END_HEADERS)),
        resets=((513, REFUSED_STREAM),),
        served=((b"POST", b"/", b""),) * 256,
    ),
    Script(
        "a header list too large",
        [head(1, HEAD + b"\x40\x01a" + b"\x7f\xa1\x1e" + b"x" * 4000 + b"\xbe" * 18), head(3)],
        answered=(431,),
        served=(ONE,),
    ),
    Script(
        "too many fields",
        [head(1, HEAD + text(b"a", b"b") * 130), head(3)],
        answered=(431,),
        served=(ONE,),
    ),
]

CONNECTIONS = [
    broken("DATA on stream 0", PROTOCOL_ERROR, data(0, b"x")),
    broken("HEADERS on stream 0", PROTOCOL_ERROR, head(0)),
    broken("DATA on an idle stream", PROTOCOL_ERROR, data(1, b"x")),
    broken("RST_STREAM on an idle stream", PROTOCOL_ERROR, frame(RST_STREAM, 0, 1, long(8))),
    broken("WINDOW_UPDATE on an idle stream", PROTOCOL_ERROR, frame(WINDOW_UPDATE, 0, 1, long(1))),
    broken("an even stream", PROTOCOL_ERROR, head(2)),
    broken("a stream older than the last", PROTOCOL_ERROR, head(5), head(3)),
    broken(
        "a stream that depends on itself",
        PROTOCOL_ERROR,
        head(1, long(1) + b"\0" + HEAD, OPEN | PRIORITISED),
    ),
    broken("PRIORITY on itself", PROTOCOL_ERROR, frame(PRIORITY, 0, 3, long(3) + b"\0")),
    broken("PRIORITY on stream 0", PROTOCOL_ERROR, frame(PRIORITY, 0, 0, bytes(5))),
    broken("PRIORITY of another size", FRAME_SIZE_ERROR, frame(PRIORITY, 0, 1, bytes(4))),
    broken("RST_STREAM of another size", FRAME_SIZE_ERROR, head(1), frame(RST_STREAM, 0, 1, b"x")),
    broken("SETTINGS on a stream", PROTOCOL_ERROR, frame(SETTINGS, 0, 1, b"")),
    broken("SETTINGS of another size", FRAME_SIZE_ERROR, frame(SETTINGS, 0, 0, b"12345")),
    broken("an acknowledgement with settings", FRAME_SIZE_ERROR, frame(SETTINGS, ACK, 0, bytes(6))),
    broken("ENABLE_PUSH of 2", PROTOCOL_ERROR, setting(2, 2)),
    broken("a window setting too large", FLOW_CONTROL_ERROR, setting(4, 2**31)),
    broken("a frame size too small", PROTOCOL_ERROR, setting(5, 16_383)),
    broken(
        "a window setting that overflows a stream",
        FLOW_CONTROL_ERROR,
        head(1),
        frame(WINDOW_UPDATE, 0, 1, long(2**30)),
        setting(4, 2**31 - 1),
    ),
    broken("PING on a stream", PROTOCOL_ERROR, frame(PING, 0, 1, bytes(8))),
    broken("PING of another size", FRAME_SIZE_ERROR, frame(PING, 0, 0, b"1")),
    broken("GOAWAY on a stream", PROTOCOL_ERROR, frame(GOAWAY, 0, 1, bytes(8))),
    broken("GOAWAY too short", FRAME_SIZE_ERROR, frame(GOAWAY, 0, 0, bytes(4))),
    broken("a push of a client", PROTOCOL_ERROR, frame(PUSH_PROMISE, 4, 1, long(2))),
    broken("a window that grows by nothing", PROTOCOL_ERROR, frame(WINDOW_UPDATE, 0, 0, long(0))),
    broken(
        "a window too large", FLOW_CONTROL_ERROR, *[frame(WINDOW_UPDATE, 0, 0, long(2**31 - 1))] * 2
    ),
    broken("WINDOW_UPDATE of another size", FRAME_SIZE_ERROR, frame(WINDOW_UPDATE, 0, 0, b"x")),
    broken(
        "more padding than payload",
        PROTOCOL_ERROR,
        head(1, POSTS, END_HEADERS),
        data(1, b"\x05abc", PADDED),
    ),
    broken(
        "a frame larger than allowed",
        FRAME_SIZE_ERROR,
        head(1, POSTS, END_HEADERS),
        data(1, bytes(16_385)),
    ),
    broken(
        "HEADERS too short for their priority",
        FRAME_SIZE_ERROR,
        head(1, b"123", OPEN | PRIORITISED),
    ),
    broken(
        "a block that is not continued",
        PROTOCOL_ERROR,
        head(1, HEAD, 0),
        frame(PING, 0, 0, bytes(8)),
    ),
    broken(
        "a block continued on another stream",
        PROTOCOL_ERROR,
        head(1, HEAD, 0),
        frame(CONTINUATION, 4, 3, b""),
    ),
    broken("CONTINUATION alone", PROTOCOL_ERROR, frame(CONTINUATION, 4, 1, HEAD)),
    broken(
        "a block that points nowhere", COMPRESSION_ERROR, head(1, b"\xff\x7f"), reason="bad_block"
    ),
    broken("index 0", COMPRESSION_ERROR, head(1, b"\x80"), reason="bad_block"),
    broken(
        "a table larger than allowed",
        COMPRESSION_ERROR,
        head(1, b"\x3f\xe2\x1f" + HEAD),
        reason="bad_block",
    ),
    broken(
        "a table that changes behind a field",
        COMPRESSION_ERROR,
        head(1, HEAD + b"\x20"),
        reason="bad_block",
    ),
    broken(
        "Huffman text padded with zeros",
        COMPRESSION_ERROR,
        head(1, HEAD + b"\x00\x01a\x81\x18"),
        reason="bad_block",
    ),
    broken(
        "HEADERS of a stream that is over",
        STREAM_CLOSED,
        head(1, HEAD + text(b"end", b"now")),
        head(1),
    ),
]

CANCEL_FRAME = frame(RST_STREAM, 0, 1, long(8))
FINE = [
    Script("a request", [head(1)], served=(ONE,)),
    Script(
        "unknown frames and flags",
        [frame(0x42, 0xFF, 7, b"x"), head(1, HEAD, OPEN | 0x10)],
        served=(ONE,),
    ),
    Script(
        "a block in pieces",
        [
            head(1, HEAD[:2], END_STREAM),
            frame(CONTINUATION, 0, 1, HEAD[2:4]),
            frame(CONTINUATION, 4, 1, HEAD[4:]),
        ],
        served=(ONE,),
    ),
    Script(
        "Host in place of the authority",
        [head(1, GET + HTTP + ROOT + text(b"host", b"web"))],
        served=(ONE,),
    ),
    Script("Host beside the authority", [head(1, HEAD + text(b"host", b"WEB"))], served=(ONE,)),
    Script("te: trailers", [head(1, HEAD + text(b"te", b"trailers"))], served=(ONE,)),
    Script(
        "OPTIONS *",
        [head(1, text(b":method", b"OPTIONS") + HTTP + HOST + text(b":path", b"*"))],
        served=((b"OPTIONS", b"*", b""),),
    ),
    Script(
        "a method of its own",
        [head(1, text(b":method", b"PURGE_1") + HTTP + ROOT + HOST)],
        served=((b"PURGE_1", b"/", b""),),
    ),
    Script(
        "trailers",
        [head(1, POSTS, END_HEADERS), data(1, b"abc"), head(1, text(b"a", b"b"))],
        served=((b"POST", b"/", b"abc|end"),),
    ),
    Script(
        "a priority and padding",
        [head(1, b"\x02" + bytes(4) + b"\x10" + HEAD + b"\0\0", OPEN | PADDED | PRIORITISED)],
        served=(ONE,),
    ),
    Script("PRIORITY before a stream", [frame(PRIORITY, 0, 9, bytes(5)), head(1)], served=(ONE,)),
    Script(
        "CONNECT",
        [head(1, text(b":method", b"CONNECT") + text(b":authority", b"web:80"), END_HEADERS)],
        served=((b"CONNECT", b"web:80", b""),),
    ),
    Script("a stream that is left out", [head(1), head(7)], served=(ONE, ONE)),
    Script("some pings", [frame(PING, 0, 0, bytes(8))] * 20 + [head(1)], served=(ONE,)),
    Script("a request given up", [head(1), CANCEL_FRAME, head(3)], served=(ONE, ONE)),
    Script(
        "a frame that our reset crossed",
        [head(1, GET), data(1, b"x"), head(3)],
        resets=((1, PROTOCOL_ERROR),),
        served=(ONE,),
    ),
]

SCRIPTS = [*FINE, *MALFORMED, *BODIES, *CONNECTIONS]
