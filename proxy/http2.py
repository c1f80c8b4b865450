"""HTTP/2 framing (RFC 9113) for connections between two proxies of ours: frames, windows,
streams. Pure, but for the transport it writes to.

Kept lean: no priorities, no push, one way to write each frame. Heads travel as the flat lists
they are, names in the case of the application, Host as a field; both ends are ours and the
ALPN says so. What a peer could do to us is bounded: frame and block sizes, the number of
streams, windows, and a budget of frames that carry nothing.
"""

from __future__ import annotations

from typing import Any

from mesh.core.errors import PeerError
from proxy.hpack import Decoder, Encoder, Entry
from proxy.http2_frames import (
    ACK,
    BUDGET,
    CALM,
    COMPRESSION_ERROR,
    CONNECTION_WINDOW,
    CONTINUATION,
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADER,
    HEADERS,
    LONG,
    MAX_BLOCK,
    MAX_CONTINUATIONS,
    MAX_FRAME,
    MAX_WINDOW,
    PADDED,
    PING,
    PRIORITISED,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SEND_FRAME,
    SETTING,
    SETTINGS,
    SMALL,
    STREAM_WINDOW,
    WINDOW_UPDATE,
    ConnectionError2,
    frame,
    our_settings,
    unpad,
)
from proxy.seams import Transport


class Stream:
    """One stream's windows and what waits for them. The roles add what it means."""

    __slots__ = ("_held_credit", "id", "is_paused", "left", "pending", "receive_window", "window")

    def __init__(self, number: int, window: int) -> None:
        self.id = number
        self.window = window  # bytes that we may still send
        self.receive_window = STREAM_WINDOW
        self.pending: list[tuple[bytes, bool]] | None = None  # data that waits for a window
        self.is_paused = False  # whoever takes its data has asked for no more
        self.left: int | None = None  # bytes of a measured body still to come
        self._held_credit = 0

    def blocked(self) -> None:
        """More was sent than the windows allow."""

    def ready(self) -> None:
        """All of it has gone."""


class Http2:
    """One connection, either role. Subclasses give `on_headers` and its kin."""

    __slots__ = (
        "_block",
        "_block_end",
        "_block_frames",
        "_block_stream",
        "_budget",
        "_congested",
        "_credit",
        "_data_left",
        "_data_stream",
        "_decoder",
        "_encoder",
        "_peer_window",
        "_receive_window",
        "_rest",
        "_transport",
        "_window",
        "goaway_sent",
        "is_over",
        "read_bytes",
        "streams",
        "written_bytes",
    )

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._encoder = Encoder()
        self._decoder = Decoder()
        self._rest = b""
        self._block: list[bytes] | None = None  # a header block that goes on
        self._block_stream = 0
        self._block_end = False
        self._block_frames = 0
        self._data_left = 0  # bytes of a DATA frame that is passed on in parts
        self._data_stream = 0
        self._window = DEFAULT_WINDOW  # of the connection, for sending
        self._peer_window = DEFAULT_WINDOW  # of each new stream, for sending
        self._receive_window = CONNECTION_WINDOW
        self._credit = 0  # bytes taken, not yet given back to the peer
        self._budget = BUDGET
        self._congested = False  # the transport asked for a pause
        self.streams: dict[int, Any] = {}
        self.goaway_sent = False
        self.is_over = False
        self.read_bytes = 0
        self.written_bytes = 0

    # -- receiver ----------------------------------------------------------------------------

    def connection_made(self, transport: Transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.read_bytes += len(data)
        try:
            self._feed(data)
        except PeerError as error:
            self._fail(error)

    def eof_received(self) -> bool | None:
        return False

    def pause_writing(self) -> None:
        self._congested = True
        for stream in list(self.streams.values()):
            stream.blocked()

    def resume_writing(self) -> None:
        self._congested = False
        for stream in list(self.streams.values()):
            if stream.pending is None:
                stream.ready()

    # -- writing -----------------------------------------------------------------------------

    def open_connection(self, preface: bytes) -> None:
        """Say how large our windows, frames and tables are."""
        grow = LONG.pack(CONNECTION_WINDOW - DEFAULT_WINDOW)
        self._write(preface + our_settings() + frame(WINDOW_UPDATE, 0, 0, grow))

    def send_head(self, number: int, pairs: list[tuple[bytes, bytes]], end: bool) -> None:
        """A head, or trailers with `end`."""
        block = self._encoder.encode(pairs)
        flags = END_HEADERS | END_STREAM if end else END_HEADERS
        if len(block) <= SEND_FRAME:
            self._write(frame(HEADERS, flags, number, block))
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
        if stream.pending is None:
            stream.pending = []
        stream.pending.append((data, end))
        self._pump(stream)
        if stream.pending is not None or self._congested:
            stream.blocked()

    def send_reset(self, number: int, code: int) -> None:
        self._write(frame(RST_STREAM, 0, number, LONG.pack(code)))

    def send_goaway(self, code: int, last: int) -> None:
        self.goaway_sent = True
        self._write(frame(GOAWAY, 0, 0, LONG.pack(last) + LONG.pack(code)))

    def pause_stream(self, stream: Stream) -> None:
        """Whoever takes this stream's data wants no more: keep its credit back."""
        stream.is_paused = True

    def resume_stream(self, stream: Stream) -> None:
        if stream.is_paused:
            stream.is_paused = False
            self._give_credit(stream, 0)

    def _write_data(self, number: int, data: bytes, end: bool) -> None:
        size = len(data)
        head = HEADER.pack(size >> 8, size & 0xFF, DATA, END_STREAM if end else 0, number)
        if size <= SMALL:
            self._write(head + data)
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
            if room < len(data):
                if room <= 0:
                    return
                pending[0] = (data[room:], end)
                data, end = data[:room], False
            else:
                del pending[0]
            stream.window -= len(data)
            self._window -= len(data)
            self._write_data(stream.id, data, end)
        stream.pending = None

    def _pump_all(self) -> None:
        for stream in list(self.streams.values()):
            if stream.pending is not None:
                self._pump_ready(stream)

    def _pump_ready(self, stream: Stream) -> None:
        self._pump(stream)
        if stream.pending is None and not self._congested:
            stream.ready()

    # -- reading -----------------------------------------------------------------------------

    def _feed(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
            self._rest = b""
        at, end = 0, len(data)
        if self._data_left:
            at = self._pass_on(data, 0, end)
        while end - at >= 9:
            high, low, kind, flags, number = HEADER.unpack_from(data, at)
            size = high << 8 | low
            if size > MAX_FRAME:
                raise ConnectionError2(FRAME_SIZE_ERROR, "frame larger than allowed")
            stop = at + 9 + size
            if stop > end:
                if kind == DATA and not flags & (END_STREAM | PADDED) and self._block is None:
                    self._data_left, self._data_stream = size, number
                    self._take_credit(number, size)
                    at = self._pass_on(data, at + 9, end)
                break
            self._frame(kind, flags, number & 0x7FFFFFFF, data[at + 9 : stop])
            if self.is_over:
                return
            at = stop
        if at < end:
            self._rest = data[at:]

    def _pass_on(self, data: bytes, at: int, end: int) -> int:
        """The next part of a large DATA frame that is still on its way."""
        part = data[at : min(end, at + self._data_left)]
        self._data_left -= len(part)
        stream = self.streams.get(self._data_stream)
        if stream is not None and part:
            self.on_data(stream, part, False)
            self._give_credit(stream, len(part))
        else:
            self._give_credit(None, len(part))
        return at + len(part)

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._block is not None and kind != CONTINUATION:
            raise ConnectionError2(PROTOCOL_ERROR, "a header block was not continued")
        if kind == DATA:
            self._on_data_frame(flags, number, payload)
        elif kind == HEADERS:
            self._on_headers_frame(flags, number, payload)
        elif kind == CONTINUATION:
            self._on_continuation(flags, number, payload)
        else:
            self._on_control(kind, flags, number, payload)

    def _on_data_frame(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self._take_credit(number, size)
        data = unpad(payload) if flags & PADDED else payload
        end = bool(flags & END_STREAM)
        if data or end:
            self._budget = min(BUDGET, self._budget + 1)
        else:
            self._spend(1)
        stream = self.streams.get(number)
        if stream is None:
            self.on_late_frame(number)
            self._give_credit(None, size)
            return
        self.on_data(stream, data, end)
        self._give_credit(stream, size)

    def _take_credit(self, number: int, size: int) -> None:
        """The peer has used so much of our windows."""
        self._receive_window -= size
        stream = self.streams.get(number)
        if stream is not None:
            stream.receive_window -= size
        if self._receive_window < 0 or (stream is not None and stream.receive_window < 0):
            raise ConnectionError2(FLOW_CONTROL_ERROR, "more data than the window allows")

    def _give_credit(self, stream: Stream | None, size: int) -> None:
        """Bytes were taken: give them back, in large steps, unless their taker is paused."""
        if stream is not None:
            stream._held_credit += size
            if stream.is_paused:
                return
            size = stream._held_credit
            if stream.receive_window < STREAM_WINDOW // 2 and stream.id in self.streams:
                grow = STREAM_WINDOW - stream.receive_window
                stream.receive_window = STREAM_WINDOW
                self._write(frame(WINDOW_UPDATE, 0, stream.id, LONG.pack(grow)))
            stream._held_credit = 0
        self._credit += size
        if self._credit >= CONNECTION_WINDOW // 4:
            self._receive_window += self._credit
            self._write(frame(WINDOW_UPDATE, 0, 0, LONG.pack(self._credit)))
            self._credit = 0

    def forget_stream(self, stream: Stream) -> None:
        """The stream is over: what its taker never took is given back to the connection."""
        if self.streams.pop(stream.id, None) is not None and stream._held_credit:
            stream.is_paused = False
            self._give_credit(stream, 0)

    def _on_headers_frame(self, flags: int, number: int, payload: bytes) -> None:
        self._budget = min(BUDGET, self._budget + 1)
        if flags & PADDED:
            payload = unpad(payload)
        if flags & PRIORITISED:
            payload = payload[5:]
        end = bool(flags & END_STREAM)
        if flags & END_HEADERS:
            self.on_headers(number, self._decoder.decode(payload), end)
            return
        self._block, self._block_stream, self._block_end = [payload], number, end
        self._block_frames = 0

    def _on_continuation(self, flags: int, number: int, payload: bytes) -> None:
        block = self._block
        if block is None or number != self._block_stream:
            raise ConnectionError2(PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        block.append(payload)
        self._block_frames += 1
        if self._block_frames > MAX_CONTINUATIONS or sum(map(len, block)) > MAX_BLOCK:
            raise ConnectionError2(CALM, "header block too large")
        if flags & END_HEADERS:
            self._block = None
            self.on_headers(number, self._decoder.decode(b"".join(block)), self._block_end)

    def _on_control(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        self._spend(2 if kind == RST_STREAM else 1)
        if kind == WINDOW_UPDATE:
            self._on_window_update(number, payload)
        elif kind == RST_STREAM:
            stream = self.streams.get(number)
            if stream is not None and len(payload) == 4:
                self.forget_stream(stream)
                self.on_reset(stream, LONG.unpack(payload)[0])
        elif kind == SETTINGS:
            if not flags & ACK:
                self._on_settings(payload)
        elif kind == PING:
            if len(payload) != 8:
                raise ConnectionError2(FRAME_SIZE_ERROR, "PING of another size")
            if not flags & ACK:
                self._write(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            if len(payload) < 8:
                raise ConnectionError2(FRAME_SIZE_ERROR, "GOAWAY too short")
            self.on_goaway(LONG.unpack_from(payload)[0] & 0x7FFFFFFF)
        elif kind == PUSH_PROMISE:
            raise ConnectionError2(PROTOCOL_ERROR, "nobody allowed pushes")

    def _on_window_update(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionError2(FRAME_SIZE_ERROR, "WINDOW_UPDATE of another size")
        grow = LONG.unpack(payload)[0] & 0x7FFFFFFF
        if not number:
            self._window += grow
            if self._window > MAX_WINDOW or not grow:
                raise ConnectionError2(FLOW_CONTROL_ERROR, "window out of range")
            self._pump_all()
            return
        stream = self.streams.get(number)
        if stream is not None:
            stream.window += grow
            if stream.window > MAX_WINDOW:
                raise ConnectionError2(FLOW_CONTROL_ERROR, "window out of range")
            if stream.pending is not None:
                self._pump_ready(stream)

    def _on_settings(self, payload: bytes) -> None:
        if len(payload) % 6:
            raise ConnectionError2(FRAME_SIZE_ERROR, "SETTINGS of another size")
        for key, value in SETTING.iter_unpack(payload):
            if key == 0x1:
                self._encoder.resize(value)
            elif key == 0x4:
                if value > MAX_WINDOW:
                    raise ConnectionError2(FLOW_CONTROL_ERROR, "window out of range")
                grow = value - self._peer_window
                self._peer_window = value
                for stream in self.streams.values():
                    stream.window += grow
        self._write(frame(SETTINGS, ACK, 0, b""))
        self._pump_all()

    def _spend(self, cost: int) -> None:
        """Frames that carry nothing have a budget, which useful ones fill up again."""
        self._budget -= cost
        if self._budget < 0:
            raise ConnectionError2(CALM, "too many frames without use")

    def _fail(self, error: PeerError) -> None:
        code = error.code if isinstance(error, ConnectionError2) else COMPRESSION_ERROR
        self.is_over = True
        self.send_goaway(code, self.last_stream())
        self._transport.close()

    # -- the roles ---------------------------------------------------------------------------

    def on_headers(self, number: int, entries: list[Entry], end: bool) -> None:
        raise NotImplementedError

    def on_data(self, stream: Any, data: bytes, end: bool) -> None:
        raise NotImplementedError

    def on_reset(self, stream: Any, code: int) -> None:
        raise NotImplementedError

    def on_goaway(self, last: int) -> None:
        raise NotImplementedError

    def on_late_frame(self, number: int) -> None:
        """A frame of a stream that is over. Costs a little."""
        self._spend(1)

    def last_stream(self) -> int:
        raise NotImplementedError
