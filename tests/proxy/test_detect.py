"""What first bytes say, and when they do not say enough."""

from __future__ import annotations

import ssl
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.detect import (
    MAX_HELLO,
    NOT_TLS,
    PREFACE,
    ClientHello,
    Verdict,
    classify,
    classify_http1,
    guess,
    read_hello,
)
from proxy.verdicts import MAX_REMEMBERED, PATIENT, Verdicts


def client_hello(name: str | None, *alpn: str) -> bytes:
    """What OpenSSL really sends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    to_us, from_us = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(from_us, to_us, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return to_us.read()


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (PREFACE, Verdict.HTTP2),  # gRPC on a port that somebody named http
        (client_hello("web"), Verdict.TLS),
        (b"GET / HTTP/1.1\r\n", Verdict.HTTP1),
        (b"\x00\x01 what?", Verdict.HTTP1),
        (b"PR", None),
    ],
)
def test_a_port_declared_http_is_not_held_against_http2_or_tls(
    data: bytes, verdict: Verdict | None
) -> None:
    assert classify_http1(data) is verdict


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (b"GET / HTTP/1.1\r\n", Verdict.HTTP1),
        (b"POST /a?b=c HTTP/1.0\r\nHost: x", Verdict.HTTP1),
        (b"\r\nM-SEARCH * HTTP/1.1\r\n", Verdict.HTTP1),
        (b"CONNECT a:1 HTTP/1.1\r\n", Verdict.HTTP1),
        (PREFACE, Verdict.HTTP2),
        (PREFACE + b"\x00\x00\x00\x04", Verdict.HTTP2),
        (client_hello("a.b"), Verdict.TLS),
        (b"\x16\x03\x01\x02\x00\x01", Verdict.TLS),
        (b"\x16\x03\x01\x02\x00\x02", Verdict.OPAQUE),
        (b"\x16\x02", Verdict.OPAQUE),
        (b"SSH-2.0-OpenSSH_9\r\n", Verdict.OPAQUE),
        (b"PING\r\n", Verdict.OPAQUE),
        (b"SET key value\r\n", Verdict.OPAQUE),
        (b"get key\r\n", Verdict.OPAQUE),
        (b"*3\r\n$3\r\nSET\r\n", Verdict.OPAQUE),
        (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", Verdict.OPAQUE),
        (b"GET /\x00 HTTP/1.1\r\n", Verdict.HTTP1),  # for the guard to refuse
        (b"A" * 30, Verdict.OPAQUE),
        (b"GET / HTTP/1.1 extra\r\n", Verdict.OPAQUE),
    ],
)
def test_enough_bytes_give_a_verdict(data: bytes, verdict: Verdict) -> None:
    assert classify(data) is verdict


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"G",
        b"GET",
        b"GET ",
        b"GET / HTT",
        b"GET / HTTP/1.1",
        b"\r\n",
        b"\x16",
        b"\x16\x03\x01",
    ],
)
def test_too_few_bytes_give_none(data: bytes) -> None:
    assert classify(data) is None


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (b"GET / HT", Verdict.HTTP1),
        (b"\r\nPOST ", Verdict.HTTP1),
        (b"GET", Verdict.OPAQUE),
        (b"HELO mail", Verdict.OPAQUE),
        (b"PUBLISH a b", Verdict.OPAQUE),
        (b"\x16\x03\x01", Verdict.OPAQUE),
        (PREFACE[:5], Verdict.OPAQUE),
    ],
)
def test_a_beginning_that_stalls_is_taken_for_what_it_most_likely_is(
    data: bytes, verdict: Verdict
) -> None:
    assert classify(data) is None or verdict is Verdict.OPAQUE
    assert guess(data) is verdict


def test_a_preface_is_recognised_when_it_is_complete() -> None:
    assert all(classify(PREFACE[:size]) is None for size in range(1, len(PREFACE)))


@settings(deadline=None)
@given(st.binary(max_size=200))
@example(b"-P / HTTP/1.1\r\n")
def test_more_bytes_never_change_a_verdict(data: bytes) -> None:
    verdicts = [classify(data[:size]) for size in range(len(data) + 1)]
    known = [verdict for verdict in verdicts if verdict is not None]

    assert len(set(known)) <= 1


def test_a_client_hello_names_server_and_alpn() -> None:
    data = client_hello("web.shop.svc", "mesh-http1/1", "h2")

    assert read_hello(data) == ClientHello("web.shop.svc", ("mesh-http1/1", "h2"))
    assert read_hello(client_hello(None)) == ClientHello()
    assert all(read_hello(data[:size]) is None for size in range(len(data)))


def test_a_client_hello_may_span_records() -> None:
    data = client_hello("web.shop.svc", "h2")
    message = data[5:]
    records = b"".join(
        data[:3] + len(message[i : i + 50]).to_bytes(2, "big") + message[i : i + 50]
        for i in range(0, len(message), 50)
    )

    assert read_hello(records) == ClientHello("web.shop.svc", ("h2",))


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00"]
)
def test_other_bytes_are_no_hello(data: bytes) -> None:
    assert read_hello(data) is NOT_TLS


def test_a_hello_without_end_is_given_up() -> None:
    endless = b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + b"\x00" * MAX_HELLO

    assert read_hello(endless) is NOT_TLS


def test_a_hello_in_crumbs_costs_little() -> None:
    """Each byte in a record and a segment of its own, as an attacker may send them."""
    message = client_hello("web.shop.svc", "h2")[5:]
    records = b"".join(b"\x16\x03\x01\x00\x01%c" % byte for byte in message * 10)
    began = time.process_time()

    verdicts = {read_hello(records[:end]) for end in range(6, len(records), 6)}

    assert verdicts == {None, NOT_TLS}
    assert time.process_time() - began < 1.0


@settings(deadline=None)
@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=8))
def test_a_damaged_hello_never_raises(at: int, junk: bytes) -> None:
    data = client_hello("web.shop.svc", "h2")
    at %= len(data)

    read_hello(data[:at] + junk + data[at + len(junk) :])


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes_behind_a_hello_head_never_raise(body: bytes) -> None:
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    read_hello(b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message)


def test_who_spoke_first_is_remembered_per_port() -> None:
    verdicts = Verdicts()
    verdicts.server_spoke("mail:25")
    verdicts.client_spoke("web:80", Verdict.HTTP1)
    verdicts.client_spoke("db:1", Verdict.OPAQUE)

    assert verdicts.is_opaque("mail:25")
    assert not verdicts.is_opaque("web:80")
    assert verdicts.patience("web:80", 0.025) == PATIENT
    assert verdicts.patience("db:1", 0.025) == 0.025


def test_what_is_remembered_is_bounded() -> None:
    verdicts = Verdicts()

    for port in range(3 * MAX_REMEMBERED):
        verdicts.server_spoke(port)

    assert len(verdicts) <= MAX_REMEMBERED
