"""Bytes of a server -> responses: llhttp with the wire guard around it. Pure."""

from __future__ import annotations

from typing import Protocol

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpResponseParser,
)

from mesh.core.errors import PeerError
from proxy import guard
from proxy.guard import Fields
from proxy.http1 import (
    BODY,
    CHUNKS,
    HEAD,
    IDLE,
    MEASURED,
    STRIP,
    UNTIL_END,
    HeadReader,
    Response,
)


class ResponseSink(Protocol):
    def on_response(self, response: Response) -> None: ...
    def on_body(self, data: bytes) -> None: ...
    def on_end(self, trailers: Fields | None) -> None: ...
    def on_tunnel(self, data: bytes) -> None: ...


class ResponseReader(HeadReader):
    """Bytes of a server -> responses. `expect` is called once per request sent, before it.

    1xx heads come through `on_response` and are followed by the real one; a 101, or a 2xx to
    CONNECT, ends HTTP on this connection: all that follows goes to `on_tunnel`.
    `can_reuse` says, between two messages, whether another request may follow.
    """

    __slots__ = (
        "_framing",
        "_is_interim",
        "_method",
        "_parser",
        "_reason",
        "_sink",
        "_skip",
        "_tunnel",
        "can_reuse",
        "waiting",
    )

    def __init__(self, trust: int = STRIP) -> None:
        super().__init__(trust)
        self._sink: ResponseSink | None = None
        self._parser = HttpResponseParser(self)
        self._reason = b""
        self._method = b""
        self._framing = MEASURED
        self._is_interim = False
        self._skip = False  # a body that the response to HEAD must not have
        self._tunnel = False
        self.can_reuse = True
        self.waiting = False

    def expect(self, method: bytes, sink: ResponseSink) -> None:
        """A request is about to be sent; its method decides whether a body may come back."""
        self._method = method
        self._sink = sink
        self.waiting = True

    def forget(self) -> None:
        """Nobody waits for the rest: drop the sink, refuse what may still come."""
        self._sink = None

    def feed(self, data: bytes) -> None:
        """Parse, calling the sink. Raises PeerError(502) on anything that is no response."""
        sink = self._sink
        if self._tunnel and sink is not None:
            sink.on_tunnel(data)
        elif not self.waiting or sink is None:
            if data.strip(b"\r\n"):  # a stray line end behind a message does no harm
                raise PeerError("unasked_response", "bytes that nobody asked for", status=502)
        elif self._method == b"CONNECT" and len(data) > 1:
            self._feed_singly(data)
        else:
            self._parse(data)

    def _feed_singly(self, data: bytes) -> None:
        """Byte by byte: llhttp cannot say where the head of a CONNECT's answer ends, and what
        a tunnel carries must not be parsed."""
        for i in range(len(data)):
            if self._tunnel or not self.waiting:
                self.feed(data[i:])
                return
            self._parse(data[i : i + 1])

    def _parse(self, data: bytes) -> None:
        was_head = self._state == HEAD
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as stop:
            self._stopped(data[stop.args[0] :])
            return
        except HttpParserCallbackError as error:
            cause = error.__context__ or error
            if isinstance(cause, PeerError):
                raise PeerError(cause.reason, str(cause), status=502) from None
            raise cause from None
        except HttpParserError as error:
            raise PeerError("bad_response", f"not HTTP/1: {error}", status=502) from error
        if self._state == HEAD:
            self._head = self._head + len(data) if was_head else len(data)
            if self._head > guard.MAX_HEAD:
                raise PeerError("response_head_too_large", "response head too large", status=502)
        if self._skip:
            self._skip = False
            self._state = IDLE
            self._parser = HttpResponseParser(self)

    def eof(self) -> bool:
        """The server ended its side. True when that completed the response (RFC 9112 §6.3)."""
        self.can_reuse = False
        if self._state == BODY and self._framing == UNTIL_END and self._sink is not None:
            self._state = IDLE
            self.waiting = False
            self._sink.on_end(None)
            return True
        return False

    def _stopped(self, rest: bytes) -> None:
        self._tunnel = True
        if rest and self._sink is not None:
            self._sink.on_tunnel(rest)

    # -- llhttp ---------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._skip or not self.waiting:
            raise PeerError("unasked_response", "bytes behind a response", status=502)
        self._reason = b""
        self._state = HEAD

    def on_status(self, reason: bytes) -> None:
        self._reason = self._reason + reason if self._reason else reason

    def on_headers_complete(self) -> None:
        parser = self._parser
        status = parser.get_status_code()
        response = Response(status, self._reason, self._fields[:])
        response.keep_alive = self.can_reuse = parser.should_keep_alive()
        self._check(response)
        if self._nominated is not None:
            response.fields = guard.drop_nominated(response.fields, self._nominated)
        self._is_interim = status < 200
        if self._is_interim or self._method != b"GET":
            self._check_special(response)
        self._reset()
        self._state = BODY
        self._framing = response.framing
        sink = self._sink
        if sink is not None:
            sink.on_response(response)
            if self._skip:
                self.waiting = False
                sink.on_end(None)

    def _check(self, response: Response) -> None:
        if self._length is not None:
            if self._coding:
                raise PeerError("bad_response", "Transfer-Encoding and Content-Length")
            response.length = guard.parse_length(self._length)
        elif self._coding:
            response.framing = CHUNKS
        else:
            response.framing = UNTIL_END
        if response.status in (204, 304):
            response.framing = MEASURED
            response.length = 0
        if len(self._fields) > guard.MAX_FIELDS * 4:
            raise PeerError("response_head_too_large", "too many header fields")

    def _check_special(self, response: Response) -> None:
        """Interim responses, and methods whose response has no body."""
        status = response.status
        if status < 200:
            response.framing = MEASURED
            if status == 101:
                response.upgrade = self._upgrade or b"unknown"
                self.can_reuse = False
        elif self._method == b"HEAD":
            self._skip = True
            response.framing = MEASURED
            response.length = 0
        elif self._method == b"CONNECT" and status < 300:
            self._tunnel = True
            self.can_reuse = False
            response.upgrade = b"connect"

    def on_body(self, data: bytes) -> None:
        if self._skip:
            raise PeerError("bad_response", "a body where none may be")
        if self._sink is not None:
            self._sink.on_body(data)

    def on_message_complete(self) -> None:
        self._state = IDLE
        if self._skip or self._tunnel or self._is_interim:
            return
        self.waiting = False
        if self._sink is not None:
            self._sink.on_end(self._take_trailers() if self._framing == CHUNKS else None)
