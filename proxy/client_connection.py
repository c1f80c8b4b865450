"""A client's HTTP/1 connection: requests in, responses out, one exchange at a time."""

from __future__ import annotations

from asyncio import TimerHandle
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, Protocol

from mesh.core.errors import PeerError
from proxy import guard
from proxy.answer import phrase, reply_fields
from proxy.exchange import ClientSide, Exchange, Pipeline
from proxy.guard import Fields
from proxy.http1 import (
    CHUNKED,
    CHUNKS,
    MEASURED,
    STRIP,
    UNTIL_END,
    Request,
    Response,
    Sink,
    chunk,
    last_chunk,
    response_head,
)
from proxy.http1_request import RequestReader
from proxy.opaque import Tunnel
from proxy.pace import Pace, Taking
from proxy.seams import Transport

HEAD_SECONDS: Final = 10.0  # for a request head, from its first byte
IDLE_SECONDS: Final = 60.0  # for the first byte of the next request
LINGER_SECONDS: Final = 2.0
_CLOSE: Final = [b"Connection", b": ", b"close", b"\r\n"]
_KEEP: Final = [b"Connection", b": ", b"keep-alive", b"\r\n"]

_NOTHING: Final[Fields] = []
_NO_BODY: Final = 9  # beside the framings of http1


class ClientConnection(Sink, ClientSide):
    """The receiver of one client's transport. `keeper` knows it while it lives."""

    __slots__ = (
        "_body",
        "_close_after",
        "_exchange",
        "_head",
        "_is_ending",
        "_keeper",
        "_lingering",
        "_now",
        "_paused",
        "_pipeline",
        "_reader",
        "_reads",
        "_since",
        "_taking",
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
        self._body = MEASURED
        self._head = b""  # of a response whose body has not begun
        self._close_after = False
        self._is_ending = False  # asked to end after the exchange in hand
        self._lingering = False
        self._paused = False
        self._write_paused = False
        self._reads: Pace | None = None  # of a body that is awaited
        self._taking = Taking()
        self._since = self._now()
        self.read_bytes = 0
        self.written_bytes = 0
        keeper.clients.add(self)

    # -- receiver ----------------------------------------------------------------------------

    def connection_made(self, transport: Transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.read_bytes += len(data)
        try:
            if self._lingering:
                return  # what a client says after we have hung up
            if self._reader.feed(data):
                self._hold(True)
        except PeerError as error:
            self._refuse(error)
            return
        if self._exchange is None and self._reader.in_head and self._since > 0:
            self._since = -self._now()  # negative: a head has begun

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
        self._reader.close()
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
        if self._keeper.is_shedding:
            raise overloaded()
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

    def send_response(self, response: Response) -> None:
        """Write a head. It waits for the first bytes of its body, or for `flush`."""
        exchange = self._exchange
        if exchange is None:
            return
        request = exchange.request
        if (
            request.is_usual
            and exchange.request_done
            and not self._keeper.is_draining
            and response.framing != UNTIL_END
            and not response.upgrade
            and response.status >= 200
            and not exchange.error
        ):
            self._body = response.framing
            self._head = response_head(response, _NOTHING)
        elif response.status < 200 or response.upgrade:
            self._body = MEASURED
            self._write(response_head(response, _NOTHING))
        else:
            self._send_unusual(exchange, response)

    def _send_unusual(self, exchange: Exchange, response: Response) -> None:
        request = exchange.request
        extra: Fields = []
        self._body = response.framing
        if request.method == b"HEAD":
            self._body = _NO_BODY
        elif response.framing != MEASURED and not request.minor:
            response.fields = guard.without(response.fields, b"transfer-encoding")
            self._body = MEASURED
            self._close_after = True
        elif response.framing == UNTIL_END:
            self._body = CHUNKS
            extra += CHUNKED
        if (
            not request.keep_alive
            or self._is_ending
            or self._keeper.is_draining
            or self._must_close(exchange, response)
        ):
            self._close_after = True
        if self._close_after:
            extra += _CLOSE
        elif not request.minor:
            extra += _KEEP
        self._head = response_head(response, extra)

    def _must_close(self, exchange: Exchange, response: Response) -> bool:
        """Whether what follows on this connection could not be told apart."""
        if not exchange.request_done:
            return exchange.error != "" or guard.get(exchange.request.fields, b"expect") is not None
        return exchange.error != "" and not response.keep_alive

    def send_body(self, data: bytes) -> None:
        body = self._body
        if body == CHUNKS:
            data = chunk(data)
        elif body == _NO_BODY:
            return
        if self._head:
            data = self._head + data
            self._head = b""
        self.written_bytes += len(data)
        try:
            self._transport.write(data)
        except RuntimeError:
            return  # closed under us; connection_lost is on its way

    def send_end(self, trailers: Fields | None) -> None:
        exchange = self._exchange
        if self._body == CHUNKS:
            self._head += last_chunk(trailers)
        if self._head:
            self.flush()
        if exchange is not None and exchange.is_tunnel:
            self._transport.close()
        elif self._close_after:
            if exchange is None or exchange.request_done:
                self._transport.close()
            else:
                self._linger()

    def flush(self) -> None:
        """Write a head that still waits for its body."""
        if self._head:
            head, self._head = self._head, b""
            self._write(head)

    def refuse(self) -> bool:
        """HTTP/1 has no way to say that a request was never looked at."""
        return False

    def cut(self, code: int = 0) -> None:
        """End without completing the response: the client must not take it for complete."""
        self._exchange = None
        self._transport.abort()

    def exchange_over(self, now: float) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is None or self._close_after or self._transport.is_closing():
            return
        if exchange.request.upgrade and self._reader.has_held:
            self._transport.close()  # bytes sent ahead for a protocol that was refused
            return
        self._since = now
        if not self._reader.next() and self._paused:
            self._hold(False)
        if self._is_ending and self._exchange is None:
            self._transport.close()

    def tunnel(self) -> bytes:
        return self._reader.tunnel_now()

    def pause_reading(self) -> None:
        self._hold(True)

    def resume_reading(self) -> None:
        if not self._reader.has_held or self._lingering:
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
        """Called every second: hang up on who sends too slowly, takes too little, or is idle."""
        if self._exchange is not None:
            self._check_pace(self._exchange, now)
            return
        self._reads = None
        if self._is_stalled(now):
            self._give_up()  # also a connection that is closed, once all has gone
        elif self._since < 0:
            if now + self._since > HEAD_SECONDS:
                self._refuse(PeerError("head-timeout", "request head took too long", status=408))
        elif now - self._since > IDLE_SECONDS:
            self._transport.close()

    def _check_pace(self, exchange: Exchange, now: float) -> None:
        """A body of known length, and a response, have to get on. Streams may be silent."""
        if exchange.is_tunnel:
            return
        if exchange.request_done or not exchange.request.length or self._paused:
            self._reads = None
        elif self._reads is None:
            self._reads = Pace(self.read_bytes, now)
        elif self._reads.is_slow(self.read_bytes, now):
            self._refuse(PeerError("slow-body", "request body took too long", status=408))
            return
        if self._is_stalled(now):
            self._exchange = None
            self._give_up()
            exchange.client_gone("stalled")

    def _is_stalled(self, now: float) -> bool:
        """Whether what was written, be it all of a response, is taken too slowly."""
        waiting = self._transport.get_write_buffer_size()
        return self._taking.is_slow(self.written_bytes, waiting, now)

    def _give_up(self) -> None:
        self._pipeline.refused(PeerError("stalled", "a response that nobody takes"))
        self._transport.abort()

    # -- inside ------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        self.written_bytes += len(data)
        try:
            self._transport.write(data)
        except RuntimeError:
            return  # closed under us; connection_lost is on its way

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
        self.flush()
        self._write(response_head(response, _CLOSE))
        self._linger()

    def _linger(self) -> None:
        """Close, but let the client read the answer first: closing at once would reset."""
        self._lingering = self._close_after = True
        if self._transport.is_closing():
            return
        self._hold(False)
        self._transport.write_eof()
        timer: TimerHandle = self._keeper.loop.call_later(LINGER_SECONDS, self._transport.abort)
        del timer


def overloaded() -> PeerError:
    """The answer to a request while memory is short."""
    return PeerError("overloaded", "memory is short", status=503)


class Kept(Protocol):
    """A client's connection as its keeper sees it."""

    def end(self) -> None: ...
    def abort(self) -> None: ...
    def check(self, now: float) -> None: ...


class Keeper:
    """What connections share: the loop's clock, who is open, and whether we are stopping."""

    __slots__ = ("clients", "is_draining", "is_shedding", "loop", "now", "tunnels")

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.now: Callable[[], float] = monotonic
        self.clients: set[Kept] = set()
        self.tunnels: set[Tunnel] = set()
        self.is_draining = False
        self.is_shedding = False  # memory is short: requests are answered 503
