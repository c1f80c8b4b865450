"""Heads as applications send and expect them on HTTP/2; blocks that come again."""

from __future__ import annotations

import hpack
import pytest

from mesh.core.errors import PeerError
from proxy import grpc
from proxy.heads2_app import AppHeads, request_pairs, response_pairs, trailer_pairs
from proxy.hpack import Block, Decoder
from proxy.http1 import Request, Request2, Response

REQUEST = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/a"),
    (":authority", "web:80"),
    ("te", "trailers"),
    ("x-id", "1"),
]
RESPONSE = [(":status", "200"), ("content-type", "application/grpc")]
TRAILERS = [("grpc-status", "0")]


class Wire:
    """Blocks of another implementation, read by ours."""

    def __init__(self) -> None:
        self._encoder = hpack.Encoder()
        self._decoder = Decoder(4096, is_strict=True)
        self.heads = AppHeads()

    def block(self, pairs: list[tuple[str, str]]) -> Block:
        return self._decoder.decode(self._encoder.encode(pairs))


def test_a_block_that_comes_again_is_the_same_object_until_the_table_changes() -> None:
    wire = Wire()
    wire.block(REQUEST)
    first = wire.block(REQUEST)

    assert wire.block(REQUEST) is first
    wire.block([("x-other", "2")])
    assert wire.block(REQUEST) is not first


def test_what_one_exchange_does_to_its_head_no_other_sees() -> None:
    wire = Wire()
    wire.block(REQUEST)
    requests = [wire.heads.read_request(wire.block(REQUEST), False) for _ in range(3)]
    requests[0].fields.clear()
    requests[0].host = b"changed"

    assert requests[1].fields == requests[2].fields != []
    assert requests[1].fields is not requests[2].fields
    assert {(r.host, r.length, r.method) for r in requests[1:]} == {(b"web:80", None, b"POST")}
    assert all(isinstance(request, Request2) for request in requests)


def test_the_same_block_may_be_read_as_different_things() -> None:
    wire = Wire()
    wire.block(REQUEST)

    open_end = wire.heads.read_request(wire.block(REQUEST), False)
    ended = wire.heads.read_request(wire.block(REQUEST), True)
    with pytest.raises(PeerError):
        wire.heads.read_trailers(wire.block(REQUEST))
    wire.heads.start_anew()

    assert (open_end.length, ended.length) == (None, 0)


def test_responses_keep_what_ended_them() -> None:
    wire = Wire()
    wire.block(RESPONSE)
    read = wire.heads.read_response

    kinds = [
        read(wire.block(RESPONSE), end, is_head=is_head).is_whole
        for end in (False, True, False, True)
        for is_head in (False, True)
    ]

    assert kinds == [False, False, True, True] * 2


def test_trailers_that_come_again_are_copies() -> None:
    wire = Wire()
    wire.block(TRAILERS)
    first = wire.heads.read_trailers(wire.block(TRAILERS))
    assert first is not None
    first.clear()

    assert wire.heads.read_trailers(wire.block(TRAILERS)) == [b"grpc-status", b": ", b"0", b"\r\n"]


def test_an_application_gets_an_authority_and_lower_case_names() -> None:
    fields = [b"X-Up", b": ", b"1", b"\r\n", b"Transfer-Encoding", b": ", b"chunked", b"\r\n"]
    extra = [b"Host", b": ", b"web", b"\r\n"]

    pairs = request_pairs(Request(b"GET", b"/a", fields), extra)

    assert pairs == [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/a"),
        (b":authority", b"web"),
        (b"x-up", b"1"),
    ]
    assert response_pairs(Response(204, b"", fields)) == [(b":status", b"204"), (b"x-up", b"1")]
    assert trailer_pairs(fields[:4]) == [(b"x-up", b"1")]


@pytest.mark.parametrize(
    ("status", "reason", "code"),
    [
        (503, "no-endpoints", 14),
        (502, "connect-failed", 14),
        (504, "connect-timeout", 14),
        (504, "timeout", 4),
        (504, "deadline-exceeded", 4),
        (403, "tls-required", 7),
        (404, "no-rule", 12),
        (500, "internal-error", 13),
    ],
)
def test_our_answers_have_the_code_that_grpc_gives_them(
    status: int, reason: str, code: int
) -> None:
    assert grpc.status_of(status, reason) == code


def test_a_grpc_message_is_percent_encoded() -> None:
    fields = grpc.trailers_for(503, "no-service", "100 % naïve\n", "Service/shop/web")

    assert fields[6] == b"100 %25 na%C3%AFve%0A (no-service; Service/shop/web)"
