"""One request on an HTTP/2 connection that a client opened, and its response."""

from __future__ import annotations

from typing import Any, Final, Protocol

from proxy.exchange import ClientSide, Exchange
from proxy.guard import Fields
from proxy.heads2 import Pairs
from proxy.http1 import MEASURED, Response
from proxy.http2_frames import INTERNAL_ERROR, REFUSED_STREAM, Limits
from proxy.http2_sending import Stream

_NO_BODY: Final = (204, 304)


class ClientStream(Stream, ClientSide):
    """A `ClientSide`. What a client sends ahead of the answer to CONNECT waits in `early`."""

    __slots__ = (
        "_body_left",
        "_has_ended",
        "_streams",
        "early",
        "exchange",
        "left_before",
        "request_ended",
        "waited",
    )

    def __init__(self, streams: Streams, number: int, window: int, receive_window: int) -> None:
        super().__init__(number, window, receive_window)
        self._streams = streams
        self.exchange: Exchange | None = None
        self.request_ended = False
        self.early = b""
        self.left_before = -1  # bytes of the body a second ago,
        self.waited = 0  # and those that the slowest sender would be ahead by now
        self._has_ended = False
        self._body_left: int | None = None  # of the response, where its length ends it

    # -- the exchange's events ---------------------------------------------------------------

    def send_response(self, response: Response) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        end = False
        if response.status >= 200 and not response.upgrade:
            request = exchange.request
            if response.is_whole or request.method == b"HEAD" or response.status in _NO_BODY:
                end = True
            elif request.is_http2:
                self._body_left = None  # trailers may follow a body of known length
            elif response.framing == MEASURED:
                self._body_left = response.length
                end = not response.length
            self._has_ended = end
        streams = self._streams
        streams.send_head(self.id, streams.response_pairs(response), end)

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
        streams = self._streams
        streams.send_end(self, streams.trailer_pairs(trailers) if trailers else None)

    def flush(self) -> None:
        """Frames are flushed once per loop turn."""

    def refuse(self) -> bool:
        """The request was never looked at: a peer's proxy may send it elsewhere. An application
        is better served by an answer that says why."""
        if self._streams.limits.is_stranger:
            return False
        self.request_ended = True
        self._streams.cut(self, REFUSED_STREAM)
        return True

    def cut(self, code: int = INTERNAL_ERROR) -> None:
        self.exchange = None
        self._streams.cut(self, code)

    def exchange_over(self, now: float) -> None:
        self.exchange = None
        self._streams.stream_over(self, now)

    def tunnel(self) -> bytes:
        early, self.early = self.early, b""
        self._streams.resume_stream(self)
        return early

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

    def take_body(self, data: bytes) -> None:
        """A piece of the request's body, or of what a tunnel carries."""
        exchange = self.exchange
        if exchange is None:
            return
        if exchange.request.upgrade and not exchange.is_tunnel:
            self._streams.pause_stream(self)  # no more than a window of it
            self.early += data
        else:
            exchange.request_body(data)

    def take_end(self, trailers: Fields | None) -> None:
        """The client's side has ended."""
        self.request_ended = True
        exchange = self.exchange
        if exchange is None:
            return
        if exchange.is_tunnel:
            exchange.client_tunnel_end()
        elif not exchange.request_done:
            exchange.request_end(trailers)


class Streams(Protocol):
    """What a stream asks of its connection."""

    limits: Limits

    def response_pairs(self, response: Response, /) -> Pairs: ...
    def trailer_pairs(self, trailers: Fields, /) -> Pairs: ...
    def send_head(self, number: int, pairs: Pairs, end: bool) -> None: ...
    def send_data(self, stream: Any, data: bytes, end: bool) -> None: ...
    def send_end(self, stream: Any, trailers: Pairs | None) -> None: ...
    def pause_stream(self, stream: Any) -> None: ...
    def resume_stream(self, stream: Any) -> None: ...
    def stream_over(self, stream: Any, now: float) -> None: ...
    def cut(self, stream: Any, code: int) -> None: ...
