"""HTTP/2 frames and numbers (RFC 9113 §4, §6, §7), and the limits that we keep. Pure."""

from __future__ import annotations

from struct import Struct
from typing import Final

from mesh.core.errors import PeerError
from proxy.hpack import TABLE

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE = range(6)
PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(6, 10)
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
STREAM_WINDOW: Final = 1 << 20
CONNECTION_WINDOW: Final = 16 << 20
MAX_WINDOW: Final = 2**31 - 1
MAX_FRAME: Final = 64 * 1024  # that we accept
SEND_FRAME: Final = 16 * 1024  # that everybody accepts
MAX_STREAMS: Final = 1000
MAX_BLOCK: Final = 80 * 1024  # bytes of a header block over all its frames
MAX_CONTINUATIONS: Final = 8
BUDGET: Final = 2000  # frames without use that a peer may be ahead
SMALL: Final = 4096  # data below this is copied behind its frame header

HEADER: Final = Struct(">HBBBL")  # length (16 + 8 bits), type, flags, stream
LONG: Final = Struct(">L")
SETTING: Final = Struct(">HL")


class ConnectionError2(PeerError):
    """The peer broke a rule: the whole connection ends with GOAWAY and `code`."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__("http2_error", message, status=400)


def frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    """One frame (RFC 9113 §4.1)."""
    size = len(payload)
    return HEADER.pack(size >> 8, size & 0xFF, kind, flags, number) + payload


def our_settings() -> bytes:
    """What we allow the peer: one SETTINGS frame."""
    values = (
        (0x1, TABLE),
        (0x2, 0),
        (0x3, MAX_STREAMS),
        (0x4, STREAM_WINDOW),
        (0x5, MAX_FRAME),
    )
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(key, value) for key, value in values))


def unpad(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ConnectionError2(PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - payload[0]]
