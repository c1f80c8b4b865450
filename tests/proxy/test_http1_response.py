"""Responses of servers: where each ends, what passes, what is refused."""

from __future__ import annotations

import pytest

from mesh.core.errors import PeerError
from proxy.http1 import KEEP, UNTIL_END, Response, last_chunk, response_head
from proxy.http1_response import ResponseReader
from tests.proxy.sinks import Sink, names, pairs, read_responses

OK = b"HTTP/1.1 200 OK\r\n"


def summary(sink: Sink) -> list[tuple[int, bytes]]:
    assert all(message.ended for message in sink.messages if message.head.status >= 200)
    return [(message.head.status, message.body) for message in sink.messages]


@pytest.mark.parametrize("step", [0, 1, 5])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (OK + b"Content-Length: 2\r\n\r\nhi", [(200, b"hi")]),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", [(200, b"hi")]),
        (b"HTTP/1.1 204 No Content\r\n\r\n", [(204, b"")]),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", [(304, b"")]),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
            + OK
            + b"Content-Length: 1\r\n\r\nx",
            [(100, b""), (103, b""), (200, b"x")],
        ),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", [(200, b"")]),
    ],
)
def test_a_response_reads_the_same_in_any_pieces(
    data: bytes, expected: list[tuple[int, bytes]], step: int
) -> None:
    assert summary(read_responses(data, step=step)) == expected


@pytest.mark.parametrize("step", [0, 1])
def test_a_response_to_head_has_no_body(step: int) -> None:
    data = OK + b"Content-Length: 9\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\nx"
    pieces = data if step else data[: len(OK) + 21]
    rest = b"" if step else data[len(OK) + 21 :]
    sink = Sink()
    reader = sink.reader = ResponseReader()
    reader.expect(b"HEAD", sink)
    for i in range(0, len(pieces), step or len(pieces)):
        if reader.sink is None:
            reader.expect(b"GET", sink)
        reader.feed(pieces[i : i + (step or len(pieces))])
    if rest:
        reader.expect(b"GET", sink)
        reader.feed(rest)

    assert summary(sink) == [(200, b""), (200, b"x")]


def test_without_a_length_the_end_of_the_connection_ends_the_body() -> None:
    sink = read_responses(OK + b"\r\nall that", b"GET", ended=True)

    assert summary(sink) == [(200, b"all that")]
    assert sink.messages[0].head.framing == UNTIL_END


@pytest.mark.parametrize(
    "data",
    [
        OK + b"Content-Length: 9\r\n\r\nhalf",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhalf",
        OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        OK,
        b"",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_a_truncated_response_does_not_pass_for_complete(data: bytes) -> None:
    sink = Sink()
    reader = sink.reader = ResponseReader()
    reader.expect(b"GET", sink)
    reader.feed(data)

    assert reader.eof() is False
    assert not any(message.ended for message in sink.messages)


@pytest.mark.parametrize(
    "data",
    [
        OK + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
        OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Content-Length: x\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        OK + b"A: b\r\n c\r\n\r\n",
        OK + b"A: b\nB: c\r\n\r\n",
        OK + b"A: b\x00\r\n\r\n",
        OK + b"A : b\r\n\r\n",
        OK + b"A: " + b"b" * 70_000,
        OK + b"A: b\r\n" * 200 + b"\r\n",
        b"HTTP/3.0 200 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 99 OK\r\n\r\n",
    ],
)
def test_what_is_no_response_is_a_bad_gateway(data: bytes) -> None:
    for step in (0, 1):
        with pytest.raises(PeerError) as caught:
            read_responses(data, step=step)

        assert caught.value.status == 502


@pytest.mark.parametrize(
    ("method", "data"),
    [
        (b"GET", OK + b"Content-Length: 1\r\n\r\na" + OK + b"Content-Length: 1\r\n\r\nb"),
        (b"HEAD", OK + b"Content-Length: 1\r\n\r\na"),
        (b"GET", b"HTTP/1.1 204 No\r\n\r\nbody"),
        (b"GET", OK + b"Content-Length: 1\r\nConnection: close\r\n\r\nab"),
    ],
)
def test_bytes_that_nobody_asked_for_are_refused(method: bytes, data: bytes) -> None:
    sink = Sink()
    reader = sink.reader = ResponseReader()
    reader.expect(method, sink)

    with pytest.raises(PeerError):
        reader.feed(data)


def test_an_upgrade_ends_http() -> None:
    data = b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nframes"

    for step in (0, 1):
        sink = read_responses(data, step=step)

        assert sink.messages[0].head.upgrade == b"websocket"
        assert sink.tunnel == b"frames"


def test_a_connect_that_succeeds_ends_http() -> None:
    for step in (0, 1):
        sink = read_responses(b"HTTP/1.1 200 Fine\r\n\r\nraw", b"CONNECT", step=step)

        assert sink.messages[0].head.upgrade == b"connect"
        assert sink.tunnel == b"raw"


def test_an_application_cannot_speak_for_the_mesh() -> None:
    data = OK + b"mesh-reason: lies\r\nL5d-Proxy-Error: x\r\nContent-Length: 0\r\n\r\n"

    assert names(read_responses(data).messages[0].head.fields) == [b"Content-Length"]
    assert names(read_responses(data, trust=KEEP).messages[0].head.fields) == [
        b"mesh-reason",
        b"L5d-Proxy-Error",
        b"Content-Length",
    ]


def test_trailers_come_with_the_end() -> None:
    data = OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\nSet-Cookie: a\r\n\r\n"

    sink = read_responses(data)

    assert pairs(sink.messages[0].trailers) == [(b"X-Sum", b"1")]
    assert last_chunk(sink.messages[0].trailers) == b"0\r\nX-Sum: 1\r\n\r\n"


def test_a_head_is_written_as_it_came() -> None:
    data = b"HTTP/1.1 404 Nicht da\r\nX-One: 1\r\nx-ONE: 2\r\nContent-Length: 0\r\n\r\n"

    head = response_head(read_responses(data).messages[0].head, [])

    assert head == data


def test_a_phrase_that_is_no_text_is_forgotten() -> None:
    data = b"HTTP/1.1 200 a\x0bb\r\nContent-Length: 0\r\n\r\n"

    head = response_head(read_responses(data).messages[0].head, [])

    assert head == b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"


def test_a_server_of_old_is_answered_for_in_our_version() -> None:
    response = Response(200, b"OK", [])

    assert response_head(response, []) == b"HTTP/1.1 200 OK\r\n\r\n"
