"""How long a request may still take, in headers."""

from __future__ import annotations

import pytest

from proxy.deadline import parse_grpc_timeout, parse_millis, write_grpc_timeout, write_millis


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(b"1S", 1.0), (b"250m", 0.25), (b"2M", 120.0), (b"1H", 3600.0), (b"5u", 5e-6), (b"0n", 0.0)],
)
def test_grpc_timeouts_are_read_in_every_unit(text: bytes, seconds: float) -> None:
    assert parse_grpc_timeout(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", [b"", b"S", b"1", b"-1S", b"1.5S", b"123456789S", b"1s", b"1 S"])
def test_what_is_no_grpc_timeout_is_ignored(text: bytes) -> None:
    assert parse_grpc_timeout(text) is None


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 0.0421, 0.25, 1.0, 99.5, 7200.0, 1e7])
def test_what_is_written_is_never_longer_than_what_is_left(seconds: float) -> None:
    text = write_grpc_timeout(seconds)

    read = parse_grpc_timeout(text)
    assert len(text) <= 9
    assert read is not None
    assert seconds * 0.99 - 1e-9 <= read <= seconds + 1e-12


def test_milliseconds_travel_whole() -> None:
    assert write_millis(1.2349) == b"1234"
    assert write_millis(-1.0) == b"0"
    assert parse_millis(b"1234") == 1.234
    assert parse_millis(b"soon") is None
