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
from proxy.http1 import BODY, HEAD, IDLE, STRIP, HeadReader, Response


class ResponseSink(Protocol):
    def on_response(self, response: Response) -> None: ...
    def on_body(self, data: bytes) -> None: ...
    def on_end(self, trailers: Fields | None) -> None: ...
    def on_tunnel(self, data: bytes) -> None: ...


class ResponseReader(HeadReader):
    """Bytes of a server -> responses. `expect` is called once per request sent, before it.

    1xx heads come through `on_response` and are followed by the real one; a 101, or a 2xx to
    CONNECT, ends HTTP on this connection: all that follows goes to `on_tunnel`.
    """

    __slots__ = (
        "_last",
        "_method",
        "_needs_end",
        "_overhead",
        "_parser",
        "_reason",
        "_sink",
        "_skip",
        "_tunnel",
        "waiting",
    )

    def __init__(self, sink: ResponseSink, trust: int = STRIP) -> None:
        self._sink = sink
        self._trust = trust
        self._parser = HttpResponseParser(self)
        self._state = IDLE
        self._head = 0
        self._reason = b""
        self._method = b""
        self._skip = False  # a body that the response to HEAD must not have
        self._needs_end = False  # the body ends with the connection
        self._last = False
        self._tunnel = False
        self.waiting = False

    def expect(self, method: bytes) -> None:
        """A request is about to be sent; its method decides whether a body may come back."""
        self._method = method
        self.waiting = True

    def feed(self, data: bytes) -> None:
        """Parse, calling the sink. Raises PeerError(502) on anything that is no response."""
        if self._tunnel:
            self._sink.on_tunnel(data)
            return
        if not self.waiting:
            raise PeerError("unasked_response", "bytes that no request asked for", status=502)
        if self._method == b"CONNECT" and len(data) > 1:
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
            if self._skip or self._last:
                raise PeerError(
                    "unasked_response", "bytes behind a response", status=502
                ) from error
            raise PeerError("bad_response", f"not HTTP/1: {error}", status=502) from error
        if self._state == HEAD:
            self._head = self._head + len(data) if was_head else len(data)
            if self._head > guard.MAX_HEAD:
                raise PeerError("response_head_too_large", "response head too large", status=502)
        if self._skip:
            self._renew()

    def eof(self) -> bool:
        """The server ended its side. True when that completed the response (RFC 9112 §6.3)."""
        if self._state == BODY and self._needs_end:
            self._state = IDLE
            self.waiting = False
            self._sink.on_end(None)
            return True
        return False

    def _renew(self) -> None:
        self._skip = False
        self._state = IDLE
        self._parser = HttpResponseParser(self)

    def _stopped(self, rest: bytes) -> None:
        self._tunnel = True
        if rest:
            self._sink.on_tunnel(rest)

    # -- llhttp ---------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._skip or not self.waiting:
            raise PeerError("unasked_response", "bytes behind a response", status=502)
        self._reason = b""
        self._begin()

    def on_status(self, reason: bytes) -> None:
        self._reason = self._reason + reason if self._reason else reason

    def on_headers_complete(self) -> None:
        parser = self._parser
        status = parser.get_status_code()
        response = Response(status, self._reason, self._fields)
        response.keep_alive = parser.should_keep_alive()
        self._check(response)
        self._fields = []
        self._state = BODY
        self._last = not response.keep_alive
        if status < 200:
            if status == 101:
                response.upgrade = self._upgrade or b"unknown"
        elif self._method == b"HEAD":
            self._skip = True
            response.length = 0
        elif self._method == b"CONNECT" and status < 300:
            self._tunnel = True
            response.upgrade = b"connect"
        elif status == 204 or status == 304:
            response.length = 0
        self._needs_end = response.until_end and not self._skip
        self._sink.on_response(response)
        if self._skip:
            self.waiting = False
            self._sink.on_end(None)

    def _check(self, response: Response) -> None:
        length: int | None = None
        coding = False
        if len(self._fields) > guard.MAX_FIELDS * 4:
            raise PeerError("response_head_too_large", "too many header fields", status=502)
        if self._framing is not None:
            for kind, value in self._framing:
                if kind == guard.LENGTH:
                    if length is not None:
                        raise PeerError("bad_response", "two Content-Length fields", status=502)
                    length = guard.parse_length(value)
                elif kind == guard.CODING:
                    guard.check_coding(value, repeated=coding)
                    coding = True
        if coding and length is not None:
            raise PeerError("bad_response", "Transfer-Encoding and Content-Length", status=502)
        response.length = length
        response.until_end = length is None and not coding and response.status >= 200
        if response.until_end and response.status in (204, 304):
            response.until_end = False
        if self._nominated is not None:
            response.fields = self._fields = guard.drop_nominated(self._fields, self._nominated)

    def on_body(self, data: bytes) -> None:
        if self._skip:
            raise PeerError("bad_response", "a body where none may be", status=502)
        self._sink.on_body(data)

    def on_message_complete(self) -> None:
        self._state = IDLE
        if self._skip or self._tunnel or self._reason_is_interim():
            return
        self.waiting = False
        self._sink.on_end(self._take_trailers() if self._fields else None)

    def _reason_is_interim(self) -> bool:
        return self._parser.get_status_code() < 200
