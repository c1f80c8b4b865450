"""Requests of clients: what passes, and in which form; what is refused, and why."""

from __future__ import annotations

import contextlib

import pytest

from mesh.core.errors import PeerError
from proxy import guard
from proxy.http1 import COLLECT, request_head
from proxy.http1_request import RequestReader
from tests.proxy.sinks import Sink, names, pairs, read_requests, refusal

GOOD = [
    (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", [(b"GET", b"/", b"")]),
    (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", [(b"GET", b"/", b"")]),
    (b"GET /?q=%20 HTTP/1.1\r\nhOsT:  a.b:80 \r\n\r\n", [(b"GET", b"/?q=%20", b"")]),
    (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", [(b"OPTIONS", b"*", b"")]),
    (b"GET http://a/x HTTP/1.1\r\nHost: A\r\n\r\n", [(b"GET", b"http://a/x", b"")]),
    (b"GET / HTTP/1.0\r\n\r\n", [(b"GET", b"/", b"")]),
    (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", [(b"GET", b"/", b"")]),
    (b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", [(b"POST", b"/b", b"abc")]),
    (b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", [(b"POST", b"/b", b"")]),
    (b"GET /b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", [(b"GET", b"/b", b"hi")]),
    (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"
        b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n",
        [(b"POST", b"/", b"abc0123456789")],
    ),
    (
        b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
        b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"
        b"GET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
        [(b"GET", b"/1", b""), (b"POST", b"/2", b"x"), (b"GET", b"/3", b"")],
    ),
    (
        b"POST /c HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABk\r\nContent-Length: 2\r\n\r\nhi"
        b"GET /d HTTP/1.1\r\nHost: a\r\n\r\n",
        [(b"POST", b"/c", b"hi"), (b"GET", b"/d", b"")],
    ),
    (
        b"POST /c HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\nGET /d HTTP/1.1\r\nHost: a\r\n\r\n",
        [(b"POST", b"/c", b"hi"), (b"GET", b"/d", b"")],
    ),
]


@pytest.mark.parametrize("step", [0, 1, 7])
@pytest.mark.parametrize(("data", "expected"), GOOD)
def test_a_good_request_reads_the_same_in_any_pieces(
    data: bytes, expected: list[tuple[bytes, bytes, bytes]], step: int
) -> None:
    sink = read_requests(data, step=step)

    assert [(m.head.method, m.head.target, m.body) for m in sink.messages] == expected
    assert all(message.ended for message in sink.messages)


H = b"Host: a\r\n"
REFUSED = {
    "no-host": (b"GET / HTTP/1.1\r\n\r\n", "bad_host"),
    "two-hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "two_hosts"),
    "host-with-path": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "bad_host"),
    "host-with-user": (b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", "bad_host"),
    "host-with-space": (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "bad_host"),
    "host-list": (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "bad_host"),
    "bad-host-in-1.0": (b"GET / HTTP/1.0\r\nHost: a/b\r\n\r\n", "bad_host"),
    "absolute-conflict": (b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", "host_conflict"),
    "absolute-user": (b"GET http://u@a/ HTTP/1.1\r\nHost: u@a\r\n\r\n", "bad_host"),
    "fragment": (b"GET /a#b HTTP/1.1\r\n" + H + b"\r\n", "bad_target"),
    "no-slash": (b"GET a HTTP/1.1\r\n" + H + b"\r\n", ""),
    "star-get": (b"GET * HTTP/1.1\r\n" + H + b"\r\n", "bad_target"),
    "http/2": (b"GET / HTTP/2.0\r\n" + H + b"\r\n", ""),
    "http/0.9": (b"GET /\r\n\r\n", ""),
    "http/1.2": (b"GET / HTTP/1.2\r\n" + H + b"\r\n", ""),
    "cl-te": (
        b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "",
    ),
    "te-cl": (
        b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
        "",
    ),
    "two-cl": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na", ""),
    "cl-list": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 1, 1\r\n\r\na", ""),
    "cl-plus": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: +1\r\n\r\na", ""),
    "cl-negative": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: -1\r\n\r\na", ""),
    "cl-hex": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 0x1\r\n\r\na", ""),
    "cl-huge": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", ""),
    "cl-empty": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: \r\n\r\n", ""),
    "te-gzip-chunked": (
        b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "bad_coding",
    ),
    "te-chunked-twice": (
        b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "",
    ),
    "te-two-fields": (
        b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "",
    ),
    "te-identity": (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: identity\r\n\r\n", ""),
    "te-xchunked": (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: xchunked\r\n\r\n", ""),
    "te-quoted": (b"POST / HTTP/1.1\r\n" + H + b'Transfer-Encoding: "chunked"\r\n\r\n', ""),
    "te-tab": (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding:\x0bchunked\r\n\r\n", ""),
    "te-in-1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ""),
    "te-twin": (b"POST / HTTP/1.1\r\n" + H + b"Transfer_Encoding: chunked\r\n\r\n", "field_twin"),
    "cl-twin": (b"POST / HTTP/1.1\r\n" + H + b"content_length: 3\r\n\r\n", "field_twin"),
    "space-before-colon": (b"GET / HTTP/1.1\r\n" + H + b"A : b\r\n\r\n", ""),
    "obs-fold": (b"GET / HTTP/1.1\r\n" + H + b"A: b\r\n c\r\n\r\n", ""),
    "fold-first": (b"GET / HTTP/1.1\r\n A: b\r\n" + H + b"\r\n", ""),
    "bare-lf-head": (b"GET / HTTP/1.1\n" + H + b"\r\n", ""),
    "bare-lf-field": (b"GET / HTTP/1.1\r\nHost: a\n\r\n", ""),
    "bare-cr-value": (b"GET / HTTP/1.1\r\n" + H + b"A: b\rc\r\n\r\n", ""),
    "nul-value": (b"GET / HTTP/1.1\r\n" + H + b"A: b\x00c\r\n\r\n", ""),
    "control-value": (b"GET / HTTP/1.1\r\n" + H + b"A: b\x01c\r\n\r\n", ""),
    "del-value": (b"GET / HTTP/1.1\r\n" + H + b"A: b\x7fc\r\n\r\n", ""),
    "name-with-paren": (b"GET / HTTP/1.1\r\n" + H + b"A(b: c\r\n\r\n", ""),
    "empty-name": (b"GET / HTTP/1.1\r\n" + H + b": c\r\n\r\n", ""),
    "no-colon": (b"GET / HTTP/1.1\r\n" + H + b"Abc\r\n\r\n", ""),
    "unknown-method": (b"BREW / HTTP/1.1\r\n" + H + b"\r\n", "bad_method"),
    "lower-method": (b"get / HTTP/1.1\r\n" + H + b"\r\n", ""),
    "nul-target": (b"GET /\x00 HTTP/1.1\r\n" + H + b"\r\n", ""),
    "tab-in-line": (b"GET\t/ HTTP/1.1\r\n" + H + b"\r\n", ""),
    "chunk-size-0x": (
        b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
        "",
    ),
    "chunk-size-negative": (
        b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n-1\r\na\r\n0\r\n\r\n",
        "",
    ),
    "chunk-size-space": (
        b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n",
        "",
    ),
    "chunk-size-overflow": (
        b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n"
        b"fffffffffffffffff\r\na\r\n",
        "",
    ),
    "chunk-bare-lf": (
        b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
        "",
    ),
    "chunk-no-crlf": (
        b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab0\r\n\r\n",
        "",
    ),
    "chunk-ext-lf": (
        b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n1;a\nb\r\na\r\n0\r\n\r\n",
        "",
    ),
    "chunk-ext-long": (
        b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n"
        b"1;" + b"x" * 50000 + b"\r\na\r\n0\r\n\r\n",
        "chunk_overhead",
    ),
    "trailers-long": (
        b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n"
        b"0\r\nA: " + b"x" * 50000 + b"\r\n\r\n",
        "chunk_overhead",
    ),
    "connection-names-length": (
        b"POST / HTTP/1.1\r\n" + H + b"Connection: content-length\r\nContent-Length: 1\r\n\r\na",
        "bad_connection",
    ),
    "connection-names-host": (
        b"GET / HTTP/1.1\r\n" + H + b"Connection: close, Host\r\n\r\n",
        "bad_connection",
    ),
    "upgrade-with-body": (
        b"GET / HTTP/1.1\r\n" + H + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Content-Length: 1\r\n\r\na",
        "upgrade_with_body",
    ),
    "connect-with-path": (b"CONNECT /a HTTP/1.1\r\n" + H + b"\r\n", ""),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", ""),
}


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("name", REFUSED)
def test_a_request_that_could_be_read_two_ways_is_refused(name: str, step: int) -> None:
    data, reason = REFUSED[name]

    error = refusal(data + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", step=step)

    assert error is not None
    assert 400 <= error.status <= 505
    assert not reason or error.reason == reason


@pytest.mark.parametrize("name", REFUSED)
def test_nothing_behind_a_refused_request_is_read(name: str) -> None:
    sink = Sink()
    reader = sink.reader = RequestReader(sink)

    with pytest.raises(PeerError):
        reader.feed(REFUSED[name][0] + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")

    assert all(m.head.target != b"/smuggled" for m in sink.messages if m.ended)


def test_hop_by_hop_fields_go_and_the_rest_keeps_order_and_case() -> None:
    sink = read_requests(
        b"GET / HTTP/1.1\r\nhost: a\r\nX-ONE: 1\r\nConnection: X-Two, keep-alive\r\nX-Two: 2\r\n"
        b"Keep-Alive: timeout=5\r\nProxy-Connection: x\r\nTE: gzip, trailers\r\nx-one: 3\r\n\r\n"
    )

    head = request_head(sink.messages[0].head, [])

    assert head == (b"GET / HTTP/1.1\r\nhost: a\r\nX-ONE: 1\r\nTE: trailers\r\nx-one: 3\r\n\r\n")


@pytest.mark.parametrize(
    "name", [b"l5d-client-id", b"L5d_Client_Id", b"mesh-anything", b"Mesh_Reason"]
)
def test_fields_of_the_mesh_are_stripped_from_clients(name: bytes) -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\n" + name + b": forged\r\nMeshed: no\r\n\r\n"

    sink = read_requests(data)

    assert names(sink.messages[0].head.fields) == [b"Host", b"Meshed"]
    assert sink.messages[0].head.ours is None


def test_of_te_nothing_but_trailers_is_passed_on() -> None:
    sink = read_requests(b"GET / HTTP/1.1\r\nHost: a\r\nTE: gzip\r\n\r\n")

    assert names(sink.messages[0].head.fields) == [b"Host"]


def test_fields_of_the_mesh_from_a_proxy_are_set_aside() -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\nL5D-Dst-Canonical: web:80\r\n\r\n"

    sink = read_requests(data, trust=COLLECT)

    assert sink.messages[0].head.ours == {b"l5d-dst-canonical": b"web:80"}
    assert names(sink.messages[0].head.fields) == [b"Host"]


def test_trailers_pass_without_those_that_may_not_come_late() -> None:
    sink = read_requests(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
        b"X-Sum: 1\r\nHost: b\r\nl5d-client-id: x\r\nCookie: a\r\n\r\n"
    )

    assert pairs(sink.messages[0].trailers) == [(b"X-Sum", b"1")]


def test_a_second_request_waits_for_the_answer_to_the_first() -> None:
    sink = Sink(answers=False)
    reader = sink.reader = RequestReader(sink)
    one = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"

    reader.feed(b"".join(one % i for i in range(3)))
    reader.feed(one % 3)
    assert [m.head.target for m in sink.messages] == [b"/0"]

    reader.next()
    assert [m.head.target for m in sink.messages] == [b"/0", b"/1"]
    reader.next()
    reader.next()
    assert [m.head.target for m in sink.messages] == [b"/0", b"/1", b"/2", b"/3"]


def test_nothing_is_read_behind_connection_close() -> None:
    data = (
        b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n"
    )

    for step in (0, 1):
        sink = read_requests(data, step=step)

        assert [m.head.target for m in sink.messages] == [b"/1"]
        assert sink.messages[0].head.keep_alive is False


def test_bytes_behind_an_upgrade_are_held_back() -> None:
    data = (
        b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    sink = Sink()
    reader = sink.reader = RequestReader(sink)

    reader.feed(data)

    assert [m.head.upgrade for m in sink.messages] == [b"websocket"]
    assert reader.tunnel_now() == b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    reader.feed(b"more")
    assert sink.tunnel == b"more"


def test_connect_is_a_tunnel() -> None:
    sink = read_requests(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n")

    assert sink.messages[0].head.upgrade == b"connect"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"a" * 17_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 100_000, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 100_000, 431),
        (b"A" * 100_000, 501),
    ],
)
def test_limits_hold_in_any_pieces(data: bytes, status: int) -> None:
    for step in (0, 1000, 65_000):
        error = refusal(data, step=step)

        assert error is not None
        assert error.status in (status, 400)


def test_a_head_that_trickles_in_costs_no_more_than_its_limit() -> None:
    reader = RequestReader(Sink())
    reader.feed(b"GET / HTTP/1.1\r\nHost: a\r\nA: ")
    fed = 0

    with contextlib.suppress(PeerError):
        while fed < 1_000_000:
            reader.feed(b"b" * 500)
            fed += 500

    assert fed < guard.MAX_HEAD + 1000


@pytest.mark.parametrize("answers", [True, False])
def test_half_a_head_is_parsed_anew_and_told_once(answers: bool) -> None:
    one, two = (b"GET /%d HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\r\n" % n for n in (1, 2))
    both = one + two
    for first in range(1, len(both)):
        for second in range(first, len(both)):
            sink = Sink(answers=answers)
            sink.reader = RequestReader(sink)
            for piece in (both[:first], both[first:second], both[second:]):
                sink.reader.feed(piece) if piece else None
            if not answers:
                sink.reader.next()

            assert [m.head.target for m in sink.messages] == [b"/1", b"/2"]
            assert [len(m.head.fields) for m in sink.messages] == [8, 8]
