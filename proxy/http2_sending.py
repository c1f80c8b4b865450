"""The sending half of an HTTP/2 connection: heads, data, the windows that hold data back.
Pure, but for the transport it writes to.

What a window does not allow waits with its stream, and whoever gave it is told to stop: no
more than one piece per stream is ever kept (RFC 9113 §5.2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proxy.hpack import Encoder
from proxy.http2_frames import (
    CONTINUATION,
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEADER,
    HEADERS,
    LONG,
    RST_STREAM,
    SEND_FRAME,
    SMALL,
    WINDOW_UPDATE,
    Limits,
    frame,
    goaway,
)
from proxy.seams import Transport


class Stream:
    """One stream's windows and what waits for them. The roles add what it means."""

    __slots__ = (
        "_held_credit",
        "id",
        "is_paused",
        "left",
        "pending",
        "receive_window",
        "stalled",
        "trailers",
        "window",
    )

    def __init__(self, number: int, window: int, receive_window: int) -> None:
        self.id = number
        self.window = window  # bytes that we may still send
        self.receive_window = receive_window
        self.pending: list[tuple[bytes, bool]] | None = None  # data that waits for a window
        self.trailers: list[tuple[bytes, bytes]] | None = None  # that wait behind it
        self.stalled = 0  # bytes that the slowest taker would have taken of it since it waits
        self.is_paused = False  # whoever takes its data has asked for no more
        self.left: int | None = None  # bytes of a measured body still to come
        self._held_credit = 0

    def blocked(self) -> None:
        """More was sent than the windows allow."""

    def ready(self) -> None:
        """All of it has gone."""


def _ended(data: bytes) -> bytes:
    """A DATA frame, as the last of its stream."""
    return data[:4] + b"\x01" + data[5:]


def _keep(data: bytes) -> bool:
    """A transport that takes nothing back."""
    return False


class Sending:
    """What both roles do to write."""

    __slots__ = (
        "_budget",
        "_congested",
        "_encoder",
        "_peer_window",
        "_tail",
        "_tail_stream",
        "_take_back",
        "_transport",
        "_window",
        "goaway_sent",
        "limits",
        "streams",
        "written_bytes",
    )

    def __init__(self, transport: Transport, limits: Limits) -> None:
        self._transport = transport
        self._take_back: Callable[[bytes], bool] = getattr(transport, "take_back", _keep)
        self._tail = b""  # the last small piece of a body, which may turn out to be its end
        self._tail_stream = 0
        self.limits = limits
        self._encoder = Encoder()
        self._window = DEFAULT_WINDOW  # of the connection, for sending
        self._peer_window = DEFAULT_WINDOW  # of each new stream, for sending
        self._congested = False  # the transport asked for a pause
        self._budget = limits.budget
        self.streams: dict[int, Any] = {}
        self.goaway_sent = False
        self.written_bytes = 0

    def pause_writing(self) -> None:
        self._congested = True
        for stream in list(self.streams.values()):
            stream.blocked()

    def resume_writing(self) -> None:
        self._congested = False
        for stream in list(self.streams.values()):
            if stream.pending is None:
                stream.ready()

    def open_connection(self, preface: bytes) -> None:
        """Say how large our windows, frames and tables are."""
        limits = self.limits
        grow = LONG.pack(limits.connection_window - DEFAULT_WINDOW)
        self._write(preface + limits.settings + frame(WINDOW_UPDATE, 0, 0, grow))

    def send_head(self, number: int, pairs: list[tuple[bytes, bytes]], end: bool) -> None:
        """A head, or trailers with `end`."""
        self._budget += 1
        block = self._encoder.encode(pairs)
        flags = END_HEADERS | END_STREAM if end else END_HEADERS
        size = len(block)
        if size <= SEND_FRAME:
            self._write(HEADER.pack(size >> 8, size & 0xFF, HEADERS, flags, number) + block)
            return
        self._write(frame(HEADERS, flags & END_STREAM, number, block[:SEND_FRAME]))
        for at in range(SEND_FRAME, len(block), SEND_FRAME):
            last = END_HEADERS if at + SEND_FRAME >= len(block) else 0
            self._write(frame(CONTINUATION, last, number, block[at : at + SEND_FRAME]))

    def send_data(self, stream: Stream, data: bytes, end: bool) -> None:
        """A piece of a body; what the windows do not allow waits, and `blocked` is called."""
        size = len(data)
        if (
            stream.pending is None
            and size <= stream.window
            and size <= self._window
            and size <= SEND_FRAME
        ):
            stream.window -= size
            self._window -= size
            self._write_data(stream.id, data, end)
            if self._congested:
                stream.blocked()
            return
        pending = stream.pending
        if pending is None:
            pending = stream.pending = []
        pending.append((data, end))
        self._pump(stream)
        if stream.pending is not None or self._congested:
            stream.blocked()

    def send_end(self, stream: Stream, trailers: list[tuple[bytes, bytes]] | None) -> None:
        """The end of a body; trailers go behind data that still waits."""
        if not trailers:
            is_last = self._tail_stream == stream.id and stream.pending is None
            if is_last and self._take_back(self._tail):
                self._write(_ended(self._tail))
                self._tail_stream = 0
            else:
                self.send_data(stream, b"", True)
        elif stream.pending is None:
            self.send_head(stream.id, trailers, True)
        else:
            stream.trailers = trailers

    def send_reset(self, number: int, code: int) -> None:
        self._write(frame(RST_STREAM, 0, number, LONG.pack(code)))

    def send_goaway(self, code: int, last: int) -> None:
        self.goaway_sent = True
        self._write(goaway(code, last))

    def _write_data(self, number: int, data: bytes, end: bool) -> None:
        size = len(data)
        self._budget += 1
        head = HEADER.pack(size >> 8, size & 0xFF, DATA, END_STREAM if end else 0, number)
        if size <= SMALL:
            self._tail = data = head + data
            self._tail_stream = number
            self._write(data)
        else:
            self._write(head)
            self._write(data)

    def _write(self, data: bytes) -> None:
        self.written_bytes += len(data)
        try:
            self._transport.write(data)
        except RuntimeError:
            return  # closed under us; connection_lost is on its way

    def _pump(self, stream: Stream) -> None:
        """Send what waits, as far as the windows go."""
        pending = stream.pending
        if pending is None:
            return
        while pending:
            data, end = pending[0]
            room = min(stream.window, self._window, SEND_FRAME)
            if data and room < len(data):
                if room <= 0:
                    return
                pending[0] = (data[room:], end)
                data, end = data[:room], False
            else:
                del pending[0]
            stream.window -= len(data)
            self._window -= len(data)
            stream.stalled = max(0, stream.stalled - len(data))
            self._write_data(stream.id, data, end)
        stream.pending = None
        if stream.trailers is not None:
            trailers, stream.trailers = stream.trailers, None
            self.send_head(stream.id, trailers, True)

    def _pump_all(self) -> None:
        for stream in list(self.streams.values()):
            if stream.pending is not None:
                self._pump_ready(stream)

    def _pump_ready(self, stream: Stream) -> None:
        self._pump(stream)
        if stream.pending is None and not self._congested:
            stream.ready()
