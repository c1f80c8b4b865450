"""HPACK against two other implementations, and against bytes that are none."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core.errors import PeerError
from proxy import guard
from proxy.hpack import TABLE, Decoder, Encoder, make_entry

NAMES = st.sampled_from([b"Host", b"accept", b"X-Request-Id", b"cookie", b"a", b"x" * 40])
VALUES = st.one_of(
    st.sampled_from([b"", b"web", b"*/*", b"a" * 300]),
    st.binary(max_size=30).map(lambda raw: raw.hex().encode()),
)
HEADS = st.lists(st.lists(st.tuples(NAMES, VALUES), max_size=8), max_size=30)


def pairs(decoder: Decoder, block: bytes) -> list[tuple[bytes, bytes]]:
    return [(name, value) for _, name, value, _ in decoder.decode(block).entries]


@settings(max_examples=60, deadline=None)
@given(HEADS)
def test_what_we_write_others_read(heads: list[list[tuple[bytes, bytes]]]) -> None:
    encoder, ours, theirs = Encoder(), Decoder(), hpack.Decoder()

    for head in heads:
        block = encoder.encode(head)
        assert pairs(ours, block) == head
        assert theirs.decode(block, raw=True) == head


@settings(max_examples=60, deadline=None)
@given(HEADS, st.booleans())
def test_what_others_write_we_read(heads: list[list[tuple[bytes, bytes]]], huffman: bool) -> None:
    decoder, theirs = Decoder(), hpack.Encoder()

    for head in heads:
        assert pairs(decoder, theirs.encode(head, huffman=huffman)) == head


def test_a_field_that_comes_back_costs_one_byte() -> None:
    encoder = Encoder()
    head = [(b"user-agent", b"something long that never changes")]

    sizes = [len(encoder.encode(head)) for _ in range(3)]

    assert sizes[0] == sizes[1] > 40
    assert sizes[2] == 1


def test_a_field_that_never_comes_back_takes_no_room() -> None:
    encoder = Encoder()
    stays = (b"user-agent", b"something that never changes")
    for _ in range(2):
        encoder.encode([stays])

    for number in range(5000):
        encoder.encode([(b"x-request-id", b"%032d" % number)])

    assert len(encoder.encode([stays])) == 1


def test_short_secrets_are_never_kept() -> None:
    encoder = Encoder()
    head = [(b"Authorization", b"Basic abc")]

    blocks = [encoder.encode(head) for _ in range(3)]

    assert all(block[0] == 0x10 for block in blocks)


def test_tables_of_both_sides_stay_equal_over_evictions_and_resizing() -> None:
    encoder, decoder, theirs = Encoder(), Decoder(), hpack.Decoder(max_header_list_size=1 << 20)
    theirs.max_allowed_table_size = TABLE
    for number in range(600):
        if number == 100:
            encoder.resize(TABLE)
        if number == 400:
            encoder.resize(256)
        head = [(b"name-%d" % (number % 90), b"v" * (number % 70)), (b"x", b"y")]
        block = encoder.encode(head)

        assert pairs(decoder, block) == head
        assert theirs.decode(block, raw=True) == head


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # index 0
        b"\xbf\xff\xff\xff\xff\xff",
        b"\xff\xff\xff\xff\xff\x0f",
        b"\xfe",  # an index beyond the table
        b"\x40",
        b"\x00\x05abc",
        b"\x00\x01a\x7f\xff\xff\xff\xff",
        b"\x3f\xff\xff\x7f",  # a table larger than allowed
        b"\x00\x81\xff\x01a",  # Huffman that is none
        b"\x00\x03a b\x01c",
        b"\x00\x01a\x03b\r\n",
        b"\x00\x01a\x01\x00",
        b"\x00\x00\x01c",
    ],
)
def test_a_damaged_block_is_refused(block: bytes) -> None:
    with pytest.raises(PeerError):
        Decoder().decode(block)


def test_a_small_block_does_not_become_a_large_head() -> None:
    encoder = Encoder()
    encoder.resize(TABLE)
    field = (b"x", b"a" * 4000)
    decoder = Decoder()
    for _ in range(2):
        decoder.decode(encoder.encode([field]))

    with pytest.raises(PeerError) as caught:
        decoder.decode(encoder.encode([field] * 100))

    assert caught.value.status == 431


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=5))
def test_random_blocks_are_read_or_refused(blocks: list[bytes]) -> None:
    decoder = Decoder()
    for block in blocks:
        try:
            decoder.decode(block)
        except PeerError:
            return


def test_an_entry_knows_its_rule() -> None:
    kinds = [make_entry(name, b"v")[0] for name in (b"Accept", b"Host", b"mesh-x", b"L5d-Y")]

    assert kinds == [guard.PLAIN, guard.HOST, guard.OURS, guard.OURS]
    for name, value in ((b"", b"v"), (b"a b", b"v"), (b"a", b"b\nc"), (b"a", b"b\x00")):
        with pytest.raises(PeerError):
            make_entry(name, value)
