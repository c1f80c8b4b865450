"""An HTTP/1 connection to a server: one exchange at a time, kept for the next."""

from __future__ import annotations

import ssl
from errno import EPIPE
from socket import SO_ERROR, SOL_SOCKET
from time import monotonic
from typing import Final, Protocol

from mesh.core.errors import PeerError
from proxy.exchange import UNREAD, Exchange
from proxy.guard import Fields
from proxy.http1 import STRIP, Response, Sink, chunk, last_chunk, request_head
from proxy.http1_response import ResponseReader
from proxy.seams import Transport

MAX_DISCARDED: Final = 64 * 1024  # bytes of a body that is read for nobody


class ServerConnection:
    """The receiver of one transport to a server. `owner` pools it and hears of its end."""

    __slots__ = (
        "_chunked",
        "_exchange",
        "_owner",
        "_paused",
        "_read_before",
        "_reader",
        "_transport",
        "is_reused",
        "read_bytes",
        "written_bytes",
    )

    def __init__(self, transport: Transport, owner: Owner, *, trust: int = STRIP) -> None:
        self._transport = transport
        self._owner = owner
        self._reader = ResponseReader(trust)
        self._exchange: Exchange | Discarded | None = None
        self._chunked = False
        self._paused = False
        self.is_reused = False
        self.read_bytes = self._read_before = 0
        self.written_bytes = 0

    # -- receiver ----------------------------------------------------------------------------

    def connection_made(self, transport: Transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.read_bytes += len(data)
        try:
            self._reader.feed(data)
        except PeerError:
            self._fail("bad-response")
            return
        if self._reader.sink is not None and self._exchange is not None:
            self._exchange.client.flush()  # a head whose body is still on its way

    def eof_received(self) -> bool | None:
        exchange = self._exchange
        if exchange is None:
            self._owner.forget(self)
        elif exchange.is_tunnel:
            self._exchange = None
            exchange.server_lost("server-closed")
        elif not self._reader.eof():
            self._fail(self._ended(_was_reset(self._transport)))
        return False

    def connection_lost(self, error: BaseException | None) -> None:
        self._owner.connection_lost(self, error)
        exchange, self._exchange = self._exchange, None
        self._reader.close()
        if exchange is not None:
            is_reset = isinstance(error, (ConnectionResetError, BrokenPipeError))
            is_tls = isinstance(error, ssl.SSLError)
            exchange.server_lost("tls-failed" if is_tls else self._ended(is_reset))

    def pause_writing(self) -> None:
        if self._exchange is not None:
            self._exchange.server_blocked()

    def resume_writing(self) -> None:
        if self._exchange is not None:
            self._exchange.server_ready()

    # -- the exchange's events ---------------------------------------------------------------

    def send_request(self, exchange: Exchange) -> None:
        request = exchange.request
        self._exchange = exchange
        self._read_before = self.read_bytes
        self._chunked = request.length is None
        self._reader.expect(request.method, exchange)
        head = request_head(request, exchange.extra)
        self.written_bytes += len(head)
        try:
            self._transport.write(head)
        except RuntimeError:
            return  # closed under us; connection_lost is on its way

    def send_body(self, data: bytes) -> None:
        self._write(chunk(data) if self._chunked else data)

    def send_end(self, trailers: Fields | None) -> None:
        if self._chunked:
            self._write(last_chunk(trailers))

    def cancel(self) -> None:
        """The exchange needs no more of this: hang up."""
        self._drop_exchange()
        self._transport.abort()

    def discard(self) -> None:
        """The head was enough: let a short body go by, and keep the connection."""
        if self._reader.skips_body:
            self.cancel()
            return
        self._exchange = gone = Discarded(self)
        self._reader.sink = gone

    def release(self, now: float) -> None:
        """The exchange is over, both ways: keep the connection if it may be kept."""
        self._exchange = None
        if self._paused:
            self.resume_reading()
        if self._reader.can_reuse:
            self.is_reused = True
            self._owner.give(self, now)
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
        self._reader.can_reuse = False
        self._transport.close()

    # -- inside ------------------------------------------------------------------------------

    def _ended(self, is_reset: bool) -> str:
        """Why an exchange has no answer. A reset before a byte of it says that what we wrote was
        not read: the server's end was closed with it waiting (RFC 9293 §3.10.4), mostly by a
        listener that closed with us in its queue."""
        return UNREAD if is_reset and self.read_bytes == self._read_before else "server-closed"

    def _drop_exchange(self) -> None:
        self._exchange = None
        self._reader.sink = None
        self._reader.can_reuse = False

    def _write(self, data: bytes) -> None:
        self.written_bytes += len(data)
        try:
            self._transport.write(data)
        except RuntimeError:
            return  # closed under us; connection_lost is on its way

    def _fail(self, reason: str) -> None:
        exchange = self._exchange
        self._drop_exchange()
        self._owner.forget(self)
        self._transport.abort()
        if exchange is not None:
            exchange.server_lost(reason)


class Discarded(Sink):
    """Stands in for an exchange that has moved on: reads the rest of a response away."""

    __slots__ = ("_connection", "_size")

    is_tunnel = False

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self._size = 0

    @property
    def client(self) -> Discarded:
        return self

    def flush(self) -> None: ...
    def on_response(self, response: Response) -> None: ...

    def on_body(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MAX_DISCARDED:
            self._connection.cancel()

    def on_end(self, trailers: Fields | None) -> None:
        self._connection.release(monotonic())

    def on_tunnel(self, data: bytes) -> None:
        self._connection.cancel()

    def server_lost(self, reason: str) -> None: ...
    def server_blocked(self) -> None: ...
    def server_ready(self) -> None: ...


def _was_reset(transport: Transport) -> bool:
    """Whether a reset came behind the server's end: it had closed before we wrote. Reads as an
    end, and the socket keeps the error for who asks."""
    held = transport.get_extra_info("socket")
    return held is not None and held.getsockopt(SOL_SOCKET, SO_ERROR) == EPIPE


class Owner(Protocol):
    """Who keeps a connection between two exchanges."""

    def give(self, connection: ServerConnection, now: float) -> None: ...
    def forget(self, connection: ServerConnection) -> None: ...
    def connection_lost(
        self, connection: ServerConnection, error: BaseException | None
    ) -> None: ...
