"""HTTP/2 framing (RFC 9113), either role: frames, windows, streams. Pure, but for the
transport it writes to.

Between two proxies of ours heads travel as the flat lists they are, names in the case of the
application; towards applications and strangers every rule of the RFC is held against the far
end. What it could do to us is bounded in both cases: frame and block sizes, the number of
streams, windows, and a budget of frames that carry nothing. Priorities and pushes are left out.
"""

from __future__ import annotations

from typing import Any, Final

from mesh.core.errors import PeerError
from proxy.hpack import Block, Decoder
from proxy.http2_frames import (
    ACK,
    CALM,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
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
    MAX_WINDOW,
    PADDED,
    PING,
    PRIORITISED,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTING,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    ConnectionError2,
    Limits,
    frame,
    unpad,
)
from proxy.http2_sending import Sending, Stream
from proxy.seams import Transport

MAX_RESET: Final = 2048  # streams that we reset lately and whose late frames do no harm
FREE_UPDATES: Final = 200  # window updates beyond those that our data explains
# Which kinds of frames drain the budget, and the reason when it is spent.
_FLOODS: Final = {
    PRIORITY: "priority_flood",
    RST_STREAM: "reset_flood",
    SETTINGS: "settings_flood",
    PING: "ping_flood",
    DATA: "empty_data_flood",
}


class Http2(Sending):
    """One connection, either role. Subclasses give `on_headers` and its kin."""

    __slots__ = (
        "_block",
        "_block_end",
        "_block_frames",
        "_block_size",
        "_block_stream",
        "_credit",
        "_data_left",
        "_data_stream",
        "_decoder",
        "_has_settings",
        "_receive_window",
        "_reset_here",
        "_rest",
        "_updates",
        "is_over",
        "peer_streams",
        "read_bytes",
    )

    def __init__(self, transport: Transport, limits: Limits) -> None:
        super().__init__(transport, limits)
        self._decoder = Decoder(limits.table, is_strict=limits.is_stranger)
        self._rest = b""
        self._block: list[bytes] | None = None  # a header block that goes on
        self._block_stream = 0
        self._block_end = False
        self._block_frames = self._block_size = 0
        self._data_left = 0  # bytes of a DATA frame that is passed on in parts
        self._data_stream = 0
        self._receive_window = limits.connection_window
        self._credit = 0  # bytes taken, not yet given back to the far end
        self._reset_here: dict[int, None] = {}
        self._updates = 0  # window updates that came
        self._has_settings = False
        self.peer_streams = limits.first_streams  # that the far end lets us open
        self.is_over = False
        self.read_bytes = 0

    # -- receiver ----------------------------------------------------------------------------

    def connection_made(self, transport: Transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.read_bytes += len(data)
        if self.is_over:
            return
        try:
            self._feed(data)
        except PeerError as error:
            self._fail(error)

    def eof_received(self) -> bool | None:
        return False

    def send_reset(self, number: int, code: int) -> None:
        reset = self._reset_here
        if len(reset) >= MAX_RESET:
            del reset[next(iter(reset))]
        reset[number] = None
        super().send_reset(number, code)

    # -- frames ------------------------------------------------------------------------------

    def _feed(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
            self._rest = b""
        at, end = 0, len(data)
        if self._data_left:
            at = self._pass_on(data, 0, end)
        largest = self.limits.frame
        while end - at >= 9:
            high, low, kind, flags, number = HEADER.unpack_from(data, at)
            size = high << 8 | low
            if size > largest:
                raise ConnectionError2(FRAME_SIZE_ERROR, "frame larger than allowed")
            stop = at + 9 + size
            if stop > end:
                if kind == DATA and self._goes_on(flags, number):
                    self._data_left, self._data_stream = size, number
                    self._take_credit(number, size)
                    at = self._pass_on(data, at + 9, end)
                break
            payload = data[at + 9 : stop]
            at = stop
            number &= 0x7FFFFFFF
            if self._block is not None:
                self._on_continued(kind, flags, number, payload)
            elif kind == DATA:
                self._on_data_frame(flags, number, payload)
            elif kind == HEADERS:
                self._on_headers_frame(flags, number, payload)
            else:
                self._on_control(kind, flags, number, payload)
            if self.is_over:
                return
        if at < end:
            self._rest = data[at:]

    def _goes_on(self, flags: int, number: int) -> bool:
        """Whether the parts of an unfinished DATA frame may be passed on as they come."""
        return not flags & (END_STREAM | PADDED) and self._block is None and number in self.streams

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

    def _on_continued(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind != CONTINUATION:
            raise ConnectionError2(PROTOCOL_ERROR, "a header block was not continued")
        self._on_continuation(flags, number, payload)

    def _on_data_frame(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self._take_credit(number, size)
        data = unpad(payload) if flags & PADDED else payload
        end = flags & END_STREAM != 0
        if data or end:
            self._budget += 1
        else:
            self._spend(1, DATA)
        stream = self.streams.get(number)
        if stream is None:
            self._on_late_frame(DATA, number)
            self._give_credit(None, size)
            return
        self.on_data(stream, data, end)
        self._give_credit(stream, size)

    def _on_headers_frame(self, flags: int, number: int, payload: bytes) -> None:
        self._budget += 1
        if not number:
            raise ConnectionError2(PROTOCOL_ERROR, "HEADERS on stream 0")
        if flags & (PADDED | PRIORITISED):
            payload = _bare(flags, number, payload)
        end = flags & END_STREAM != 0
        if flags & END_HEADERS:
            self.on_headers(number, self._decoder.decode(payload), end)
            return
        self._block, self._block_stream, self._block_end = [payload], number, end
        self._block_frames, self._block_size = 0, len(payload)

    def _on_continuation(self, flags: int, number: int, payload: bytes) -> None:
        block = self._block
        if block is None or number != self._block_stream:
            raise ConnectionError2(PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        block.append(payload)
        self._block_frames += 1
        self._block_size += len(payload)
        if self._block_frames > MAX_CONTINUATIONS or self._block_size > MAX_BLOCK:
            raise ConnectionError2(CALM, "header block too large", "continuation_flood")
        if flags & END_HEADERS:
            self._block = None
            self.on_headers(number, self._decoder.decode(b"".join(block)), self._block_end)

    def _on_control(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE:
            self._on_window_update(number, payload)
        elif kind == RST_STREAM:
            self._on_reset_frame(number, payload)
        elif kind == SETTINGS:
            self._on_settings_frame(flags, number, payload)
        elif kind == PING:
            if number or len(payload) != 8:
                code = PROTOCOL_ERROR if number else FRAME_SIZE_ERROR
                raise ConnectionError2(code, "PING on a stream or of another size")
            self._spend(1, PING)
            if flags & ACK:
                self.on_pong(payload)
            else:
                self._write(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            if number or len(payload) < 8:
                code = PROTOCOL_ERROR if number else FRAME_SIZE_ERROR
                raise ConnectionError2(code, "GOAWAY on a stream or too short")
            self._spend(1, GOAWAY)
            self.on_goaway(LONG.unpack_from(payload)[0] & 0x7FFFFFFF)
        elif kind == PUSH_PROMISE:
            raise ConnectionError2(PROTOCOL_ERROR, "nobody allowed pushes")
        elif kind == CONTINUATION:
            raise ConnectionError2(PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        else:
            self._on_useless(kind, number, payload)

    def _on_useless(self, kind: int, number: int, payload: bytes) -> None:
        """PRIORITY, which we check and forget, and kinds that no RFC we know defines."""
        self._spend(1, kind)
        if kind != PRIORITY:
            return
        if not number:
            raise ConnectionError2(PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:
            raise ConnectionError2(FRAME_SIZE_ERROR, "PRIORITY of another size")
        if LONG.unpack_from(payload)[0] & 0x7FFFFFFF == number:
            raise ConnectionError2(PROTOCOL_ERROR, "a stream that depends on itself")

    def _on_reset_frame(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionError2(FRAME_SIZE_ERROR, "RST_STREAM of another size")
        stream = self.streams.get(number)
        if stream is None:
            if self.is_idle(number):
                raise ConnectionError2(PROTOCOL_ERROR, "RST_STREAM of a stream that never was")
            self._spend(1, RST_STREAM)
            return
        self._budget -= 1
        self.forget_stream(stream)
        self.on_reset(stream, LONG.unpack(payload)[0])

    def _on_settings_frame(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionError2(PROTOCOL_ERROR, "SETTINGS on a stream")
        self._spend(2, SETTINGS)
        if flags & ACK:
            if payload:
                raise ConnectionError2(FRAME_SIZE_ERROR, "an acknowledgement with settings")
            return
        if len(payload) % 6:
            raise ConnectionError2(FRAME_SIZE_ERROR, "SETTINGS of another size")
        self._spend(len(payload) // 60, SETTINGS)
        for key, value in SETTING.iter_unpack(payload):
            self._on_setting(key, value)
        self._has_settings = True
        self._write(frame(SETTINGS, ACK, 0, b""))
        self._pump_all()

    def _on_setting(self, key: int, value: int) -> None:
        if key == 0x1:
            self._encoder.resize(value)
        elif key == 0x2 and value > 1:
            raise ConnectionError2(PROTOCOL_ERROR, "ENABLE_PUSH other than 0 and 1")
        elif key == 0x3:
            self.peer_streams = value
        elif key == 0x4:
            if value > MAX_WINDOW:
                raise ConnectionError2(FLOW_CONTROL_ERROR, "window out of range")
            grow = value - self._peer_window
            self._peer_window = value
            for stream in self.streams.values():
                stream.window += grow
                if stream.window > MAX_WINDOW:
                    raise ConnectionError2(FLOW_CONTROL_ERROR, "window out of range")
        elif key == 0x5 and not 1 << 14 <= value < 1 << 24:
            raise ConnectionError2(PROTOCOL_ERROR, "MAX_FRAME_SIZE out of range")

    def _on_window_update(self, number: int, payload: bytes) -> None:
        """Updates are as many as our data explains, or a little more."""
        self._updates += 1
        if self._updates > FREE_UPDATES + self.newest_stream() + (self.written_bytes >> 3):
            raise ConnectionError2(CALM, "window updates for no data", "window_flood")
        if len(payload) != 4:
            raise ConnectionError2(FRAME_SIZE_ERROR, "WINDOW_UPDATE of another size")
        grow = LONG.unpack(payload)[0] & 0x7FFFFFFF
        if not grow:
            raise ConnectionError2(PROTOCOL_ERROR, "a window that grows by nothing")
        if not number:
            self._window += grow
            if self._window > MAX_WINDOW:
                raise ConnectionError2(FLOW_CONTROL_ERROR, "window out of range")
            self._pump_all()
            return
        stream = self.streams.get(number)
        if stream is not None:
            stream.window += grow
            if stream.window > MAX_WINDOW:
                self.on_stream_error(stream, FLOW_CONTROL_ERROR)
            elif stream.pending is not None:
                self._pump_ready(stream)
        elif self.is_idle(number):
            raise ConnectionError2(PROTOCOL_ERROR, "a window of a stream that never was")

    # -- windows for what we receive ---------------------------------------------------------

    def _take_credit(self, number: int, size: int) -> None:
        """The far end has used so much of our windows."""
        self._receive_window -= size
        stream = self.streams.get(number)
        if stream is not None:
            stream.receive_window -= size
        if self._receive_window < 0 or (stream is not None and stream.receive_window < 0):
            raise ConnectionError2(FLOW_CONTROL_ERROR, "more data than the window allows")

    def _give_credit(self, stream: Stream | None, size: int) -> None:
        """Bytes were taken: give them back, in large steps, unless their taker is paused."""
        limits = self.limits
        if stream is not None:
            stream._held_credit += size
            if stream.is_paused:
                return
            size = stream._held_credit
            if stream.receive_window < limits.stream_window // 2 and stream.id in self.streams:
                grow = limits.stream_window - stream.receive_window
                stream.receive_window = limits.stream_window
                self._write(frame(WINDOW_UPDATE, 0, stream.id, LONG.pack(grow)))
            stream._held_credit = 0
        self._credit += size
        if self._credit >= limits.connection_window // 4:
            self._receive_window += self._credit
            self._write(frame(WINDOW_UPDATE, 0, 0, LONG.pack(self._credit)))
            self._credit = 0

    def pause_stream(self, stream: Stream) -> None:
        """Whoever takes this stream's data wants no more: keep its credit back."""
        stream.is_paused = True

    def resume_stream(self, stream: Stream) -> None:
        if stream.is_paused:
            stream.is_paused = False
            self._give_credit(stream, 0)

    def forget_stream(self, stream: Stream) -> None:
        """The stream is over: what its taker never took is given back to the connection."""
        if self.streams.pop(stream.id, None) is not None and stream._held_credit:
            stream.is_paused = False
            self._give_credit(stream, 0)

    # -- what must not be ----------------------------------------------------------------------

    def _spend(self, cost: int, kind: int) -> None:
        """Frames that carry nothing have a budget, which useful ones fill up again; while the
        far end does not read our answers to them, they cost more."""
        limit = self.limits.budget
        self._budget = min(self._budget, limit) - (cost * 8 if self._congested else cost)
        if self._budget < 0:
            reason = _FLOODS.get(kind, "frame_flood")
            raise ConnectionError2(CALM, "too many frames without use", reason)

    def refill(self) -> None:
        """Called every second: time fills the budget up, too."""
        limit = self.limits.budget
        self._budget = min(self._budget + limit // 2, limit)
        self._updates = max(0, self._updates - limit // 2)

    def _on_late_frame(self, kind: int, number: int) -> None:
        """A frame of a stream that is not open. Harmless when our reset crossed it."""
        if self.is_idle(number):
            raise ConnectionError2(PROTOCOL_ERROR, "a frame of a stream that never was")
        self._spend(1, kind)
        if number in self._reset_here or not self.limits.is_stranger:
            return
        if kind == HEADERS:
            raise ConnectionError2(STREAM_CLOSED, "HEADERS of a stream that is over")
        self.send_reset(number, STREAM_CLOSED)

    def _fail(self, error: PeerError) -> None:
        code = CALM if error.status == 431 else COMPRESSION_ERROR
        if isinstance(error, ConnectionError2):
            code = error.code
        self.is_over = True
        self.send_goaway(code, self.last_stream())
        self.on_failure(error)

    # -- the roles ---------------------------------------------------------------------------

    def is_idle(self, number: int) -> bool:
        """Whether no such stream has been opened yet."""
        raise NotImplementedError

    def on_headers(self, number: int, entries: Block, end: bool) -> None:
        raise NotImplementedError

    def on_data(self, stream: Any, data: bytes, end: bool) -> None:
        raise NotImplementedError

    def on_reset(self, stream: Any, code: int) -> None:
        raise NotImplementedError

    def on_stream_error(self, stream: Any, code: int) -> None:
        """The far end broke a rule on one stream: reset it."""
        raise NotImplementedError

    def on_goaway(self, last: int) -> None:
        raise NotImplementedError

    def on_pong(self, payload: bytes) -> None:
        """The answer to a PING of ours."""

    def on_failure(self, error: PeerError) -> None:
        """The connection is over, GOAWAY is on its way."""
        self._transport.close()

    def last_stream(self) -> int:
        """The newest stream of the far end that was looked at, for GOAWAY."""
        raise NotImplementedError

    def newest_stream(self) -> int:
        """The highest number that either end has used."""
        raise NotImplementedError


def _bare(flags: int, number: int, payload: bytes) -> bytes:
    """The header block of a HEADERS frame without padding and priority."""
    if flags & PADDED:
        payload = unpad(payload)
    if flags & PRIORITISED:
        if len(payload) < 5:
            raise ConnectionError2(FRAME_SIZE_ERROR, "HEADERS too short for its priority")
        if LONG.unpack_from(payload)[0] & 0x7FFFFFFF == number:
            raise ConnectionError2(PROTOCOL_ERROR, "a stream that depends on itself")
        payload = payload[5:]
    return payload


__all__ = ["Http2", "Stream"]
