"""A client's HTTP/1 connection: requests in, responses out, one exchange at a time."""

from __future__ import annotations

from asyncio import TimerHandle
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from mesh.core.errors import PeerError
from proxy import guard
from proxy.answer import phrase, reply_fields
from proxy.exchange import Exchange, Pipeline
from proxy.guard import Fields
from proxy.http1 import (
    CHUNKED,
    STRIP,
    Request,
    Response,
    chunk,
    last_chunk,
    response_head,
)
from proxy.http1_request import RequestReader
from proxy.opaque import Tunnel
from proxy.seams import Transport

HEAD_SECONDS: Final = 10.0  # for a request head, from its first byte
IDLE_SECONDS: Final = 60.0  # for the first byte of the next request
LINGER_SECONDS: Final = 2.0
_CLOSE: Final = [b"Connection", b": ", b"close", b"\r\n"]
_KEEP: Final = [b"Connection", b": ", b"keep-alive", b"\r\n"]

PLAIN, CHUNKS, NONE = range(3)


class ClientConnection:
    """The receiver of one client's transport. `keeper` knows it while it lives."""

    __slots__ = (
        "_body",
        "_close_after",
        "_exchange",
        "_is_ending",
        "_keeper",
        "_lingering",
        "_now",
        "_paused",
        "_pipeline",
        "_reader",
        "_since",
        "_transport",
        "_write_paused",
        "read_bytes",
        "written_bytes",
    )

    def __init__(
        self,
        transport: Transport,
        pipeline: Pipeline,
        keeper: Keeper,
        *,
        trust: int = STRIP,
    ) -> None:
        self._transport = transport
        self._pipeline = pipeline
        self._keeper = keeper
        self._now: Callable[[], float] = keeper.now
        self._reader = RequestReader(self, trust)
        self._exchange: Exchange | None = None
        self._body = PLAIN
        self._close_after = False
        self._is_ending = False  # asked to end after the exchange in hand
        self._lingering = False
        self._paused = False
        self._write_paused = False
        self._since = self._now()
        self.read_bytes = 0
        self.written_bytes = 0
        keeper.clients.add(self)

    # -- receiver ----------------------------------------------------------------------------

    def connection_made(self, transport: Transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.read_bytes += len(data)
        if self._lingering:
            return
        try:
            self._reader.feed(data)
        except PeerError as error:
            self._refuse(error)
            return
        if self._exchange is None:
            if self._reader.in_head and self._since > 0:
                self._since = -self._now()  # negative: a head has begun
        elif not self._paused and self._reader.held() and not self._exchange.is_tunnel:
            self._hold(True)

    def eof_received(self) -> bool | None:
        exchange = self._exchange
        if exchange is None:
            return False
        if exchange.is_tunnel:
            exchange.client_tunnel_end()
            return True
        self._exchange = None
        exchange.client_gone()
        return False

    def connection_lost(self, error: BaseException | None) -> None:
        self._keeper.clients.discard(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_gone()
        self._pipeline.closed(self, error)

    def pause_writing(self) -> None:
        self._write_paused = True
        if self._exchange is not None:
            self._exchange.client_blocked()

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._exchange is not None:
            self._exchange.client_ready()

    # -- the reader's events -----------------------------------------------------------------

    def on_request(self, request: Request) -> None:
        exchange = Exchange(self, self._pipeline, request, self._now())
        self._exchange = exchange
        self._pipeline.begin(exchange)

    def on_body(self, data: bytes) -> None:
        if self._exchange is not None:
            self._exchange.request_body(data)

    def on_end(self, trailers: Fields | None) -> None:
        if self._exchange is not None:
            self._exchange.request_end(trailers)

    def on_tunnel(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is not None:
            exchange.request_body(data)

    # -- the exchange's events ---------------------------------------------------------------

    def send_response(self, response: Response, extra: Fields) -> None:
        exchange = self._exchange
        if exchange is None or self._transport.is_closing():
            return
        request = exchange.request
        if response.status < 200:
            self._write(response_head(response, extra))
            return
        if response.upgrade:
            self._body = PLAIN
            self._write(response_head(response, extra))
            return
        if request.method == b"HEAD":
            self._body = NONE
        elif response.until_end:
            if request.minor:
                self._body = CHUNKS
                extra = [*extra, *CHUNKED]
            else:
                self._body = PLAIN
                self._close_after = True
        elif response.length is None:
            if request.minor:
                self._body = CHUNKS
            else:
                response.fields = guard.without(response.fields, b"transfer-encoding")
                self._body = PLAIN
                self._close_after = True
        else:
            self._body = PLAIN
        if (
            not request.keep_alive
            or self._is_ending
            or self._keeper.is_draining
            or (response.fields and self._must_close(exchange, response))
        ):
            self._close_after = True
        if self._close_after:
            extra = [*extra, *_CLOSE]
        elif not request.minor:
            extra = [*extra, *_KEEP]
        self._write(response_head(response, extra))

    def _must_close(self, exchange: Exchange, response: Response) -> bool:
        """Whether what follows on this connection could not be told apart."""
        if not exchange.request_done:
            return exchange.error != "" or guard.get(exchange.request.fields, b"expect") is not None
        return exchange.error != "" and not response.keep_alive

    def send_body(self, data: bytes) -> None:
        if self._body == CHUNKS:
            if data:
                self._write(chunk(data))
        elif self._body == PLAIN:
            self._write(data)

    def send_end(self, trailers: Fields | None) -> None:
        exchange = self._exchange
        if exchange is not None and exchange.is_tunnel:
            self._transport.close()
            return
        if self._body == CHUNKS:
            self._write(last_chunk(trailers))
        if self._close_after:
            if exchange is None or exchange.request_done:
                self._transport.close()
            else:
                self._linger()

    def cut(self) -> None:
        """End without completing the response: the client must not take it for complete."""
        self._exchange = None
        self._transport.abort()

    def exchange_over(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is None or self._close_after or self._transport.is_closing():
            return
        if exchange.request.upgrade and self._reader.held():
            self._transport.close()  # bytes sent ahead for a protocol that was refused
            return
        self._since = self._now()
        self._reader.next()
        if self._paused and not self._reader.held():
            self._hold(False)
        if self._is_ending and self._exchange is None:
            self._transport.close()

    def tunnel(self) -> bytes:
        return self._reader.tunnel_now()

    def pause_reading(self) -> None:
        self._hold(True)

    def resume_reading(self) -> None:
        if not self._reader.held() or self._lingering:
            self._hold(False)

    # -- the keeper's events -----------------------------------------------------------------

    def end(self) -> None:
        """Finish the exchange in hand, take no other."""
        self._is_ending = True
        if self._exchange is None and self._reader.is_idle:
            self._transport.close()

    def abort(self) -> None:
        """End at once."""
        self._transport.abort()

    def check(self, now: float) -> None:
        """Called every second: hang up on who sends heads too slowly, or nothing at all."""
        if self._exchange is not None:
            return
        if self._since < 0:
            if now + self._since > HEAD_SECONDS:
                self._refuse(PeerError("head-timeout", "request head took too long", status=408))
        elif now - self._since > IDLE_SECONDS:
            self._transport.close()

    # -- inside ------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self.written_bytes += len(data)
            self._transport.write(data)

    def _hold(self, paused: bool) -> None:
        if self._paused is paused or self._transport.is_closing():
            return
        self._paused = paused
        if paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _refuse(self, error: PeerError) -> None:
        """Answer a request that is none, and close."""
        self._pipeline.refused(error)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            answered = exchange.has_answered
            exchange.client_gone(error.reason)
            if answered:
                self._transport.abort()
                return
        fields = reply_fields(error.reason.replace("_", "-"), str(error), "", closes=False)
        response = Response(error.status, phrase(error.status), fields)
        self._write(response_head(response, _CLOSE))
        self._linger()

    def _linger(self) -> None:
        """Close, but let the client read the answer first: closing at once would reset."""
        self._lingering = True
        self._close_after = True
        if self._transport.is_closing():
            return
        self._hold(False)
        self._transport.write_eof()
        timer: TimerHandle = self._keeper.loop.call_later(LINGER_SECONDS, self._transport.abort)
        del timer


class Keeper:
    """What connections share: the loop's clock, who is open, and whether we are stopping."""

    __slots__ = ("clients", "is_draining", "loop", "now", "tunnels")

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.now: Callable[[], float] = monotonic
        self.clients: set[ClientConnection] = set()
        self.tunnels: set[Tunnel] = set()
        self.is_draining = False
