"""The stream between a proxy and destination: messages <-> bytes.

A frame is a big-endian u32 length and that many bytes of JSON with a `type`. Unknown fields
are ignored and unknown types skipped, so that this version talks to its neighbours; what an
older proxy would misunderstand by ignoring it, destination words for it (`mesh.core.older`).
Pure: the shells own sockets. msgspec does the coding, since a first view can be large.
"""

from __future__ import annotations

from typing import Final

import msgspec

from mesh.core.errors import PeerError
from mesh.core.model import Update
from mesh.core.report import Report

# 1: paths, methods, headers, weights. 2: filters, policies, queries, rules for connections.
WIRE_VERSION: Final = 2
MAX_FRAME: Final = 16 * 1024 * 1024
_LENGTH = 4


class Hello(msgspec.Struct, tag_field="type", tag="hello", frozen=True):
    """Up, first: who this proxy is. Destination checks it against certificate and API."""

    namespace: str
    pod: str
    uid: str
    proxy_version: str
    wire: int = WIRE_VERSION
    node: str = ""


class Subscribe(msgspec.Struct, tag_field="type", tag="subscribe", frozen=True):
    """Up: original destinations `ip:port` that this proxy wants views of, or no longer does."""

    add: list[str] = []
    remove: list[str] = []


class Ack(msgspec.Struct, tag_field="type", tag="ack", frozen=True):
    """Up: the version now in force in this proxy."""

    version: int
    bundle_hash: str = ""


class ConnectFailure(msgspec.Struct, tag_field="type", tag="failure", frozen=True):
    """Up: an endpoint could not be reached or proved to be somebody else."""

    address: str
    authority: str
    reason: str


class ReportMessage(msgspec.Struct, tag_field="type", tag="report", frozen=True):
    """Up: cumulative traffic."""

    report: Report


class Ping(msgspec.Struct, tag_field="type", tag="ping", frozen=True):
    """Either way: answered by Pong; silence for three intervals closes the stream."""

    id: int = 0


class Pong(msgspec.Struct, tag_field="type", tag="pong", frozen=True):
    id: int = 0


class Ask(msgspec.Struct, tag_field="type", tag="ask", frozen=True):
    """Down: a person asks this proxy something. `what` is a word of `proxy.inspect`."""

    id: int
    what: str
    query: dict[str, str] = {}


class Told(msgspec.Struct, tag_field="type", tag="told", frozen=True):
    """Up: the answer to an Ask, JSON as text."""

    id: int
    body: str


class UpdateMessage(msgspec.Struct, tag_field="type", tag="update", frozen=True):
    """Down: the next step of this proxy's view. The first one after Hello is complete."""

    update: Update
    first: bool = False


class Refusal(msgspec.Struct, tag_field="type", tag="refusal", frozen=True):
    """Down, last: why the stream is closed."""

    reason: str
    message: str


Message = (
    Hello
    | Subscribe
    | Ack
    | ConnectFailure
    | ReportMessage
    | Ping
    | Pong
    | Ask
    | Told
    | UpdateMessage
    | Refusal
)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_TYPES = frozenset(
    (
        "hello",
        "subscribe",
        "ack",
        "failure",
        "report",
        "ping",
        "pong",
        "ask",
        "told",
        "update",
        "refusal",
    )
)


class _Tag(msgspec.Struct):
    type: str


# What msgspec raises: its own errors, text that is no UTF-8, JSON that is too deep.
_UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError)
_tag_decoder = msgspec.json.Decoder(_Tag)


def encode(message: Message) -> bytes:
    """One frame. Raises ValueError when the message is larger than a frame may be."""
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME:
        raise ValueError(f"expected a message of at most {MAX_FRAME} bytes, got {len(body)}")
    return len(body).to_bytes(_LENGTH, "big") + body


class FrameReader:
    """Collects bytes and gives whole messages. Raises PeerError on anything malformed."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        buffer = self._buffer
        buffer += data
        messages: list[Message] = []
        while len(buffer) >= _LENGTH:
            size = int.from_bytes(buffer[:_LENGTH], "big")
            if size > MAX_FRAME:
                raise PeerError("frame_too_large", f"frame of {size} bytes, at most {MAX_FRAME}")
            if len(buffer) < _LENGTH + size:
                break
            body = bytes(buffer[_LENGTH : _LENGTH + size])
            del buffer[: _LENGTH + size]
            message = _decode(body)
            if message is not None:
                messages.append(message)
        return messages


def _decode(body: bytes) -> Message | None:
    try:
        return _decoder.decode(body)
    except _UNREADABLE as error:
        try:
            known = _tag_decoder.decode(body).type in _TYPES
        except _UNREADABLE:
            known = True
        if not known:
            return None
        raise PeerError("bad_message", f"message does not decode: {error}") from error
