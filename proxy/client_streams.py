"""Requests of one client on one HTTP/2 connection: one stream each, many at once.

The client is a peer's proxy, or with STRANGER limits an application or anybody: then all that
could exhaust us is accounted for, resets in the first place (CVE-2023-44487), also those that
the client provokes us to send (CVE-2025-8671).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from mesh.core.errors import PeerError
from proxy import heads2, heads2_app
from proxy.answer import phrase, reply_fields
from proxy.client_connection import Keeper, overloaded
from proxy.client_stream import ClientStream
from proxy.exchange import Exchange, Pipeline
from proxy.guard import Fields
from proxy.heads2 import Heads, Pairs
from proxy.heads2_app import AppHeads
from proxy.hpack import Block
from proxy.http1 import COLLECT, STRIP, Request, Response
from proxy.http2 import Http2
from proxy.http2_frames import (
    CALM,
    CANCEL,
    HEADERS,
    MAX_STREAM,
    NO_ERROR,
    PEER,
    PING,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    ConnectionError2,
    Limits,
    frame,
    goaway,
)
from proxy.http2_sending import Stream
from proxy.pace import MIN_RATE, PACE_SECONDS, Taking
from proxy.seams import Transport

log = logging.getLogger(__name__)

IDLE_SECONDS: Final = 60.0
APPLICATION_IDLE: Final = 600.0  # gRPC clients keep their connections for long
PREFACE_SECONDS: Final = 10.0
LINGER_SECONDS: Final = 1.0
LAST_CALL_SECONDS: Final = 1.0  # for the answer to the PING behind the first GOAWAY
HEAD_SECONDS: Final = 10  # for a header block, from its first frame
WINDOW_SECONDS: Final = 10.0  # over which resets are counted
EARLY_SECONDS: Final = 1.0  # a reset after that is a client's change of mind
_LAST_CALL: Final = b"lastcall"


class ClientStreams(Http2):
    """The connection, as a receiver; all its requests go through one pipeline."""

    __slots__ = (
        "_gap",
        "_heads",
        "_keeper",
        "_last",
        "_leaving",
        "_now",
        "_opened",
        "_pipeline",
        "_resets",
        "_since",
        "_starting",
        "_taking",
        "_waits",
        "_window_began",
        "response_pairs",
        "trailer_pairs",
    )

    def __init__(
        self,
        transport: Transport,
        pipeline: Pipeline,
        keeper: Keeper,
        limits: Limits = PEER,
        *,
        trust: int = STRIP,
    ) -> None:
        """`trust` says what becomes of our fields in a stranger's requests."""
        super().__init__(transport, limits)
        self._pipeline = pipeline
        self._keeper = keeper
        self._now: Callable[[], float] = keeper.now
        self._heads: Heads = AppHeads(trust=trust) if limits.is_stranger else Heads(trust=COLLECT)
        writers: Any = heads2_app if limits.is_stranger else heads2
        self.response_pairs: Callable[[Response], Pairs] = writers.response_pairs
        self.trailer_pairs: Callable[[Fields], Pairs] = writers.trailer_pairs
        self._last = 0
        self._gap = (0, 0)  # numbers between these were left out
        self._starting = PREFACE  # what is still to come of it
        self._since = self._window_began = self._now()
        self._leaving = 0.0  # when the first GOAWAY of two was sent
        self._opened = self._resets = 0  # in this window
        self._waits = 0  # seconds that a header block has been on its way
        self._taking = Taking()
        keeper.clients.add(self)
        self.open_connection(b"")

    # -- receiver ----------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self.is_over:
            return
        if self._starting or not self._has_settings:
            data = self._start(data)
            if not data:
                return
        super().data_received(data)

    def _start(self, data: bytes) -> bytes:
        """Check the preface and that SETTINGS come first (RFC 9113 §3.4)."""
        if self._starting:
            expected = self._starting[: len(data)]
            if not data.startswith(expected):
                self._pipeline.refused(PeerError("bad_preface", "no HTTP/2 preface"))
                self._transport.abort()
                return b""
            self._starting = self._starting[len(expected) :]
            data = data[len(expected) :]
        self._rest += data
        if len(self._rest) < 9:
            return b""
        if self._rest[3] != SETTINGS:
            self._fail(ConnectionError2(PROTOCOL_ERROR, "SETTINGS come first"))
            return b""
        data, self._rest = self._rest, b""
        return data

    def connection_lost(self, error: BaseException | None) -> None:
        self.is_over = True
        self._keeper.clients.discard(self)
        self._end_all()
        self._pipeline.closed(self, error)

    def _end_all(self, reason: str = "client-gone") -> None:
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            exchange, stream.exchange = stream.exchange, None
            if exchange is not None:
                exchange.client_gone(reason)

    # -- frames ------------------------------------------------------------------------------

    def on_headers(self, number: int, entries: Block, end: bool) -> None:
        stream = self.streams.get(number)
        if stream is not None:
            self._on_trailers(stream, entries, end)
            return
        if number % 2 == 0:
            raise ConnectionError2(PROTOCOL_ERROR, "an even stream from a client")
        if number <= self._last:
            if self._gap[0] < number < self._gap[1]:
                raise ConnectionError2(PROTOCOL_ERROR, "a stream older than the last")
            self._on_late_frame(HEADERS, number)
            return
        if number - self._last > 2:
            self._gap = (self._last, number)
        self._last = number
        self._opened += 1
        if self.goaway_sent:
            self.send_reset(number, REFUSED_STREAM)
            return
        if len(self.streams) >= self.limits.streams:
            self.send_reset(number, REFUSED_STREAM)
            self._count_reset()
            return
        if self._keeper.is_shedding and not self.limits.is_stranger:
            self._pipeline.refused(overloaded())
            self.send_reset(number, REFUSED_STREAM)  # another endpoint may have more room
            return
        try:
            request = self._heads.read_request(entries, end)
            if self._keeper.is_shedding:
                raise overloaded()
        except PeerError as error:
            self._refuse(number, error, end)
            return
        self._begin(number, request, end)

    def _begin(self, number: int, request: Request, end: bool) -> None:
        stream = ClientStream(self, number, self._peer_window, self.limits.stream_window)
        self.streams[number] = stream
        stream.left = None if request.upgrade else request.length
        stream.exchange = exchange = Exchange(stream, self._pipeline, request, self._now())
        stream.request_ended = end
        if end:
            exchange.request_done = True
        self._pipeline.begin(exchange)

    def _refuse(self, number: int, error: PeerError, end: bool) -> None:
        """A head that is no request: malformed ones reset their stream, others are answered."""
        self._heads.start_anew()
        self._pipeline.refused(error)
        if error.status == 400 or not self.limits.is_stranger:
            self.send_reset(number, PROTOCOL_ERROR)
            self._count_reset()
            return
        fields = reply_fields(error.reason.replace("_", "-"), str(error), "", closes=False)
        response = Response(error.status, phrase(error.status), fields)
        self.send_head(number, self.response_pairs(response), True)
        if not end:
            self.send_reset(number, NO_ERROR)
            self._count_reset()

    def _on_trailers(self, stream: ClientStream, entries: Block, end: bool) -> None:
        trailers: Fields | None = None
        is_bad = not end or bool(stream.left)
        try:
            trailers = self._heads.read_trailers(entries)
        except PeerError:
            self._heads.start_anew()
            is_bad = True
        if stream.request_ended:
            self._bad_request(stream, STREAM_CLOSED)
        elif is_bad:
            self._bad_request(stream)
        else:
            stream.take_end(trailers)

    def on_data(self, stream: ClientStream, data: bytes, end: bool) -> None:
        if stream.request_ended:
            self._bad_request(stream, STREAM_CLOSED)
            return
        if stream.left is not None:
            stream.left -= len(data)
            if stream.left < 0 or (end and stream.left):
                self._bad_request(stream)
                return
        if data:
            stream.take_body(data)
        if end:
            stream.take_end(None)

    def _bad_request(self, stream: ClientStream, code: int = PROTOCOL_ERROR) -> None:
        """The body is not what the head said: the request never happened."""
        exchange, stream.exchange = stream.exchange, None
        self.cut(stream, code)
        if exchange is not None:
            exchange.client_gone("bad-request")
        self._count_reset()

    def on_stream_error(self, stream: ClientStream, code: int) -> None:
        self._bad_request(stream, code)

    def on_reset(self, stream: ClientStream, code: int) -> None:
        exchange, stream.exchange = stream.exchange, None
        if exchange is not None:
            exchange.client_gone()
            if self._now() - exchange.started < EARLY_SECONDS:
                self._count_reset()

    def _count_reset(self) -> None:
        """A stream that was opened and reset at once, by either side."""
        self._resets += 1
        if self._resets > self.limits.resets and self._resets * 2 > self._opened:
            raise ConnectionError2(CALM, "streams opened and reset at once", "rapid_reset")

    def on_goaway(self, last: int) -> None:
        if not self.streams:
            self._finish_leaving()

    def on_pong(self, payload: bytes) -> None:
        if payload == _LAST_CALL and self._leaving:
            self._finish_leaving()

    def on_failure(self, error: PeerError) -> None:
        self._pipeline.refused(error)
        self._end_all()
        self._part()

    def _part_when_done(self) -> bool:
        """Whether that was all."""
        is_done = self.goaway_sent and not self.streams
        if is_done and not self.is_over:
            self._part()
        return is_done

    def _part(self) -> None:
        """All is said: let the client close. To close here, with bytes of its on their way, would
        reset the connection, and GOAWAY and the end of an answer might never be read."""
        self.is_over = True
        self._since = self._now()
        if not self._transport.is_closing():
            self._transport.write_eof()

    def _wait_for_close(self, now: float) -> None:
        """It may take what was written at its own pace, and a moment more."""
        if self._transport.get_write_buffer_size():
            self._since = now
        if now - self._since > LINGER_SECONDS or self._is_stalled(now):
            self._transport.abort()

    def is_idle(self, number: int) -> bool:
        return number > self._last or number % 2 == 0

    def last_stream(self) -> int:
        return self._last

    def newest_stream(self) -> int:
        return self._last

    # -- streams call ------------------------------------------------------------------------

    def stream_over(self, stream: ClientStream, now: float) -> None:
        """The response is out. A request that goes on is told to stop (RFC 9113 §8.1)."""
        if stream.pending is not None:
            return  # its last data waits for a window; `ready` forgets it
        if not stream.request_ended and stream.id in self.streams:
            self.send_reset(stream.id, NO_ERROR)
        self.forget_stream(stream)
        self._since = now
        self._part_when_done()

    def cut(self, stream: ClientStream, code: int) -> None:
        if stream.id in self.streams:
            self.send_reset(stream.id, code)
            self.forget_stream(stream)

    def _pump_ready(self, stream: Stream) -> None:
        super()._pump_ready(stream)
        if isinstance(stream, ClientStream) and stream.pending is None and stream.exchange is None:
            self.stream_over(stream, self._now())

    # -- the keeper's events -----------------------------------------------------------------

    def end(self) -> None:
        """Take no new requests, but those that are on their way; go when all are answered.

        The first GOAWAY names no stream, so that a client stops opening them; the second, when
        its answer to our PING is here, says which were served (RFC 9113 §6.8).
        """
        if self._leaving or self.is_over or self._transport.is_closing():
            return
        self._leaving = self._now()
        self._write(goaway(NO_ERROR, MAX_STREAM) + frame(PING, 0, 0, _LAST_CALL))

    def _finish_leaving(self) -> None:
        if not self.goaway_sent:
            self.send_goaway(NO_ERROR, self._last)
            self._part_when_done()

    def abort(self) -> None:
        self._transport.abort()

    def check(self, now: float) -> None:
        """Called every second."""
        if self.is_over:
            self._wait_for_close(now)
            return
        self.refill()
        if now - self._window_began >= WINDOW_SECONDS:
            self._window_began = now
            self._opened = self._resets = 0
        if self._leaving and now - self._leaving > LAST_CALL_SECONDS:
            self._finish_leaving()
        if self._part_when_done():
            return
        if self._block is not None:
            self._waits += 1
            if self._waits > HEAD_SECONDS:
                self._fail(ConnectionError2(CALM, "a header block took too long", "head_timeout"))
                return
        else:
            self._waits = 0
        if self._is_stalled(now):
            self._pipeline.refused(PeerError("stalled", "a client that takes nothing"))
            self._end_all("stalled")
            self._transport.abort()
            return
        if self.streams:
            self._cut_stalled()
            return
        limit = APPLICATION_IDLE if self.limits.is_stranger else IDLE_SECONDS
        if self._starting or not self._has_settings:
            limit = PREFACE_SECONDS
        if now - self._since > limit:
            if self._starting:
                self._transport.abort()
            else:
                self.end()

    def _is_stalled(self, now: float) -> bool:
        """Whether the connection itself is hardly read, whatever its windows allow."""
        waiting = self._transport.get_write_buffer_size()
        return self._taking.is_slow(self.written_bytes, waiting, now)

    def _cut_stalled(self) -> None:
        """A client that takes hardly anything of a response does not want it; one that sends
        hardly anything of a body whose length it told has forgotten it."""
        for stream in list(self.streams.values()):
            if stream.pending is None:
                self._cut_slow(stream)
                continue
            stream.stalled += MIN_RATE
            if stream.stalled >= MIN_RATE * PACE_SECONDS:
                self._give_up(stream, PeerError("stalled", "a response that nobody takes"))

    def _cut_slow(self, stream: ClientStream) -> None:
        if not stream.left or stream.request_ended or stream.is_paused:
            return
        came = max(0, stream.left_before - stream.left)
        stream.left_before = stream.left
        stream.waited = max(0, stream.waited + MIN_RATE - came)
        if stream.waited >= MIN_RATE * PACE_SECONDS:
            self._give_up(stream, PeerError("slow-body", "request body took too long"))

    def _give_up(self, stream: ClientStream, error: PeerError) -> None:
        exchange, stream.exchange = stream.exchange, None
        self._pipeline.refused(error)
        self.cut(stream, CANCEL)
        if exchange is not None:
            exchange.client_gone(error.reason)
