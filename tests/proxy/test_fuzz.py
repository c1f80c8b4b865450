"""Parsers of outside bytes under random input: they refuse or read, and never differ."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mesh.core.errors import PeerError
from proxy.http1 import request_head
from proxy.http1_response import ResponseReader
from tests.proxy.sinks import Sink, read_requests

LINES = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n",
        b"POST /a HTTP/1.1\r\n",
        b"HEAD / HTTP/1.0\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n",
        b"Host: a\r\n",
        b"Host: b\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 0\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Connection: close\r\n",
        b"Connection: Upgrade\r\n",
        b"Upgrade: h2c\r\n",
        b"Upgrade: websocket\r\n",
        b"Expect: 100-continue\r\n",
        b"X: y\r\n",
        b" folded\r\n",
        b"\r\n",
        b"\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"hello",
        b"\x00",
    ]
)
STREAMS = st.one_of(
    st.lists(LINES, max_size=12).map(b"".join),
    st.tuples(st.lists(LINES, max_size=8).map(b"".join), st.binary(max_size=20)).map(b"".join),
    st.binary(max_size=60),
)


def story(data: bytes, step: int) -> tuple[list[Any], str]:
    """What was read and how it ended. Requests that were cut off are left out."""
    sink = Sink()
    error = ""
    try:
        sink = read_requests(data, step=step, into=sink)
    except PeerError as refused:
        error = "refused" if 400 <= refused.status <= 505 else "odd"
    told = [
        (m.head.method, m.head.target, m.head.host, m.head.fields, m.head.length, m.body)
        for m in sink.messages
        if m.ended
    ]
    return told, error


@settings(max_examples=400, deadline=None)
@given(STREAMS)
@example(
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nGET / HTTP/1.1\r\n"
)
@example(b"\r\n\x00")
def test_requests_read_the_same_whole_and_byte_by_byte(data: bytes) -> None:
    whole, error = story(data, 0)
    single, error_single = story(data, 1)

    # Refused in the middle of one piece, what came before it may not have been told yet.
    shortest = min(len(whole), len(single))
    assert whole[:shortest] == single[:shortest]
    if not error and not error_single:
        assert whole == single
    assert error == error_single
    assert error != "odd"


@settings(max_examples=300, deadline=None)
@given(STREAMS)
def test_what_we_write_reads_as_what_we_read(data: bytes) -> None:
    sink = Sink()
    with contextlib.suppress(PeerError):
        read_requests(data, into=sink)

    for message in sink.messages:
        if message.ended and message.head.minor and not message.head.upgrade:
            body = message.body
            if message.head.length is None:
                body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
            again = read_requests(request_head(message.head, []) + body)
            assert len(again.messages) == 1
            assert again.messages[0].head.target == message.head.target
            assert again.messages[0].head.fields == message.head.fields
            assert again.messages[0].body == message.body


RESPONSES = st.one_of(
    st.lists(
        st.sampled_from(
            [
                b"HTTP/1.1 200 OK\r\n",
                b"HTTP/1.0 404 No\r\n",
                b"HTTP/1.1 100 Continue\r\n\r\n",
                b"HTTP/1.1 101 Go\r\n",
                b"HTTP/1.1 204 No\r\n",
                b"Content-Length: 5\r\n",
                b"Transfer-Encoding: chunked\r\n",
                b"Connection: close\r\n",
                b"Connection: upgrade\r\nUpgrade: x\r\n",
                b"X: y\r\n",
                b"\r\n",
                b"5\r\nhello\r\n",
                b"0\r\n\r\n",
                b"hello",
            ]
        ),
        max_size=10,
    ).map(b"".join),
    st.binary(max_size=60),
)


def response_story(data: bytes, method: bytes, step: int) -> tuple[object, ...]:
    sink = Sink()
    reader = sink.reader = ResponseReader()
    reader.expect(method, sink)
    error = ""
    try:
        for i in range(0, len(data), step or len(data) or 1):
            reader.feed(data[i : i + (step or len(data))])
        reader.eof()
    except PeerError as refused:
        error = "refused" if refused.status == 502 else "odd"
    first = [(m.head.status, m.head.fields, m.body) for m in sink.messages if m.ended][:1]
    return first, error, b"" if error else sink.tunnel


@settings(max_examples=400, deadline=None)
@given(RESPONSES, st.sampled_from([b"GET", b"HEAD", b"CONNECT"]))
@example(b"HTTP/1.1 200 OK\r\n\r\n\r\n", b"HEAD")
def test_responses_read_the_same_whole_and_byte_by_byte(data: bytes, method: bytes) -> None:
    whole = response_story(data, method, 0)
    single = response_story(data, method, 1)

    assert whole[1] == single[1]
    assert whole[1] != "odd"
    if not whole[1]:
        assert whole == single
