"""DNS messages: the few records that a cluster's name server needs. Pure. RFC 1035, RFC 2782."""

from __future__ import annotations

import enum
import ipaddress
import struct
from collections.abc import Iterable
from dataclasses import dataclass

TYPE_A, TYPE_CNAME, TYPE_PTR, TYPE_AAAA, TYPE_SRV, TYPE_OPT, TYPE_ANY = 1, 5, 12, 28, 33, 41, 255
_CLASS_IN, _CLASS_ANY = 1, 255
_QR, _AA, _TC, _RD, _RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
UDP_LIMIT = 1232


class Code(enum.IntEnum):
    """Response codes: RFC 1035 section 4.1.1."""

    NOERROR = 0
    FORMERR = 1
    NXDOMAIN = 3
    NOTIMP = 4


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: the name in lower case with no last dot, and the record type."""

    name: str
    type: int


@dataclass(frozen=True, slots=True)
class Record:
    """One resource record with its data in wire form."""

    name: str
    type: int
    data: bytes
    ttl: int = 5


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed question message; `raw_name` keeps the case that the client wrote."""

    id: int
    flags: int
    question: Question
    raw_question: bytes
    size: int  # the largest UDP answer that the client takes


@dataclass(frozen=True, slots=True)
class Answer:
    """What a question gets."""

    code: Code
    records: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()


def encode_name(name: str) -> bytes:
    """Length-prefixed labels, without compression."""
    made = b""
    for label in name.rstrip(".").split("."):
        if label:
            raw = label.encode("ascii", errors="replace")[:63]
            made += bytes([len(raw)]) + raw
    return made + b"\0"


def decode_name(raw: bytes) -> str:
    """The name at the beginning of record data that `encode_name` wrote."""
    return _read_name(raw, 0)[0]


def address_record(name: str, address: str) -> Record:
    """An A or AAAA record."""
    parsed = ipaddress.ip_address(address)
    return Record(name, TYPE_AAAA if parsed.version == 6 else TYPE_A, parsed.packed)


def srv_record(name: str, target: str, port: int) -> Record:
    """An SRV record of equal priority and weight."""
    return Record(name, TYPE_SRV, struct.pack("!HHH", 0, 100, port) + encode_name(target))


def cname_record(name: str, target: str) -> Record:
    """A CNAME record."""
    return Record(name, TYPE_CNAME, encode_name(target))


def ptr_record(name: str, target: str) -> Record:
    """A PTR record."""
    return Record(name, TYPE_PTR, encode_name(target))


def _read_name(packet: bytes, at: int) -> tuple[str, int]:
    labels: list[str] = []
    while True:
        if at >= len(packet):
            raise ValueError("name runs over the end")
        size = packet[at]
        if size == 0:
            return ".".join(labels), at + 1
        if size > 63:
            raise ValueError("compressed name in a question")
        if at + 1 + size > len(packet):
            raise ValueError("name runs over the end")
        labels.append(packet[at + 1 : at + 1 + size].decode("ascii", errors="replace").lower())
        if len(labels) > 127:
            raise ValueError("too many labels")
        at += 1 + size


def parse_query(packet: bytes) -> Query | int | None:
    """A query; the id of a message that deserves FORMERR; None for what deserves silence."""
    if len(packet) < 12:
        return None
    head: tuple[int, ...] = struct.unpack_from("!6H", packet)
    ident, flags, questions, extra = head[0], head[1], head[2], head[5]
    if flags & _QR:
        return None
    try:
        if questions != 1:
            raise ValueError("not one question")
        name, end = _read_name(packet, 12)
        if end + 4 > len(packet):
            raise ValueError("question runs over the end")
        kind, class_ = struct.unpack_from("!HH", packet, end)
        if class_ not in (_CLASS_IN, _CLASS_ANY):
            raise ValueError("not of class IN")
    except ValueError:
        return ident
    size = 512
    rest = packet[end + 4 :]
    if extra and len(rest) >= 11 and rest[0] == 0:
        option, asked = struct.unpack_from("!HH", rest, 1)
        if option == TYPE_OPT:
            size = max(512, min(asked, UDP_LIMIT))
    return Query(ident, flags, Question(name, kind), packet[12 : end + 4], size)


def _encode_records(records: Iterable[Record]) -> list[bytes]:
    return [
        encode_name(record.name)
        + struct.pack("!HHIH", record.type, _CLASS_IN, record.ttl, len(record.data))
        + record.data
        for record in records
    ]


def form_error(ident: int) -> bytes:
    """The answer to a message that cannot be read."""
    return struct.pack("!6H", ident, _QR | Code.FORMERR, 0, 0, 0, 0)


def build(query: Query, answer: Answer, *, limit: int) -> bytes:
    """The answer message; one that does not fit into `limit` bytes says so and is empty."""
    flags = _QR | _AA | _RA | (query.flags & _RD) | answer.code
    records = _encode_records(answer.records)
    additional = _encode_records(answer.additional)
    head = struct.pack("!6H", query.id, flags, 1, len(records), 0, len(additional))
    message = head + query.raw_question + b"".join(records) + b"".join(additional)
    if len(message) <= limit:
        return message
    head = struct.pack("!6H", query.id, flags, 1, len(records), 0, 0)
    message = head + query.raw_question + b"".join(records)
    if len(message) <= limit:
        return message
    return struct.pack("!6H", query.id, flags | _TC, 1, 0, 0, 0) + query.raw_question
