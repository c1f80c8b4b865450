"""HTTP/2 frames and numbers (RFC 9113 §4, §6, §7), and the limits that we keep. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final

from mesh.core.errors import PeerError
from proxy.hpack import DEFAULT_TABLE, TABLE

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITISED: Final = 0x20

NO_ERROR: Final = 0x0
PROTOCOL_ERROR: Final = 0x1
INTERNAL_ERROR: Final = 0x2
FLOW_CONTROL_ERROR: Final = 0x3
STREAM_CLOSED: Final = 0x5
FRAME_SIZE_ERROR: Final = 0x6
REFUSED_STREAM: Final = 0x7
CANCEL: Final = 0x8
COMPRESSION_ERROR: Final = 0x9
CALM: Final = 0xB

DEFAULT_WINDOW: Final = 65_535
MAX_WINDOW: Final = 2**31 - 1
MAX_STREAM: Final = 2**31 - 1  # the last number that a stream may have
SEND_FRAME: Final = 16 * 1024  # that everybody accepts
MAX_BLOCK: Final = 80 * 1024  # bytes of a header block over all its frames
MAX_CONTINUATIONS: Final = 8
MAX_LIST: Final = 64 * 1024  # bytes of one head, as we announce it
SMALL: Final = 4096  # data below this is copied behind its frame header

HEADER: Final = Struct(">HBBBL")  # length (16 + 8 bits), type, flags, stream
LONG: Final = Struct(">L")
SETTING: Final = Struct(">HL")


@dataclass(frozen=True, slots=True)
class Limits:
    """What the far end of a connection is allowed; windows in bytes, tables too."""

    stream_window: int
    connection_window: int
    streams: int  # open at a time
    frame: int  # bytes of one frame's payload
    table: int  # bytes of the table that we keep for its header blocks
    budget: int  # frames without use that it may be ahead
    resets: int  # of fresh streams in 10 s, before more than half of all are too many
    first_streams: int  # that we open before it has said how many
    is_stranger: bool  # an application or anybody: every rule of RFC 9113 is held against it

    @property
    def settings(self) -> bytes:
        """Our first SETTINGS frame."""
        values = [
            (0x1, self.table),
            (0x2, 0),
            (0x3, self.streams),
            (0x4, self.stream_window),
            (0x5, self.frame),
        ]
        if self.is_stranger:
            values.append((0x6, MAX_LIST))
        return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(key, value) for key, value in values))


PEER: Final = Limits(1 << 20, 16 << 20, 1000, 64 * 1024, TABLE, 2000, 1000, 1000, False)
STRANGER: Final = Limits(64 * 1024, 1 << 20, 256, SEND_FRAME, DEFAULT_TABLE, 200, 100, 100, True)


class ConnectionError2(PeerError):
    """The far end broke a rule: the whole connection ends with GOAWAY and `code`."""

    def __init__(self, code: int, message: str, reason: str = "http2_error") -> None:
        self.code = code
        super().__init__(reason, message, status=400)


def frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    """One frame (RFC 9113 §4.1)."""
    size = len(payload)
    return HEADER.pack(size >> 8, size & 0xFF, kind, flags, number) + payload


def goaway(code: int, last: int) -> bytes:
    """One GOAWAY frame: streams above `last` were not looked at."""
    return frame(GOAWAY, 0, 0, LONG.pack(last) + LONG.pack(code))


def unpad(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ConnectionError2(PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - payload[0]]
