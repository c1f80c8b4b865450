"""An HTTP/1 connection to a server: one exchange at a time, kept for the next."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from mesh.core.errors import PeerError
from proxy.exchange import Exchange
from proxy.guard import Fields
from proxy.http1 import STRIP, Response, chunk, last_chunk, request_head
from proxy.http1_response import ResponseReader
from proxy.seams import Transport


class ServerConnection:
    """The receiver of one transport to a server. `owner` pools it and hears of its end."""

    __slots__ = (
        "_chunked",
        "_exchange",
        "_keep",
        "_owner",
        "_paused",
        "_reader",
        "_sending",
        "_transport",
        "is_reused",
        "read_bytes",
        "written_bytes",
    )

    def __init__(self, transport: Transport, owner: Any, *, trust: int = STRIP) -> None:
        self._transport = transport
        self._owner = owner
        self._reader = ResponseReader(self, trust)
        self._exchange: Exchange | None = None
        self._chunked = False
        self._keep = True
        self._sending = False
        self._paused = False
        self.is_reused = False
        self.read_bytes = 0
        self.written_bytes = 0

    # -- receiver ----------------------------------------------------------------------------

    def connection_made(self, transport: Transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.read_bytes += len(data)
        try:
            self._reader.feed(data)
        except PeerError as error:
            self._fail("bad-response" if self._exchange is not None else error.reason)

    def eof_received(self) -> bool | None:
        exchange = self._exchange
        if exchange is not None and exchange.is_tunnel:
            self._exchange = None
            self._keep = False
            exchange.server_lost("server-closed")
            return False
        self._keep = False
        if not self._reader.eof():
            self._fail("server-closed")
        return False

    def connection_lost(self, error: BaseException | None) -> None:
        self._keep = False
        self._owner.connection_lost(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.server_lost(
                "tls-failed" if isinstance(error, ssl.SSLError) else "server-closed"
            )

    def pause_writing(self) -> None:
        if self._exchange is not None:
            self._exchange.server_blocked()

    def resume_writing(self) -> None:
        if self._exchange is not None:
            self._exchange.server_ready()

    # -- the exchange's events ---------------------------------------------------------------

    def send_request(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._sending = True
        request = exchange.request
        self._chunked = request.length is None
        self._reader.expect(request.method)
        self._write(request_head(request, exchange.extra))

    def send_body(self, data: bytes) -> None:
        self._write(chunk(data) if self._chunked else data)

    def send_end(self, trailers: Fields | None) -> None:
        self._sending = False
        if self._chunked:
            self._write(last_chunk(trailers))

    def cancel(self) -> None:
        """The exchange needs no more of this: hang up."""
        self._exchange = None
        self._keep = False
        self._transport.abort()

    def release(self) -> None:
        """The exchange is over: keep the connection if both sides are at a boundary."""
        self._exchange = None
        if self._paused:
            self.resume_reading()
        if self._keep and not self._sending and not self._reader.waiting:
            self.is_reused = True
            self._owner.give(self)
        else:
            self._transport.close()

    def tunnel_end(self) -> None:
        if not self._transport.is_closing():
            self._transport.write_eof()

    def pause_reading(self) -> None:
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def close(self) -> None:
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    # -- the reader's events -----------------------------------------------------------------

    def on_response(self, response: Response) -> None:
        if not response.keep_alive or response.upgrade:
            self._keep = False
        if response.upgrade:
            self._chunked = False
        if self._exchange is not None:
            self._exchange.on_response(response)

    def on_body(self, data: bytes) -> None:
        if self._exchange is not None:
            self._exchange.on_response_body(data)

    def on_end(self, trailers: Fields | None) -> None:
        if self._exchange is not None:
            self._exchange.on_response_end(trailers)

    def on_tunnel(self, data: bytes) -> None:
        if self._exchange is not None:
            self._exchange.on_response_body(data)

    # -- inside ------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self.written_bytes += len(data)
            self._transport.write(data)

    def _fail(self, reason: str) -> None:
        exchange, self._exchange = self._exchange, None
        self._keep = False
        self._transport.abort()
        if exchange is not None:
            exchange.server_lost(reason)


Opened = Callable[[ServerConnection], None]
