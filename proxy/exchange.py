"""One request and its response, between a client's side and a server's side.

An exchange is all that the two sides know of each other: the client's connection or stream
pushes the request in, the server's pushes the response in, and each passes on when to wait.
Which endpoint is asked, what is retried and what is counted is the pipeline's, inbound or
outbound. An exchange ends once: `pipeline.finished` is its last call.
"""

from __future__ import annotations

from time import monotonic
from typing import Any, Final, Protocol

from mesh.core.errors import PeerError
from proxy import grpc, guard
from proxy.answer import Outcome, phrase, reply_fields
from proxy.balance import Load
from proxy.guard import Fields
from proxy.http1 import Request, Response, Sink
from proxy.native import mypyc_attr, trait

INTERNAL_ERROR: Final = 2  # how HTTP/2 says that a response broke off (RFC 9113 §7)
MAX_REPLAY: Final = 64 * 1024  # bytes of a request's body kept for another try
REFUSED: Final = "refused-stream"  # why a server is lost that never looked at the request
UNREAD: Final = "unread"  # ... that closed with the request unread, as far as a reset tells


@trait
@mypyc_attr(allow_interpreted_subclasses=True)
class ClientSide:
    """Where the request came from and the response goes."""

    __slots__ = ()

    def send_response(self, response: Response) -> None: ...
    def send_body(self, data: bytes) -> None: ...
    def send_end(self, trailers: Fields | None) -> None: ...
    def flush(self) -> None: ...
    def refuse(self) -> bool:
        raise NotImplementedError

    def cut(self, code: int = INTERNAL_ERROR) -> None: ...
    def exchange_over(self, now: float) -> None: ...
    def tunnel(self) -> bytes:
        raise NotImplementedError

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class ServerSide(Protocol):
    """Where the request goes and the response comes from."""

    is_reused: bool

    def send_request(self, exchange: Exchange) -> None: ...
    def send_body(self, data: bytes) -> None: ...
    def send_end(self, trailers: Fields | None) -> None: ...
    def cancel(self) -> None: ...
    def discard(self) -> None: ...
    def release(self, now: float) -> None: ...
    def tunnel_end(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


@mypyc_attr(allow_interpreted_subclasses=True)
class Pipeline:
    """What happens to the requests of one connection, in order."""

    __slots__ = ()

    def begin(self, exchange: Exchange) -> None: ...
    def lost(self, exchange: Exchange, reason: str) -> None: ...
    def responded(self, exchange: Exchange, response: Response) -> bool:
        """A final response head is here. True: it was taken back, to ask another server."""
        raise NotImplementedError

    def finished(self, exchange: Exchange, now: float) -> None: ...
    def refused(self, error: PeerError) -> None: ...
    def closed(self, client: Any, error: BaseException | None) -> None: ...


class Journey:
    """What only some exchanges have: tries beyond the first, changes, a deadline."""

    __slots__ = ("budgeted", "came", "deadline", "id", "mirrors", "original", "tries")

    def __init__(self) -> None:
        self.id = b""  # that a person may ask about
        self.came: bytes | None = None  # the id under which an inbound request is remembered
        self.tries = 0  # sent again because a route says so
        self.budgeted = True  # whether what comes from here may be tried again at all
        self.deadline: float | None = None  # monotonic seconds
        self.original: Request | None = None  # as the client sent it, before filters
        self.mirrors: list[Any] | None = None


class Exchange(Sink):
    """See the module. Fields without underscore belong to the pipeline."""

    __slots__ = (
        "_kept",
        "_response_done",
        "_response_open",
        "_trailers",
        "attempt",
        "client",
        "code",
        "endpoint",
        "error",
        "extra",
        "held",
        "is_over",
        "is_tunnel",
        "journey",
        "load",
        "pipeline",
        "plan",
        "request",
        "request_bytes",
        "request_done",
        "response_bytes",
        "sent",
        "series",
        "server",
        "started",
        "status",
        "timer",
        "tried",
        "was_reused",
    )

    def __init__(
        self, client: ClientSide, pipeline: Pipeline, request: Request, now: float
    ) -> None:
        self.client = client
        self.pipeline = pipeline
        self.request = request
        self.started = now
        self.sent = now  # when a connection was there for it, where one had to be opened
        self.server: ServerSide | None = None
        self.endpoint: Any = None
        self.load: Load | None = None  # of the endpoint that it counts in
        self.plan: Any = None
        self.series: Any = None
        self.attempt: Any = None  # a dial under way
        self.tried: list[Any] | None = None
        self.timer: Any = None
        self.journey: Journey | None = None
        self.held: Any = None  # a response head that waits (proxy.held)
        self.status = 0
        self.code: bytes | None = None  # grpc-status of an HTTP/2 response
        self.error = ""  # a fixed word when no server answered, or not to the end
        self.extra: Fields = []  # fields that we add to the request
        self.request_bytes = 0
        self.response_bytes = 0
        self.is_over = False
        self.request_done = request.length == 0
        self._response_open = False  # a final response head has gone to the client
        self._response_done = False
        self.is_tunnel = False
        self._kept: list[bytes] | None = None  # of the request's body, from its first byte
        self._trailers: Fields | None = None

    # -- the client's side -------------------------------------------------------------------

    def request_body(self, data: bytes) -> None:
        size = self.request_bytes = self.request_bytes + len(data)
        server = self.server
        if server is not None:
            server.send_body(data)
            if self._response_open or size > MAX_REPLAY:
                self._kept = None
            elif self._kept is None:
                self._kept = [data]
            else:
                self._kept.append(data)
        elif not self._response_done:
            if self._kept is None:
                self._kept = []
            self._kept.append(data)
            self.client.pause_reading()
        if self.journey is not None and self.journey.mirrors:
            for mirror in self.journey.mirrors:
                mirror.request_body(data)

    def request_end(self, trailers: Fields | None) -> None:
        self.request_done = True
        self._trailers = trailers
        if self.server is not None:
            self.server.send_end(trailers)
            if self._response_done:
                self._finish()
        elif self._response_done:
            self._finish()
        if self.timer is not None:
            self.timer.request_ended()
        if self.journey is not None and self.journey.mirrors:
            for mirror in self.journey.mirrors:
                mirror.request_end(trailers)

    def client_gone(self, reason: str = "client-gone") -> None:
        """The client hung up: stop the server's work too."""
        if self.is_over:
            return
        self.error = self.error or reason
        self._drop_server()
        self._finish()

    def client_blocked(self) -> None:
        if self.server is not None:
            self.server.pause_reading()

    def client_ready(self) -> None:
        if self.server is not None:
            self.server.resume_reading()

    @property
    def is_replayable(self) -> bool:
        """Whether all of the request that was given away can be given again."""
        return self.request_bytes <= MAX_REPLAY or (self.server is None and self._kept is not None)

    @property
    def has_answered(self) -> bool:
        """Whether a byte of a response has reached the client."""
        return self._response_open

    # -- the pipeline ------------------------------------------------------------------------

    def attach(self, server: ServerSide) -> None:
        """A connection is there: send what there is of the request."""
        self.attempt = None
        self.server = server
        server.send_request(self)
        if self.request.length != 0:
            self._catch_up(server)

    def _catch_up(self, server: ServerSide) -> None:
        """Send what came of the request while there was no connection, or went elsewhere."""
        if self._kept is not None:
            for data in self._kept:
                server.send_body(data)
            if self.request_bytes > MAX_REPLAY:
                self._kept = None
            self.client.resume_reading()
        if self.request_done:
            server.send_end(self._trailers)

    def take_back(self, *, answered: bool) -> None:
        """Nothing of a response has reached the client: let go of this server, to ask another.
        `answered`: a head is here, and what follows it may go by."""
        if self.attempt is not None:
            self.attempt.cancel()
            self.attempt = None
        server, self.server = self.server, None
        if server is None:
            return
        if answered and self.request_done:
            server.discard()
        else:
            server.cancel()

    def answer(
        self,
        outcome: Outcome,
        origin: str = "",
        detail: str = "",
        *,
        status: int = 0,
        more: Fields | None = None,
    ) -> None:
        """Reply without a server; in the middle of a response, cut it instead. `detail` is a
        reason more exact than the outcome's, `status` another one than its own, `more` are
        further fields."""
        kind = outcome.value
        reason = detail or kind.reason
        status = status or kind.status
        if grpc.is_grpc(self.request):
            response = grpc.reply(status, reason, kind.text, origin)
        else:
            fields = reply_fields(reason, kind.text, origin, closes=kind.closes)
            response = Response(status, phrase(status), fields)
        if more:
            response.fields += more
        response.keep_alive = not kind.closes
        self.reply(response, reason)

    def decline(self, outcome: Outcome, detail: str, origin: str = "") -> None:
        """Reply where nothing of the request has reached a server: a client that can ask
        elsewhere is told so (RFC 9113 §8.7), any other gets the answer."""
        if self.is_over or self._response_open or not self.client.refuse():
            self.answer(outcome, origin, detail)
            return
        self._drop_server()
        self._kept = None
        self.status, self.error = outcome.value.status, detail
        self._finish()

    def reply(self, response: Response, reason: str = "") -> None:
        """Give an answer of our own. `reason` is counted and logged, "" for no error."""
        if self.is_over:
            return
        self._drop_server()
        self._kept = None
        self.error = reason
        if self._response_open:
            self._break_off(reason)
            return
        self.status = response.status
        self._response_open = True
        self.client.send_response(response)
        self._end_response(None)

    # -- the server's side -------------------------------------------------------------------

    def on_response(self, response: Response) -> None:
        if response.status < 200 and not response.upgrade:
            if self.request.minor:
                self.client.send_response(response)
            return
        if response.upgrade and not self.request.upgrade:
            raise PeerError("bad_response", "an upgrade that nobody asked for", status=502)
        self.status = response.status
        if self.request.is_http2:
            self.code = guard.get(response.fields, b"grpc-status")
        if not self.pipeline.responded(self, response):
            self.open_response(response)

    def open_response(self, response: Response) -> None:
        """Give a final head to the client: from here on nothing is tried again."""
        self._response_open = True
        if self._kept is not None:
            self._kept = None
        if response.upgrade:
            self.is_tunnel = True
            self.client.send_response(response)
            self._open_tunnel()
        else:
            self.client.send_response(response)

    def on_body(self, data: bytes) -> None:
        self.response_bytes += len(data)
        self.client.send_body(data)

    def on_end(self, trailers: Fields | None) -> None:
        if self.server is None:
            return  # the response was taken back
        if trailers and self.request.is_http2:
            self.code = guard.get(trailers, b"grpc-status")
        if self.held is not None and self.held.ended(trailers):
            return
        self._end_response(trailers)

    def _end_response(self, trailers: Fields | None) -> None:
        self._response_done = True
        self.client.send_end(trailers)
        if self.request_done or self.request.is_http2:
            self._finish()  # on HTTP/2 a request that goes on is told to stop
        elif self.server is None and not self.is_over:
            self.client.resume_reading()

    def on_tunnel(self, data: bytes) -> None:
        self.response_bytes += len(data)
        self.client.send_body(data)
        self.client.flush()

    def server_lost(self, reason: str) -> None:
        """The server went away, or said what is no HTTP, before the response was complete."""
        server, self.server = self.server, None
        if self.is_over:
            return
        self.was_reused = server is not None and server.is_reused
        if self.is_tunnel:
            self.client.send_end(None)
            self._finish()
        elif self._response_done:
            if self.request_done:
                self._finish()
            else:
                self.client.resume_reading()
        elif self._response_open:
            self.error = reason
            self._break_off(reason)
        else:
            self.pipeline.lost(self, reason)

    def server_reset(self, code: int) -> None:
        """The server reset an HTTP/2 request: its client gets to know the same code."""
        self.server = None
        if not self.is_over:
            self.error = "server-reset"
            self.client.cut(code)
            self._finish()

    def _break_off(self, reason: str) -> None:
        """The client must not take what it got for complete; gRPC has a status for that."""
        if grpc.is_grpc(self.request):
            self.client.send_end(grpc.trailers_for(502, reason, ""))
        else:
            self.client.cut()
        self._finish()

    def server_blocked(self) -> None:
        self.client.pause_reading()

    def server_ready(self) -> None:
        self.client.resume_reading()

    # -- tunnels -----------------------------------------------------------------------------

    def _open_tunnel(self) -> None:
        self.client.flush()
        held = self.client.tunnel()
        if held and self.server is not None:
            self.request_bytes += len(held)
            self.server.send_body(held)

    def client_tunnel_end(self) -> None:
        """The client's side of a tunnel has ended; the server's may go on."""
        if self.server is not None:
            self.server.tunnel_end()

    # -- the end -----------------------------------------------------------------------------

    def _drop_server(self) -> None:
        if self.attempt is not None:
            self.attempt.cancel()
            self.attempt = None
        server, self.server = self.server, None
        if server is not None:
            server.cancel()

    def _finish(self) -> None:
        if self.is_over:
            return
        self.is_over = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        now = monotonic()
        server, self.server = self.server, None
        if server is not None:
            server.release(now)
        self.pipeline.finished(self, now)
        self.client.exchange_over(now)
