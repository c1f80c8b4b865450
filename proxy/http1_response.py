"""Bytes of a server -> responses: llhttp with the wire guard around it. Pure."""

from __future__ import annotations

from typing import Final

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpResponseParser,
)

from mesh.core.errors import PeerError
from proxy import guard
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
    Sink,
)

_NOBODYS: Final = HttpResponseParser(None)  # in place of one whose connection is gone


class ResponseReader(HeadReader):
    """Bytes of a server -> responses. `expect` is called once per request sent, before it.

    1xx heads come through `on_response` and are followed by the real one; a 101, or a 2xx to
    CONNECT, ends HTTP on this connection: all that follows goes to `on_tunnel`.
    `can_reuse` says, between two messages, whether another request may follow.
    """

    __slots__ = (
        "_framing",
        "_good_reason",
        "_is_interim",
        "_is_unusual",
        "_keep_alive",
        "_method",
        "_parser",
        "_reason",
        "_skip",
        "_tunnel",
        "can_reuse",
        "sink",
    )

    def __init__(self, trust: int = STRIP) -> None:
        super().__init__(trust)
        self.sink: Sink | None = None  # None: nobody waits for anything
        self.can_reuse = False
        self._parser = HttpResponseParser(self)
        self._reason = b""
        self._good_reason = b"OK"  # the last one looked at; servers repeat themselves
        self._method = b""
        self._framing = MEASURED
        self._keep_alive = False
        self._is_interim = False
        self._skip = False  # a body that the response to HEAD must not have
        self._tunnel = False
        self._is_unusual = False  # a tunnel, or on its way to become one

    @property
    def skips_body(self) -> bool:
        """Whether the message ends with the head in hand: there is no body to read away."""
        return self._skip

    def close(self) -> None:
        """The connection is gone: tell nobody any more, and let go of the parser, which knows
        its reader."""
        self.sink = None
        self.can_reuse = False
        self._parser = _NOBODYS

    def expect(self, method: bytes, sink: Sink) -> None:
        """A request is about to be sent; its method decides whether a body may come back."""
        self._method = method
        self._is_unusual = method == b"CONNECT"
        self.sink = sink
        self.can_reuse = False

    def feed(self, data: bytes) -> None:
        """Parse, calling the sink. Raises PeerError(502) on anything that is no response."""
        if self._is_unusual or self.sink is None:
            self._feed_unusual(data)
            return
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._interrupted(error, data)
        if self._state != IDLE or self._skip:
            self._settle(len(data))

    def _feed_unusual(self, data: bytes) -> None:
        """A tunnel, or bytes that no request asked for, or the answer to CONNECT: that one
        byte by byte, since llhttp cannot say where its head ends, and what a tunnel carries
        must not be parsed."""
        for i in range(len(data)):
            if self._tunnel and self.sink is not None:
                self.sink.on_tunnel(data[i:])
                return
            if self.sink is None or self.can_reuse:
                if data[i:].strip(b"\r\n"):  # a stray line end behind a message does no harm
                    raise PeerError("unasked_response", "bytes nobody asked for", status=502)
                return
            self._parse(data[i : i + 1])

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._interrupted(error, data)
        self._settle(len(data))

    def _settle(self, size: int) -> None:
        """After a piece: hold an unfinished head to its limit, renew the parser after HEAD."""
        if self._state == HEAD:
            self._head += size
            if self._head > guard.MAX_HEAD:
                raise PeerError("response_head_too_large", "response head too large", status=502)
        if self._skip:
            self._skip = False
            self._state = IDLE
            self._parser = HttpResponseParser(self)

    def _interrupted(self, error: Exception, data: bytes) -> None:
        """llhttp stopped: at an upgrade, at an error of ours or of the server."""
        if isinstance(error, HttpParserUpgrade):
            self._tunnel = self._is_unusual = True
            rest = data[error.args[0] :]
            if rest and self.sink is not None:
                self.sink.on_tunnel(rest)
            return
        if not isinstance(error, HttpParserCallbackError):
            raise PeerError("bad_response", f"not HTTP/1: {error}", status=502) from error
        cause = error.__context__ or error
        if isinstance(cause, PeerError):
            raise PeerError(cause.reason, str(cause), status=502) from None
        raise cause from None

    def eof(self) -> bool:
        """The server ended its side. True when that completed the response (RFC 9112 §6.3)."""
        sink = self.sink
        if self._state == BODY and self._framing == UNTIL_END and sink is not None:
            self._state = IDLE
            self.sink = None
            sink.on_end(None)
            return True
        return False

    # -- llhttp ---------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._skip or self.can_reuse or self.sink is None:
            raise PeerError("unasked_response", "bytes behind a response")
        self._reason = b""
        self._state = HEAD

    def on_status(self, reason: bytes) -> None:
        self._reason = self._reason + reason if self._reason else reason

    def on_headers_complete(self) -> None:
        sink = self.sink
        if sink is None:
            return
        parser = self._parser
        status = parser.get_status_code()
        if self._reason != self._good_reason:
            self._check_reason()
        response = Response(status, self._reason, self._fields[:])
        response.keep_alive = self._keep_alive = parser.should_keep_alive()
        length = self._length
        if length is None or self._is_odd or status < 200 or self._method != b"GET":
            self._check(response)
        else:
            self._is_interim = self._has_persistence = False
            response.length = guard.parse_length(length)
            self._length = None
        if len(response.fields) > guard.MAX_FIELDS * 4:
            raise PeerError("response_head_too_large", "too many header fields")
        self._fields.clear()
        self._head = 0
        self._state = BODY
        self._framing = response.framing
        sink.on_response(response)
        if self._skip:
            self.sink = None
            self.can_reuse = self._keep_alive
            sink.on_end(None)

    def _check_reason(self) -> None:
        """A phrase is for people; one that is no text is forgotten (RFC 9112 §4)."""
        if not guard.is_text(self._reason):
            self._reason = b""
        self._good_reason = self._reason

    def _check(self, response: Response) -> None:
        """Framing where there is no plain length, and what depends on status or method."""
        status = response.status
        if self._length is not None:
            if self._coding:
                raise PeerError("bad_response", "Transfer-Encoding and Content-Length")
            response.length = guard.parse_length(self._length)
        elif self._coding:
            response.framing = CHUNKS
        else:
            response.framing = UNTIL_END
        if status < 200 or status == 204 or status == 304:
            response.framing = MEASURED
            response.length = 0
        if self._nominated is not None:
            response.fields = guard.drop_nominated(response.fields, self._nominated)
        self._is_interim = status < 200
        if status == 101:
            response.upgrade = self._upgrade or b"unknown"
        elif self._method == b"HEAD" and status >= 200:
            self._skip = True
            response.framing = MEASURED
            response.length = 0
        elif self._method == b"CONNECT" and 200 <= status < 300:
            self._tunnel = self._is_unusual = True
            response.upgrade = b"connect"
        self._host = self._length = None
        if self._is_odd:
            self._reset()

    def on_body(self, data: bytes) -> None:
        if self._skip:
            if data.strip(b"\r\n"):  # a stray line end behind a message does no harm
                raise PeerError("bad_response", "a body where none may be")
            return
        if self.sink is not None:
            self.sink.on_body(data)

    def on_message_complete(self) -> None:
        self._state = IDLE
        if self._skip or self._tunnel or self._is_interim:
            return
        sink, self.sink = self.sink, None
        self.can_reuse = self._keep_alive
        if sink is not None:
            sink.on_end(self._take_trailers() if self._framing == CHUNKS else None)
