"""Raw HTTP/1 messages that readers have been known to understand differently.

Each hides a request for /smuggled, or could. `refused`: the first request must be answered with
an error of our own and nothing may arrive. `arrives`: the targets that must arrive, in order.
Neither: it may be refused or forwarded, but only in plain form. The port is declared HTTP/1:
where nothing is declared, bytes that begin no request are another protocol's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

HIDDEN = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


@dataclass(frozen=True)
class Attack:
    name: str
    raw: bytes
    refused: bool = False
    is_plain: bool = False  # the hidden request is the next one, where the first is taken
    arrives: tuple[bytes, ...] | None = None


def post(fields: bytes, body: bytes = b"", *, host: bytes = b"Host: a\r\n") -> bytes:
    return b"POST /outer HTTP/1.1\r\n" + host + fields + b"\r\n" + body


def get(
    fields: bytes = b"", *, line: bytes = b"GET /outer HTTP/1.1", host: bytes = b"Host: a\r\n"
) -> bytes:
    return line + b"\r\n" + host + fields + b"\r\n"


def lengths() -> Iterator[Attack]:
    odd = (
        b"+5 -5 0x5 5,5 5;5 5.0 5e0 5a a5 '5' 1_0 \xd9\xa5 ++5 5- 5/1 0b101 0o5 5L $5 %35 [5] "
        b"99999999999999999999 18446744073709551621 4294967301x -0 5\xa0 \xa05"
    ).split(b" ")
    for value in (*odd, b"5, 5", b"5 5", b"", b"5\x00", b"5\x0b", b"\x0c5", b"5,", b",5"):
        yield Attack(
            f"length {value!r}",
            post(b"Content-Length: " + value + b"\r\n", b"hello" + HIDDEN),
            refused=True,
        )
    for value in (b"5", b" 5", b"5 ", b"\t5", b"05", b"0000000005"):
        raw = post(b"Content-Length:" + value + b"\r\n", b"hello")
        yield Attack(f"length {value!r}, honest", raw, arrives=(b"/outer",))
    two = b"Content-Length: 5\r\n"
    for other in (
        b"Content-Length: 5\r\n",
        b"content-length: 6\r\n",
        b"CONTENT-LENGTH: 0\r\n",
        b"Content-Length : 0\r\n",
        b"Content_Length: 0\r\n",
        b"Content-Length\t: 0\r\n",
        b" Content-Length: 0\r\n",
        b"Content-Length\x00: 0\r\n",
        b"Content-Length\x0b: 0\r\n",
        b"\x00Content-Length: 0\r\n",
    ):
        for fields in dict.fromkeys((two + other, other + two)):
            yield Attack(f"{fields!r}", post(fields, b"hello" + HIDDEN), refused=True)


def codings() -> Iterator[Attack]:
    values = (
        b"chunked, identity",
        b"identity",
        b"identity, chunked",
        b"gzip, chunked",
        b"gzip",
        b"chunked, chunked",
        b"xchunked",
        b"chunkedx",
        b"chunked;q=1",
        b'"chunked"',
        b"chunked,",
        b",chunked",
        b"chunk",
        b"\x0bchunked",
        b"chunked\x0c",
        b"\xa0chunked",
        b"chunked\x00",
        b"x, chunked",
        b"chunked x",
        b"chunked\x85",
        b"cow",
        b"",
        b"[chunked]",
        b"chunk\xc3\xa9d",
    )
    for value in values:
        field = b"Transfer-Encoding: " + value + b"\r\n"
        yield Attack(f"coding {value!r}", post(field, b"0\r\n\r\n" + HIDDEN), refused=True)
        yield Attack(
            f"coding {value!r} and a length",
            post(field + b"Content-Length: 5\r\n", b"0\r\n\r\n" + HIDDEN),
            refused=True,
        )
    for value in (b"chunked", b"Chunked", b"CHUNKED", b"  chunked", b"chunked ", b"\tchunked"):
        raw = post(b"Transfer-Encoding:" + value + b"\r\n", b"5\r\nhello\r\n0\r\n\r\n")
        yield Attack(f"coding {value!r}, honest", raw, arrives=(b"/outer",))
    for name in (
        b"Transfer-Encoding ",
        b"Transfer-Encoding\t",
        b" Transfer-Encoding",
        b"Transfer_Encoding",
        b"Transfer-Encoding\x00",
        b"\x0bTransfer-Encoding",
        b"Transfer Encoding",
        b"Transfer-\x00Encoding",
        b"Foo: bar\r\n Transfer-Encoding",
        b"Foo: bar\nTransfer-Encoding",
        b"Foo: bar\rTransfer-Encoding",
        b":Transfer-Encoding",
        b"Transfer-Encoding:\r\n ",
    ):
        field = name + b": chunked\r\nContent-Length: 5\r\n"
        yield Attack(f"coding as {name!r}", post(field, b"0\r\n\r\n" + HIDDEN), refused=True)
    both = b"Content-Length: %d\r\n" % len(b"0\r\n\r\n" + HIDDEN)
    for fields in (
        both + CHUNKED,
        CHUNKED + both,
        CHUNKED + CHUNKED,
        CHUNKED + b"Transfer-Encoding: identity\r\n",
    ):
        yield Attack(f"{fields!r}", post(fields, b"0\r\n\r\n" + HIDDEN), refused=True)
    yield Attack(
        "chunks in 1.0",
        b"POST /outer HTTP/1.0\r\nHost: a\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + HIDDEN,
        refused=True,
    )


def chunks() -> Iterator[Attack]:
    bad = (
        b"5\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"g\r\nhello\r\n0\r\n\r\n",
        b"\r\nhello\r\n0\r\n\r\n",
        b"5\rhello\r\n0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\r0\r\n\r\n",
        b"ffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        b"10000000000000005\r\nhello\r\n0\r\n\r\n",
        b"5\x00\r\nhello\r\n0\r\n\r\n",
        b"5,5\r\nhello\r\n0\r\n\r\n",
        b"5.0\r\nhello\r\n0\r\n\r\n",
        b"\xef\xbc\x95\r\nhello\r\n0\r\n\r\n",
        b"5\r\n\r\nhello\r\n0\r\n\r\n",
        b"5;a\nb\r\nhello\r\n0\r\n\r\n",
        b"5;a\x00\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
        b"5\r\nhello\r\n0\r\nno colon\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX: a\x00b\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX: a\rb\r\n\r\n",
        b"5\r\nhello\r\n0\n\r\n",
        b"5\r\nhello\r\n0\n\n",
    )
    for body in bad:
        yield Attack(f"chunks {body!r}", post(CHUNKED, body + HIDDEN), refused=True)
    for body in (
        b"5\r\nhello\r\n0\r\n\r\n",
        b"05\r\nhello\r\n0\r\n\r\n",
        b"5;a=b\r\nhello\r\n0\r\n\r\n",
        b'5;a="b;c"\r\nhello\r\n0\r\n\r\n',
        b"5\r\nhello\r\n000\r\n\r\n",
        b"5\r\nhello\r\n0;x\r\n\r\n",
        b"2\r\nhe\r\n3\r\nllo\r\n0\r\nX: y\r\n\r\n",
        b"A\r\nhellohello\r\n0\r\n\r\n",
        b"a\r\nhellohello\r\n0\r\n\r\n",
    ):
        yield Attack(
            f"chunks {body!r}, honest",
            post(CHUNKED, body) + get(line=b"GET /next HTTP/1.1"),
            arrives=(b"/outer", b"/next"),
        )
    for body in (
        b"5\r\nhello\r\n0\r\nHost: b\r\nContent-Length: 9\r\nAuthorization: z\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"5\t\r\nhello\r\n0\r\n\r\n",
        b"5 ;a\r\nhello\r\n0\r\n\r\n",
        b"5;\r\nhello\r\n0\r\n\r\n",
        b'5;a="\r\n"\r\nhello\r\n0\r\n\r\n',
    ):
        yield Attack(f"chunks {body!r}, odd", post(CHUNKED, body))


def lines() -> Iterator[Attack]:
    bad = (
        b"GET\t/outer HTTP/1.1",
        b" GET /outer HTTP/1.1",
        b"get /outer HTTP/1.1",
        b"G\xc3\xa9T /outer HTTP/1.1",
        b"GET /outer HTTP/2.0",
        b"GET /outer HTTP/1.2",
        b"GET /outer HTTP/0.9",
        b"GET /outer HTTP/1",
        b"GET /outer HTTP/1.1 ",
        b"GET /outer http/1.1",
        b"GET /outer HTTP/1.1\x00",
        b"GET /outer",
        b"GET /out er HTTP/1.1",
        b"GET /outer\x00 HTTP/1.1",
        b"GET /outer\x0b HTTP/1.1",
        b"GET /outer\x7f HTTP/1.1",
        b"GET /outer#x HTTP/1.1",
        b"GET outer HTTP/1.1",
        b"GET * HTTP/1.1",
        b"GET a:80 HTTP/1.1",
        b"GET http://b/outer HTTP/1.1",
        b"GET http://a@b/outer HTTP/1.1",
        b"GET http:///outer HTTP/1.1",
        b"GET ftp://a/outer HTTP/1.1",
        b"GET //a\r/outer HTTP/1.1",
        b"CONNECT /outer HTTP/1.1",
        b"CONNECT a HTTP/1.1",
        b"FOO /outer HTTP/1.1",
        b"PRI * HTTP/1.1",
        b"GET /outer HTTP/11",
        b"GET /outer HTTP/1.10",
        b"GET /" + b"x" * 17_000 + b" HTTP/1.1",
        b"G ET /outer HTTP/1.1",
        b"GET: /outer HTTP/1.1",
        b"GET /outer HTTP\\1.1",
        b"GET /outer HTTP/1,1",
    )
    for line in bad:
        yield Attack(f"line {line[:40]!r}", get(line=line) + HIDDEN, refused=True)
    for line in (b"GET  /outer HTTP/1.1", b"GET /outer  HTTP/1.1"):
        yield Attack(f"line {line!r}, made plain", get(line=line), arrives=(b"/outer",))
    for line, target in (
        (b"\r\nGET /outer HTTP/1.1", b"/outer"),
        (b"GET http://a/outer HTTP/1.1", b"http://a/outer"),
        (b"OPTIONS * HTTP/1.1", b"*"),
        (b"GET /outer?a=b%20c HTTP/1.1", b"/outer?a=b%20c"),
        (b"DELETE /outer HTTP/1.1", b"/outer"),
        (b"GET //outer HTTP/1.1", b"//outer"),
        (b"GET /a;b=c/../d HTTP/1.1", b"/a;b=c/../d"),
    ):
        yield Attack(f"line {line!r}, honest", get(line=line), arrives=(target,))


def hosts() -> Iterator[Attack]:
    for host in (
        b"",
        b"Host:\r\n",
        b"Host: a\r\nHost: a\r\n",
        b"Host: a\r\nHost: b\r\n",
        b"Host: a/b\r\n",
        b"Host: u@a\r\n",
        b"Host: a b\r\n",
        b"Host: a:x\r\n",
        b"Host: a:1:2\r\n",
        b"Host: a\x00\r\n",
        b"Host: a#b\r\n",
        b"Host: a?b\r\n",
        b"Host: [::1\r\n",
        b"Host : a\r\n",
        b"Host: a\r\n b\r\n",
        b"X: y\r\n Host: a\r\n",
        b"Host: \xc3\xa9\r\n",
        b"Host: a\\b\r\n",
        b"HOST: a\r\nhost: a\r\n",
        b"Host: http://a\r\n",
        b"Host\x00: a\r\n",
        b"Host: a:123456\r\n",
    ):
        yield Attack(f"host {host!r}", get(host=host) + HIDDEN, refused=True)
    for host in (
        b"Host: a\r\n",
        b"hOsT: a\r\n",
        b"Host:a\r\n",
        b"Host: a:80\r\n",
        b"Host: a:\r\n",
        b"Host: [::1]:80\r\n",
        b"Host: a \r\n",
    ):
        yield Attack(f"host {host!r}, honest", get(host=host), arrives=(b"/outer",))


def fields() -> Iterator[Attack]:
    for field in (
        b"X Y: z\r\n",
        b"X\x00: z\r\n",
        b"X: a\x00b\r\n",
        b"X: a\rb\r\n",
        b"X: a\nGET /smuggled HTTP/1.1\r\n",
        b": z\r\n",
        b"no colon\r\n",
        b"X\x7f: z\r\n",
        b"X\xc3\xa9: z\r\n",
        b"X(y): z\r\n",
        b"X: a\r\n folded\r\n",
        b"X: a\r\n\tfolded\r\n",
        b"X: a\x0bb\r\n",
        b"X: a\x08b\r\n",
        b"X: a\x7fb\r\n",
        b"X{: z\r\n",
        b"X,Y: z\r\n",
        b"X@: z\r\n",
        b"\x0bX: z\r\n",
        b"\tX: z\r\n",
        b"X: " + b"z" * 70_000 + b"\r\n",
        b"X: z\r\n" * 200,
        b"Connection: Content-Length\r\nContent-Length: 0\r\n",
        b"Connection: close, Transfer-Encoding\r\n",
        b"Connection: Host\r\n",
        b"Connection: keep-alive, content-type\r\n",
    ):
        yield Attack(f"field {field[:30]!r}", get(field) + HIDDEN, refused=True)
    for field in (
        b"X: \xff\r\n",
        b"X:\r\n",
        b"X:    y   \r\n",
        b"x-y_z: 1\r\n",
        b"Connection: X-Hop\r\nX-Hop: gone\r\n",
        b"Keep-Alive: 1\r\n",
        b"Proxy-Connection: close\r\n",
        b"TE: gzip, trailers\r\n",
        b"l5d-client-id: forged\r\n",
        b"Mesh-Reason: forged\r\n",
        b"L5D_CLIENT_ID: forged\r\n",
        b"HTTP2-Settings: AAMAAABk\r\n",
        b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n",
    ):
        yield Attack(f"field {field!r}, honest", get(field), arrives=(b"/outer",))


def bodies() -> Iterator[Attack]:
    for method in (b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"PUT", b"PATCH"):
        line = method + b" /outer HTTP/1.1"
        sized = b"Content-Length: %d\r\n" % len(HIDDEN)
        yield Attack(
            f"{method.decode()} with a body", get(sized, line=line) + HIDDEN, arrives=(b"/outer",)
        )
        piece = b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
        yield Attack(
            f"{method.decode()} with chunks", get(CHUNKED, line=line) + piece, arrives=(b"/outer",)
        )
    for expect in (b"100-continue", b"100-Continue", b"100-continue, x", b"x"):
        raw = post(b"Expect: " + expect + b"\r\nContent-Length: %d\r\n" % len(HIDDEN), HIDDEN)
        yield Attack(f"expect {expect!r}", raw)
    for upgrade in (b"websocket", b"h2c", b"TLS/1.0", b"websocket, h2c", b"x"):
        asks = b"Connection: Upgrade\r\nUpgrade: " + upgrade + b"\r\n"
        yield Attack(
            f"upgrade to {upgrade!r} and more", get(asks) + HIDDEN, is_plain=b"h2c" in upgrade
        )
        yield Attack(
            f"upgrade to {upgrade!r} with a body",
            post(asks + b"Content-Length: %d\r\n" % len(HIDDEN), HIDDEN),
        )
    yield Attack(
        "CONNECT and more", b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n" + HIDDEN, is_plain=True
    )
    yield Attack(
        "CONNECT with a body",
        b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\n\r\nhello" + HIDDEN,
        refused=True,
    )
    yield Attack(
        "two in one", get() + get(line=b"GET /next HTTP/1.1"), arrives=(b"/outer", b"/next")
    )
    yield Attack(
        "a body and the next",
        post(b"Content-Length: 5\r\n", b"hello") + get(line=b"GET /next HTTP/1.1"),
        arrives=(b"/outer", b"/next"),
    )
    yield Attack("close and more", get(b"Connection: close\r\n") + HIDDEN, arrives=(b"/outer",))
    yield Attack("1.0 and more", b"GET /outer HTTP/1.0\r\n\r\n" + HIDDEN, arrives=(b"/outer",))
    yield Attack("bare line feeds", b"GET /outer HTTP/1.1\nHost: a\n\n" + HIDDEN, refused=True)
    yield Attack("a body that never comes", post(b"Content-Length: 500\r\n", HIDDEN), arrives=())


ATTACKS = [
    *lengths(),
    *codings(),
    *chunks(),
    *lines(),
    *hosts(),
    *fields(),
    *bodies(),
]
