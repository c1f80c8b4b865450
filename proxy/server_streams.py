"""Requests on an HTTP/2 connection that we opened: one stream each, many at once.

The server is a peer's proxy, or with STRANGER limits an application.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from typing import Any, Protocol

from mesh.core.errors import PeerError
from proxy import heads2, heads2_app
from proxy.exchange import REFUSED, ClientSide, Exchange
from proxy.guard import Fields
from proxy.heads2 import Heads, Pairs
from proxy.heads2_app import AppHeads
from proxy.hpack import Block
from proxy.http1 import KEEP, MEASURED, Request
from proxy.http2 import Http2
from proxy.http2_frames import (
    CANCEL,
    HEADERS,
    MAX_STREAM,
    NO_ERROR,
    PEER,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    Limits,
)
from proxy.http2_sending import Stream
from proxy.seams import Transport

log = logging.getLogger(__name__)


class ServerStream(Stream):
    """One request and its response; a `ServerSide`."""

    __slots__ = ("_exchange", "_has_ended", "_has_response", "_streams", "is_reused")

    def __init__(self, streams: ServerStreams, number: int, window: int, is_reused: bool) -> None:
        super().__init__(number, window, streams.limits.stream_window)
        self._streams = streams
        self._exchange: Exchange | None = None
        self._has_response = False
        self._has_ended = False  # our side: END_STREAM is on its way
        self.is_reused = is_reused

    # -- the exchange's events ---------------------------------------------------------------

    def send_request(self, exchange: Exchange) -> None:
        self._exchange = exchange
        request = exchange.request
        self.left = request.length
        self._has_ended = request.length == 0
        pairs = self._streams.request_pairs(request, exchange.extra)
        self._streams.send_head(self.id, pairs, self._has_ended)
        if request.is_http2:
            self.left = None  # trailers may follow a body of known length

    def send_body(self, data: bytes) -> None:
        if self.left is not None:
            self.left -= len(data)
            self._has_ended = self.left <= 0
        self._streams.send_data(self, data, self._has_ended)

    def send_end(self, trailers: Fields | None) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        streams = self._streams
        streams.send_end(self, streams.trailer_pairs(trailers) if trailers else None)

    def cancel(self) -> None:
        self._exchange = None
        self._streams.give_up(self, CANCEL)

    def discard(self) -> None:
        """The head was enough."""
        self.cancel()

    def release(self, now: float) -> None:
        self._exchange = None
        self._streams.stream_over(self, now)

    def tunnel_end(self) -> None:
        """Tunnels do not ride on streams."""

    def pause_reading(self) -> None:
        self._streams.pause_stream(self)

    def resume_reading(self) -> None:
        self._streams.resume_stream(self)

    # -- the connection's events -------------------------------------------------------------

    def blocked(self) -> None:
        if self._exchange is not None:
            self._exchange.server_blocked()

    def ready(self) -> None:
        if self._exchange is not None:
            self._exchange.server_ready()

    def on_head(self, heads: Heads, entries: Block, end: bool) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        if self._has_response:
            trailers = heads.read_trailers(entries)
            if not end:
                raise PeerError("bad_response", "a head in the middle of a body", status=502)
            self._complete(exchange, trailers)
            return
        is_head = exchange.request.method == b"HEAD"
        response = heads.read_response(entries, end, is_head=is_head)
        if end and response.status < 200:
            raise PeerError("bad_response", "an interim response that ends", status=502)
        self._has_response = response.status >= 200
        self.left = response.length if response.framing == MEASURED else None
        exchange.on_response(response)
        if not end:
            self._streams.headed.append(exchange.client)
        elif self._exchange is not None:
            self._complete(exchange, None)

    def on_data(self, data: bytes, end: bool) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        if not self._has_response:
            raise PeerError("bad_response", "a body without a head", status=502)
        if data:
            if self.left is not None:
                self.left -= len(data)
                if self.left < 0:
                    raise PeerError("bad_response", "a body longer than it said", status=502)
            exchange.on_body(data)
        if end and self._exchange is not None:
            self._complete(exchange, None)

    def on_reset(self, code: int) -> None:
        """The server gave up. Before an answer that it never began, nothing was done."""
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        if code == REFUSED_STREAM:
            exchange.server_lost(REFUSED)
        elif exchange.request.is_http2 and code != NO_ERROR:
            exchange.server_reset(code)
        else:
            exchange.server_lost("server-closed")

    def on_lost(self, reason: str) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.server_lost(reason)

    def _complete(self, exchange: Exchange, trailers: Fields | None) -> None:
        if self.left:
            raise PeerError("bad_response", "a body shorter than it said", status=502)
        exchange.on_end(trailers)


class ServerStreams(Http2):
    """The connection. `owner` hears when it is idle and when it is gone."""

    __slots__ = (
        "_heads",
        "_next",
        "_owner",
        "headed",
        "idle_since",
        "is_closing",
        "request_pairs",
        "trailer_pairs",
    )

    def __init__(
        self, transport: Transport, owner: Owner, now: float, limits: Limits = PEER
    ) -> None:
        super().__init__(transport, limits)
        self._owner = owner
        self._heads: Heads = AppHeads() if limits.is_stranger else Heads(trust=KEEP)
        writers: Any = heads2_app if limits.is_stranger else heads2
        self.request_pairs: Callable[[Request, Fields], Pairs] = writers.request_pairs
        self.trailer_pairs: Callable[[Fields], Pairs] = writers.trailer_pairs
        self._next = 1
        self.idle_since = now
        self.is_closing = False
        self.headed: list[ClientSide] = []  # clients that got a head and perhaps no body yet
        self.open_connection(PREFACE)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.headed:
            headed, self.headed = self.headed, []
            for client in headed:
                client.flush()

    @property
    def has_room(self) -> bool:
        """Whether another request may be opened."""
        return (
            not self.is_closing
            and len(self.streams) < self.peer_streams
            and self._next < MAX_STREAM
        )

    def open_stream(self) -> ServerStream:
        number = self._next
        self._next += 2
        stream = ServerStream(self, number, self._peer_window, number > 1)
        self.streams[number] = stream
        return stream

    def stream_over(self, stream: ServerStream, now: float) -> None:
        """The exchange is complete, or the peer need not go on with it."""
        if not stream._has_ended or stream.pending is not None:
            self.send_reset(stream.id, CANCEL)
        self.forget_stream(stream)
        if not self.streams:
            self.idle_since = now
            if self.is_closing:
                self._transport.close()

    def give_up(self, stream: ServerStream, code: int) -> None:
        if stream.id in self.streams:
            self.send_reset(stream.id, code)
            self.forget_stream(stream)
            if not self.streams and self.is_closing:
                self._transport.close()

    def close(self) -> None:
        """Finish what runs, begin nothing."""
        self.is_closing = True
        if not self.goaway_sent:
            self.send_goaway(NO_ERROR, 0)
        if not self.streams:
            self._transport.close()

    def abort(self) -> None:
        self.is_closing = True
        self._transport.abort()

    def connection_lost(self, error: BaseException | None) -> None:
        self.is_closing = self.is_over = True
        self._owner.streams_lost(self, error)
        reason = "tls-failed" if isinstance(error, ssl.SSLError) else "server-closed"
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.on_lost(reason)

    # -- frames ------------------------------------------------------------------------------

    def on_headers(self, number: int, entries: Block, end: bool) -> None:
        stream = self.streams.get(number)
        if stream is None:
            self._on_late_frame(HEADERS, number)
            return
        try:
            stream.on_head(self._heads, entries, end)
        except PeerError:
            self._bad_response(stream)

    def on_data(self, stream: ServerStream, data: bytes, end: bool) -> None:
        try:
            stream.on_data(data, end)
        except PeerError:
            self._bad_response(stream)

    def _bad_response(self, stream: ServerStream) -> None:
        self._heads.start_anew()
        self.give_up(stream, PROTOCOL_ERROR)
        stream.on_lost("bad-response")

    def on_reset(self, stream: ServerStream, code: int) -> None:
        stream.on_reset(code)

    def on_stream_error(self, stream: ServerStream, code: int) -> None:
        self.give_up(stream, code)
        stream.on_lost("bad-response")

    def on_goaway(self, last: int) -> None:
        """The peer takes no new streams; those it never looked at may go elsewhere."""
        self.is_closing = True
        for stream in [s for s in self.streams.values() if s.id > last]:
            self.forget_stream(stream)
            stream.on_lost(REFUSED)
        if not self.streams:
            self._transport.close()

    def on_failure(self, error: PeerError) -> None:
        """The server broke a rule of the connection."""
        self.is_closing = True
        self._owner.streams_refused(self, error)
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.on_lost("bad-response")
        self._transport.close()

    def is_idle(self, number: int) -> bool:
        return number >= self._next or number % 2 == 0

    def last_stream(self) -> int:
        return 0

    def newest_stream(self) -> int:
        return self._next


class Owner(Protocol):
    """Who opens connections and counts them."""

    def streams_lost(self, streams: ServerStreams, error: BaseException | None) -> None: ...
    def streams_refused(self, streams: ServerStreams, error: PeerError) -> None: ...
