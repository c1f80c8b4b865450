"""Which endpoint a key belongs to."""

from __future__ import annotations

from collections import Counter

import pytest

from mesh.core.model import HashKey
from proxy.http1 import COLON, CRLF, Request
from proxy.ring import Ring, read_key

NAMES = [f"10.0.0.{number}:80" for number in range(10)]
KEYS = [b"user-%d" % number for number in range(5000)]


def ring(names: list[str]) -> Ring[str]:
    return Ring(names, str)


def test_a_key_stays_where_it_is() -> None:
    one, two = ring(NAMES), ring(list(reversed(NAMES)))

    assert all(one.find(key, NAMES) == two.find(key, NAMES) for key in KEYS)


def test_keys_are_shared_out_evenly() -> None:
    whole = ring(NAMES)
    counts = Counter(whole.find(key, NAMES) for key in KEYS)

    assert len(counts) == 10
    assert 300 < min(counts.values()) <= max(counts.values()) < 750


def test_only_the_keys_of_an_endpoint_that_goes_move() -> None:
    before, left = ring(NAMES), NAMES[1:]
    after = ring(left)

    moved = [key for key in KEYS if before.find(key, NAMES) != after.find(key, left)]

    assert moved == [key for key in KEYS if before.find(key, NAMES) == NAMES[0]]
    assert len({after.find(key, left) for key in moved}) > 5


def test_a_broken_endpoint_is_passed_over_as_if_it_had_gone() -> None:
    whole, left = ring(NAMES), NAMES[1:]

    assert all(whole.find(key, left) == ring(left).find(key, left) for key in KEYS[:500])


def test_one_to_avoid_is_taken_only_when_nobody_else_is_left() -> None:
    one = ring(NAMES[:2])
    owner = one.find(b"k", NAMES[:2])
    assert owner is not None

    assert one.find(b"k", NAMES[:2], [owner]) not in (None, owner)
    assert one.find(b"k", [owner], [owner]) == owner
    assert one.find(b"k", []) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (HashKey(header="x-user"), b"7"),
        (HashKey(cookie="session"), b"abc"),
        (HashKey(cookie="theme"), b"dark"),
        (HashKey(cookie="other"), None),
        (HashKey(header="x-none"), None),
    ],
)
def test_the_key_is_read_from_a_header_or_a_cookie(key: HashKey, value: bytes | None) -> None:
    fields = [b"X-User", COLON, b"7", CRLF, b"Cookie", COLON, b"session=abc; theme=dark", CRLF]

    assert read_key(Request(b"GET", b"/", fields), key) == value
