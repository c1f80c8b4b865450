"""HPACK (RFC 7541), fast where fields repeat. Pure.

Both tables remember more than bytes. The decoder keeps with each entry what the wire guard
said of it, so that a field that was sent before costs one look-up; the encoder puts a field
into the table when it sees it the second time, so that values that never come back
(identifiers, dates) do not push out those that do. Strings are sent as they are: Huffman
saves bytes where we have plenty and costs time where we have none. It is understood all the
same, as applications send it.

A decoder for strangers holds RFC 9113 §8.2 against each field as well: what breaks a rule gets
the kind MALFORMED, so that it costs the sender one stream and not the state of the table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from mesh.core.errors import PeerError
from proxy import guard
from proxy.http1 import COLON, CRLF

TABLE: Final = 16 * 1024  # bytes of our tables, once both sides have agreed
DEFAULT_TABLE: Final = 4096  # before that
OVERHEAD: Final = 32  # bytes that an entry counts besides its text (RFC 7541 §4.1)
MAX_LIST: Final = 64 * 1024 + 4096  # bytes of one head, decoded
MAX_BOMB: Final = 2 * MAX_LIST  # where reading stops at once
MAX_ENTRIES: Final = guard.MAX_FIELDS + 8
_MAX_SEEN: Final = 1024
_MAX_BLOCKS: Final = 64  # blocks that either side remembers for as long as its table stays,
_LONG_BLOCK: Final = 512  # of at most so many bytes
_MAX_TEXTS: Final = 128  # Huffman texts that a decoder remembers,
_LONG_TEXT: Final = 64  # of at most so many bytes
_NEVER: Final = frozenset(
    (b"authorization", b"proxy-authorization", b"cookie", b"set-cookie")
)  # short ones are not kept in tables, as they could be guessed (RFC 7541 §7.1.3)
_GUESSABLE: Final = 20  # bytes

PSEUDO: Final = 99  # the kind of :method and its like; other kinds are guard's
MALFORMED: Final = 98  # a field that must not be in HTTP/2
TOO_LARGE: Final = 97  # stands for a whole list that is too large
_NAME: Final = re.compile(rb":?[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BAD_VALUE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_STRICT_NAME: Final = re.compile(rb":?[!#$%&'*+\-.^_`|~0-9a-z]+")
_EDGES: Final = b" \t"
# Pseudo-fields that become a request line somewhere, and what must not be in one.
_ON_THE_LINE: Final = frozenset((b":method", b":path", b":authority", b":scheme"))
_NOT_ON_THE_LINE: Final = re.compile(rb"[^!-~]")
# Fields that mean one connection, which HTTP/2 has no use for (RFC 9113 §8.2.2).
_ONE_CONNECTION: Final = (guard.CONNECTION, guard.CODING, guard.UPGRADE, guard.DROPPED, guard.TWIN)

# One field: its kind, name, value, and how it stands in a head's flat list.
Entry = tuple[int, bytes, bytes, tuple[bytes, bytes, bytes, bytes]]
Pair = tuple[bytes, bytes]
_NOTHING_YET: Final = (-1, None)

_STATIC: Final[tuple[Pair, ...]] = (
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    *(
        (name, b"")
        for name in (
            b"accept-language accept-ranges accept access-control-allow-origin age allow "
            b"authorization cache-control content-disposition content-encoding "
            b"content-language content-length content-location content-range content-type "
            b"cookie date etag expect expires from host if-match if-modified-since "
            b"if-none-match if-range if-unmodified-since last-modified link location "
            b"max-forwards proxy-authenticate proxy-authorization range referer refresh "
            b"retry-after server set-cookie strict-transport-security transfer-encoding "
            b"user-agent vary via www-authenticate"
        ).split()
    ),
)
_STATIC_INDEX: Final = {pair: i for i, pair in enumerate(_STATIC, 1) if pair[1]}


def make_entry(name: bytes, value: bytes) -> Entry:
    """A field with what the guard says of it. Raises PeerError on characters that must not be."""
    if not _NAME.fullmatch(name) or _BAD_VALUE.search(value):
        raise PeerError("bad_field", "a field with forbidden characters")
    if name.startswith(b":"):
        kind = _kind_of_pseudo(name, value)
    elif name in guard.USUAL:
        kind = guard.PLAIN
    else:
        kind = guard.kind_of(name)
        if kind == guard.PLAIN and guard.is_ours(name):
            kind = guard.OURS
    return kind, name, value, (name, COLON, value, CRLF)


def _kind_of_pseudo(name: bytes, value: bytes) -> int:
    return MALFORMED if name in _ON_THE_LINE and _NOT_ON_THE_LINE.search(value) else PSEUDO


def make_strict_entry(name: bytes, value: bytes) -> Entry:
    """A field of a stranger: never raises, but says MALFORMED of what RFC 9113 §8.2 forbids."""
    kind = guard.KINDS.get(name, guard.PLAIN)
    if (
        not _STRICT_NAME.fullmatch(name)
        or _BAD_VALUE.search(value)
        or value != value.strip(_EDGES)
        or kind in _ONE_CONNECTION
        or (kind == guard.TE and value.lower() != b"trailers")
    ):
        kind = MALFORMED
    elif name[:1] == b":":
        kind = _kind_of_pseudo(name, value)
    elif kind == guard.PLAIN and guard.is_ours(name):
        kind = guard.OURS
    return kind, name, value, (name, COLON, value, CRLF)


class Block:
    """The fields of one block. A block that comes again is the same object, so whoever reads it
    may leave in `memo` what it found, with a key that says what it was read as."""

    __slots__ = ("entries", "memo")

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self.memo: tuple[int, Any] = _NOTHING_YET


class Encoder:
    """Fields -> a header block. Its table follows the peer's limit."""

    __slots__ = (
        "_blocks",
        "_index",
        "_inserted",
        "_least",
        "_limit",
        "_order",
        "_resized",
        "_seen",
        "_size",
    )

    def __init__(self) -> None:
        self._blocks: dict[tuple[Pair, ...], bytes] = {}  # that this table gives
        self._index: dict[Pair, int] = {}  # pair -> number of its insertion
        self._order: list[Pair] = []  # oldest first
        self._inserted = 0
        self._size = 0
        self._limit = self._least = DEFAULT_TABLE
        self._resized = False
        self._seen: set[Pair] = set()

    def resize(self, limit: int) -> None:
        """The peer allows a table of `limit` bytes."""
        limit = min(limit, TABLE)
        if limit != self._limit:
            self._least = min(limit, self._least if self._resized else self._limit)
            self._limit = limit
            self._resized = True
            self._blocks.clear()
            self._evict(0)

    def encode(self, pairs: Iterable[Pair]) -> bytes:
        """One block. The pairs are trusted: they were read by our own readers."""
        head = tuple(pairs)
        known = self._blocks.get(head)
        if known is not None and not self._resized:
            return known
        out = bytearray()
        if self._resized:
            self._resized = False
            if self._least < self._limit:  # the smallest of several is told, too (§4.2)
                _put_int(out, 0x20, 5, self._least)
            _put_int(out, 0x20, 5, self._limit)
        index = self._index
        is_known = not out
        for pair in head:
            number = index.get(pair)
            if number is not None:
                at = self._inserted - number + 62
                if at < 127:
                    out.append(0x80 | at)
                else:
                    _put_int(out, 0x80, 7, at)
            elif self._encode_new(out, pair):
                is_known = False
        block = bytes(out)
        if is_known and len(block) <= _LONG_BLOCK:
            if len(self._blocks) >= _MAX_BLOCKS:
                self._blocks.clear()
            self._blocks[head] = block
        return block

    def _encode_new(self, out: bytearray, pair: Pair) -> bool:
        """A pair that is not in the table. Whether it would be written otherwise next time."""
        at = _STATIC_INDEX.get(pair)
        if at is not None:
            out.append(0x80 | at)
            return False
        name, value = pair
        is_secret = len(value) < _GUESSABLE and name.lower() in _NEVER
        if is_secret:
            out.append(0x10)
        elif pair in self._seen:
            self._seen.discard(pair)
            out.append(0x40)
            self._insert(pair)
        else:
            if len(self._seen) >= _MAX_SEEN:
                self._seen.clear()
            self._seen.add(pair)
            out.append(0x00)
        _put_int(out, 0, 7, len(name))
        out += name
        _put_int(out, 0, 7, len(value))
        out += value
        return not is_secret

    def _insert(self, pair: Pair) -> None:
        self._blocks.clear()
        size = len(pair[0]) + len(pair[1]) + OVERHEAD
        self._evict(size)
        if size <= self._limit:
            self._inserted += 1
            self._index[pair] = self._inserted
            self._order.append(pair)
            self._size += size

    def _evict(self, room: int) -> None:
        """Drop the oldest until there is room, exactly as the peer's decoder does."""
        order = self._order
        gone = 0
        while self._size + room > self._limit and gone < len(order):
            pair = order[gone]
            gone += 1
            self._size -= len(pair[0]) + len(pair[1]) + OVERHEAD
            del self._index[pair]
        del order[:gone]


class Decoder:
    """Header blocks -> entries. Raises PeerError on a block that does not read, or is a bomb.

    A list that is somewhat too large gives one TOO_LARGE entry: the table is still right.
    """

    __slots__ = (
        "_allowed",
        "_blocks",
        "_changes",
        "_entries",
        "_limit",
        "_make",
        "_size",
        "_static",
        "_texts",
    )

    def __init__(self, table: int = TABLE, *, is_strict: bool = False) -> None:
        self._entries: list[Entry] = []  # newest last
        self._size = 0
        self._limit = self._allowed = table  # a peer may use less
        self._blocks: dict[bytes, Block] = {}  # what they gave with this table
        self._changes = 0  # of the table
        self._texts: dict[bytes, bytes] = {}  # Huffman texts that were read
        self._make = make_strict_entry if is_strict else make_entry
        self._static = _STRICT_STATIC if is_strict else _STATIC_ENTRIES

    def decode(self, block: bytes) -> Block:
        """All fields of one block, in order. The list is not the caller's to change."""
        known = self._blocks.get(block)
        if known is not None:
            return known
        if len(self._blocks) >= _MAX_BLOCKS:
            self._blocks.clear()
        changes = self._changes
        entries, static = self._entries, self._static
        found: list[Entry] = []
        at, end = 0, len(block)
        size = 0
        try:
            while at < end:
                byte = block[at]
                if byte & 0x80:
                    number = byte & 0x7F
                    at += 1
                    if number == 0x7F:
                        number, at = _get_int(block, at, 0x7F)
                    if number > 61:
                        entry = entries[61 - number]
                    elif number:
                        entry = static[number]
                    else:
                        raise IndexError
                elif byte & 0xE0 == 0x20:
                    if found:
                        raise PeerError("bad_block", "a table that changes behind a field")
                    limit, at = _get_prefixed(block, at, 0x1F)
                    self._resize(limit)
                    continue
                else:
                    entry, at = self._literal(block, at, byte)
                found.append(entry)
                size += len(entry[1]) + len(entry[2]) + OVERHEAD
                if size > MAX_BOMB:
                    raise PeerError("header_bomb", "header list too large", status=431)
        except IndexError:
            raise PeerError(
                "bad_block", "a header block that ends early or points nowhere"
            ) from None
        if size > MAX_LIST or len(found) > MAX_ENTRIES:
            return Block([_TOO_LARGE_ENTRY])
        read = Block(found)
        if self._changes == changes and end <= _LONG_BLOCK:
            self._blocks[block] = read
        return read

    def _literal(self, block: bytes, at: int, byte: int) -> tuple[Entry, int]:
        mask = 0x3F if byte & 0x40 else 0x0F
        number, at = _get_prefixed(block, at, mask)
        if number > 61:
            name = self._entries[61 - number][1]
        elif number:
            name = _STATIC[number - 1][0]
        else:
            name, at = self._text(block, at)
        value, at = self._text(block, at)
        entry = self._make(name, value)
        if byte & 0x40:
            self._insert(entry)
        return entry, at

    def _text(self, block: bytes, at: int) -> tuple[bytes, int]:
        is_huffman = block[at] & 0x80
        size, at = _get_prefixed(block, at, 0x7F)
        end = at + size
        if end > len(block):
            raise IndexError
        text = block[at:end]
        if not is_huffman:
            return text, end
        value = self._texts.get(text)
        if value is None:
            value = _read_huffman(text)
            if len(self._texts) >= _MAX_TEXTS:
                self._texts.clear()
            if size <= _LONG_TEXT:
                self._texts[text] = value
        return value, end

    def _insert(self, entry: Entry) -> None:
        self._changes += 1
        self._blocks.clear()
        size = len(entry[1]) + len(entry[2]) + OVERHEAD
        self._evict(size)
        if size <= self._limit:
            self._entries.append(entry)
            self._size += size

    def _resize(self, limit: int) -> None:
        if limit > self._allowed:
            raise PeerError("bad_block", "a table larger than was allowed")
        self._changes += 1
        self._blocks.clear()
        self._limit = limit
        self._evict(0)

    def _evict(self, room: int) -> None:
        entries = self._entries
        gone = 0
        while self._size + room > self._limit and gone < len(entries):
            self._size -= len(entries[gone][1]) + len(entries[gone][2]) + OVERHEAD
            gone += 1
        del entries[:gone]


_TOO_LARGE_ENTRY: Final = (TOO_LARGE, b"", b"", (b"", b"", b"", b""))
_STATIC_ENTRIES: Final = (
    (PSEUDO, b"", b"", (b"", b"", b"", b"")),  # index 0 is no field
    *(make_entry(name, value) for name, value in _STATIC),
)
_STRICT_STATIC: Final = (_STATIC_ENTRIES[0], *(make_strict_entry(*pair) for pair in _STATIC))


def _put_int(out: bytearray, flags: int, bits: int, value: int) -> None:
    """An integer with a prefix (RFC 7541 §5.1)."""
    most = (1 << bits) - 1
    if value < most:
        out.append(flags | value)
        return
    out.append(flags | most)
    value -= most
    while value >= 0x80:
        out.append(0x80 | value & 0x7F)
        value >>= 7
    out.append(value)


def _get_prefixed(block: bytes, at: int, mask: int) -> tuple[int, int]:
    value = block[at] & mask
    at += 1
    return _get_int(block, at, mask) if value == mask else (value, at)


def _get_int(block: bytes, at: int, value: int) -> tuple[int, int]:
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7
        if shift > 21:
            raise PeerError("bad_block", "an integer too large")


# Bits of each octet's Huffman code (RFC 7541, Appendix B).
_CODE_BITS: Final = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c060a0a0c0d06080b0a0a080b"
    "080606060505050606060606060607080f060c0a0d0607070707070707070707070707070707070707070707"
    "0807080d130d0e060f05060506050606060507070606060506070605050607070707070f0b0e0d1c14161414"
    "1616161716171717171718171818161718171717171516171617171816151416161717151716161815161717"
    "151516151716171714161616171616171a1a1413161716191a1a1a1b1b1a181913151a1b1b1a1b1815151a1a"
    "1c1b1b1b14181415161515171616191918181a171a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a"
)


def _read_huffman(text: bytes) -> bytes:
    """Huffman text, by jh2: no proxy of ours sends any, so a pod without HTTP/2 applications
    does not pay for the import. The padding is ours to check: ones, less than an octet."""
    from jh2._hazmat import Decoder as Jh2Decoder  # type: ignore[import-untyped]

    block = bytearray(b"\x00\x01a")
    _put_int(block, 0x80, 7, len(text))
    try:
        ((_, value, _),) = Jh2Decoder().decode(bytes(block) + text, raw=True)
    except BaseException as error:  # its panics are no Exceptions
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise PeerError("bad_block", "Huffman text that does not read") from None
    value = bytes(value) if isinstance(value, bytes) else value.encode("latin-1")
    padding = 8 * len(text) - sum(map(_CODE_BITS.__getitem__, value))
    if not 0 <= padding < 8 or (padding and ~text[-1] & ((1 << padding) - 1)):
        raise PeerError("bad_block", "Huffman text that ends in other than ones")
    return value
