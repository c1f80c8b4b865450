"""Requests of a peer's proxy on one HTTP/2 connection: one stream each, many at once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from mesh.core.errors import PeerError
from proxy.client_connection import Keeper
from proxy.exchange import Exchange, Pipeline
from proxy.guard import Fields
from proxy.heads2 import Heads, response_pairs, trailer_pairs
from proxy.hpack import Entry
from proxy.http1 import COLLECT, MEASURED, Response
from proxy.http2 import Http2, Stream
from proxy.http2_frames import (
    INTERNAL_ERROR,
    MAX_STREAMS,
    NO_ERROR,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    ConnectionError2,
)
from proxy.seams import Transport

log = logging.getLogger(__name__)

IDLE_SECONDS: Final = 60.0
PREFACE_SECONDS: Final = 10.0


class ClientStream(Stream):
    """One request and its response; a `ClientSide`."""

    __slots__ = ("_body_left", "_has_ended", "_streams", "exchange", "request_ended")

    def __init__(self, streams: ClientStreams, number: int, window: int) -> None:
        super().__init__(number, window)
        self._streams = streams
        self.exchange: Exchange | None = None
        self.request_ended = False
        self._has_ended = False
        self._body_left: int | None = None  # of the response

    # -- the exchange's events ---------------------------------------------------------------

    def send_response(self, response: Response) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        end = False
        if response.status >= 200:
            self._body_left = response.length if response.framing == MEASURED else None
            if exchange.request.method == b"HEAD":
                self._body_left = 0
            end = self._has_ended = self._body_left == 0
        self._streams.send_head(self.id, response_pairs(response), end)

    def send_body(self, data: bytes) -> None:
        if self._has_ended:
            return
        if self._body_left is not None:
            self._body_left -= len(data)
            self._has_ended = self._body_left <= 0
        self._streams.send_data(self, data, self._has_ended)

    def send_end(self, trailers: Fields | None) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        if trailers and self.pending is None:
            self._streams.send_head(self.id, trailer_pairs(trailers), True)
        else:
            self._streams.send_data(self, b"", True)

    def flush(self) -> None:
        """Frames are flushed once per loop turn."""

    def refuse(self) -> bool:
        """The request was never looked at: the peer may send it elsewhere."""
        self.request_ended = True
        self._streams.cut(self, REFUSED_STREAM)
        return True

    def cut(self) -> None:
        self.exchange = None
        self._streams.cut(self, INTERNAL_ERROR)

    def exchange_over(self, now: float) -> None:
        self.exchange = None
        self._streams.stream_over(self, now)

    def tunnel(self) -> bytes:
        return b""

    def pause_reading(self) -> None:
        self._streams.pause_stream(self)

    def resume_reading(self) -> None:
        self._streams.resume_stream(self)

    # -- the connection's events -------------------------------------------------------------

    def blocked(self) -> None:
        if self.exchange is not None:
            self.exchange.client_blocked()

    def ready(self) -> None:
        if self.exchange is not None:
            self.exchange.client_ready()


class ClientStreams(Http2):
    """The connection, as a receiver; all its requests go through one pipeline."""

    __slots__ = ("_heads", "_keeper", "_last", "_now", "_pipeline", "_since", "_starting")

    def __init__(self, transport: Transport, pipeline: Pipeline, keeper: Keeper) -> None:
        super().__init__(transport)
        self._pipeline = pipeline
        self._keeper = keeper
        self._now: Callable[[], float] = keeper.now
        self._heads = Heads(trust=COLLECT)
        self._last = 0
        self._starting = PREFACE  # what is still to come of it
        self._since = self._now()
        keeper.clients.add(self)
        self.open_connection(b"")

    # -- receiver ----------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._starting:
            expected = self._starting[: len(data)]
            if not data.startswith(expected):
                self._transport.abort()
                return
            self._starting = self._starting[len(expected) :]
            data = data[len(expected) :]
            if not data:
                return
        super().data_received(data)

    def connection_lost(self, error: BaseException | None) -> None:
        self.is_over = True
        self._keeper.clients.discard(self)
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            exchange, stream.exchange = stream.exchange, None
            if exchange is not None:
                exchange.client_gone()
        self._pipeline.closed(self, error)

    # -- frames ------------------------------------------------------------------------------

    def on_headers(self, number: int, entries: list[Entry], end: bool) -> None:
        stream = self.streams.get(number)
        if stream is not None:
            self._on_trailers(stream, entries, end)
            return
        if number <= self._last:
            self.on_late_frame(number)
            return
        if number % 2 == 0:
            raise ConnectionError2(PROTOCOL_ERROR, "an even stream from a client")
        self._last = number
        if self.goaway_sent or len(self.streams) >= MAX_STREAMS:
            self.send_reset(number, REFUSED_STREAM)
            return
        try:
            request = self._heads.read_request(entries, end)
        except PeerError as error:
            self._heads.start_anew()
            self._pipeline.refused(error)
            self.send_reset(number, PROTOCOL_ERROR)
            return
        stream = self.streams[number] = ClientStream(self, number, self._peer_window)
        stream.left = request.length
        stream.exchange = exchange = Exchange(stream, self._pipeline, request, self._now())
        stream.request_ended = end
        if end:
            exchange.request_done = True
        self._pipeline.begin(exchange)

    def _on_trailers(self, stream: ClientStream, entries: list[Entry], end: bool) -> None:
        try:
            trailers = self._heads.read_trailers(entries)
        except PeerError:
            self._heads.start_anew()
            trailers = None
        if not end or stream.request_ended or stream.left:
            self._bad_request(stream)
        else:
            self._end_request(stream, trailers)

    def on_data(self, stream: ClientStream, data: bytes, end: bool) -> None:
        if stream.request_ended:
            self._bad_request(stream)
            return
        if stream.left is not None:
            stream.left -= len(data)
            if stream.left < 0 or (end and stream.left):
                self._bad_request(stream)
                return
        if data and stream.exchange is not None:
            stream.exchange.request_body(data)
        if end:
            self._end_request(stream, None)

    def _end_request(self, stream: ClientStream, trailers: Fields | None) -> None:
        stream.request_ended = True
        if stream.exchange is not None and not stream.exchange.request_done:
            stream.exchange.request_end(trailers)

    def _bad_request(self, stream: ClientStream) -> None:
        """The body is not what the head said: the request never happened."""
        exchange, stream.exchange = stream.exchange, None
        self.cut(stream, PROTOCOL_ERROR)
        if exchange is not None:
            exchange.client_gone("bad-request")

    def on_reset(self, stream: ClientStream, code: int) -> None:
        exchange, stream.exchange = stream.exchange, None
        if exchange is not None:
            exchange.client_gone()

    def on_goaway(self, last: int) -> None:
        if not self.streams:
            self._transport.close()

    def last_stream(self) -> int:
        return self._last

    # -- streams call ------------------------------------------------------------------------

    def stream_over(self, stream: ClientStream, now: float) -> None:
        """The response is out. A request that goes on is told to stop (RFC 9113 §8.1)."""
        if stream.pending is not None:
            return  # its last data waits for a window; `ready` forgets it
        if not stream.request_ended:
            self.send_reset(stream.id, NO_ERROR)
        self.forget_stream(stream)
        self._since = now
        if self.goaway_sent and not self.streams:
            self._transport.close()

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
        """Take no new requests; go when those in hand are answered."""
        if not self.goaway_sent:
            self.send_goaway(NO_ERROR, self._last)
            if not self.streams:
                self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def check(self, now: float) -> None:
        """Called every second."""
        limit = PREFACE_SECONDS if self._starting else IDLE_SECONDS
        if not self.streams and now - self._since > limit:
            self.end()
