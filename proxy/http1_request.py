"""Bytes of a client -> requests: llhttp with the wire guard around it. Pure."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from mesh.core.errors import PeerError
from proxy import guard
from proxy.guard import Fields
from proxy.http1 import BODY, HEAD, IDLE, PIECE, STRIP, HeadReader, Request


class RequestSink(Protocol):
    def on_request(self, request: Request) -> None: ...
    def on_body(self, data: bytes) -> None: ...
    def on_end(self, trailers: Fields | None) -> None: ...
    def on_tunnel(self, data: bytes) -> None: ...


class RequestReader(HeadReader):
    """Bytes of a client -> requests, strictly one after the other.

    After `on_end` the next request waits, parsed or not, until `next()`: a sink never sees
    two requests at once, and pipelined bytes are bounded by one piece plus what was read.
    """

    __slots__ = (
        "_blocked",
        "_chunked",
        "_fed",
        "_feeding",
        "_held",
        "_keep_alive",
        "_known_host",
        "_left",
        "_muted",
        "_overhead",
        "_parser",
        "_queue",
        "_sink",
        "_tunnel",
        "_url",
        "ended",
    )

    def __init__(self, sink: RequestSink, trust: int = STRIP) -> None:
        super().__init__(trust)
        self._sink = sink
        self._parser = HttpRequestParser(self)
        self._fed = 0  # bytes of the piece that is being parsed
        self._left = 0  # bytes of a body of known length still to come
        self._chunked = False
        self._blocked = False
        self._feeding = False
        self._held: list[bytes] = []
        self._queue: deque[tuple[int, object]] = deque()
        self._known_host = b""  # the last one found good
        self._url = b""
        self._muted = False
        self._overhead = 0
        self._tunnel = False
        self._keep_alive = True
        self.ended = False  # nothing after this request will be read

    @property
    def is_idle(self) -> bool:
        """Whether no byte of a request is waiting or half-read."""
        return self._state == IDLE and not self._held and not self._queue

    @property
    def in_head(self) -> bool:
        return self._state == HEAD

    def feed(self, data: bytes) -> None:
        """Parse, calling the sink. Raises PeerError with the status to answer."""
        if self._blocked or self._held or self._tunnel or self.ended:
            self._feed_later(data)
        elif len(data) <= PIECE or self._left >= len(data):
            self._parse(data)
            if self._queue:
                self._pump()
        else:
            self._held.append(data)
            self._pump()

    def next(self) -> None:
        """The response to the last request is out: let the next one through."""
        self._blocked = False
        if (self._queue or self._held) and not self._feeding:
            self._pump()

    def tunnel_now(self) -> bytes:
        """The upgrade was accepted: what came after the request, and raw bytes from here."""
        self._tunnel = True
        held = b"".join(self._held)
        self._held.clear()
        return held

    @property
    def has_held(self) -> bool:
        """Whether bytes wait behind the current request, unparsed."""
        return bool(self._held)

    def held_bytes(self) -> int:
        return sum(map(len, self._held))

    def _feed_later(self, data: bytes) -> None:
        if self._tunnel:
            self._sink.on_tunnel(data)
        elif not self.ended:
            self._held.append(data)

    def _pump(self) -> None:
        while not self._blocked:
            if self._queue:
                self._emit(*self._queue.popleft())
            elif self._held and not self.ended:
                data = self._held[0]
                if len(data) > PIECE and self._left < len(data):
                    self._held[0] = data[PIECE:]
                    data = data[:PIECE]
                else:
                    del self._held[0]
                self._parse(data)
            else:
                return

    def _emit(self, kind: int, value: object) -> None:
        sink = self._sink
        if kind == HEAD:
            sink.on_request(value)  # type: ignore[arg-type]
        elif kind == BODY:
            sink.on_body(value)  # type: ignore[arg-type]
        else:
            self._blocked = True
            sink.on_end(value)  # type: ignore[arg-type]

    def _parse(self, data: bytes) -> None:
        was_head = self._state == HEAD
        self._feeding = True
        self._fed = len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as stop:
            self._stopped(data[stop.args[0] :])
        except HttpParserCallbackError as error:
            raise (error.__context__ or error) from None
        except HttpParserError as error:
            if self._state != IDLE or self._keep_alive:
                raise guard.parse_error(error) from error
            self.ended = True  # bytes after a request that said close
        finally:
            self._feeding = False
        if self._state != IDLE:
            self._account(len(data), was_head)

    def _account(self, size: int, was_head: bool) -> None:
        """A message is unfinished: hold its head and its chunk framing to their limits."""
        if self._state == HEAD:
            self._head = self._head + size if was_head else size
            if self._head > guard.MAX_HEAD:
                raise PeerError("head_too_large", "request head too large", status=431)
        elif self._chunked:
            self._overhead = max(0, self._overhead + size)
            if self._overhead > guard.MAX_CHUNK_OVERHEAD:
                raise PeerError("chunk_overhead", "more chunk framing than body")

    def _stopped(self, rest: bytes) -> None:
        """llhttp stepped aside for an upgrade. Ours to say whether it is one."""
        self._parser = HttpRequestParser(self)
        if self._muted:  # not an upgrade after all, and a body follows: h2c asked with a POST
            framing = b"Content-Length: %d" % self._left
            if self._chunked:
                framing = b"Transfer-Encoding: chunked"
            self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
            self._muted = False
            self._reset()
        if rest:
            self._held.insert(0, rest)
            if not self._blocked and not self._queue:
                self._pump()

    # -- llhttp ---------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if not self._muted:
            self._url = b""
            self._state = HEAD

    def on_url(self, url: bytes) -> None:
        self._url = self._url + url if self._url else url

    def on_headers_complete(self) -> None:
        if self._muted:
            return
        parser = self._parser
        request = Request(parser.get_method(), self._url, self._fields[:])
        request.keep_alive = self._keep_alive = parser.should_keep_alive()
        self._check(request, parser.get_http_version())
        if self._nominated is not None or self._upgrade or request.method == b"CONNECT":
            self._check_options(request)
        self._reset()
        self._state = BODY
        self._overhead = -self._fed
        if self._blocked or self._queue:
            self._queue.append((HEAD, request))
        else:
            self._sink.on_request(request)

    def _check(self, request: Request, version: str) -> None:
        if version != "1.1":
            if version != "1.0":
                raise PeerError("bad_version", "expected HTTP/1.1 or HTTP/1.0", status=505)
            request.minor = 0
        host = self._host or b""
        if host != self._known_host or not host:
            guard.check_host(host, request.minor)
            self._known_host = host
        request.host = host
        if self._length is not None:
            request.length = guard.parse_length(self._length)
            request.has_length = True
        self._chunked = self._coding
        if self._coding:
            if request.has_length or not request.minor:
                raise PeerError("bad_framing", "Transfer-Encoding beside a length, or in 1.0")
            request.length = None
        self._left = request.length or 0
        target = request.target
        if target[:1] != b"/" or b"#" in target or len(target) > guard.MAX_LINE:
            guard.check_target(request.method, target, host)
        if len(self._fields) > guard.MAX_FIELDS * 4:
            raise PeerError("too_many_fields", "too many header fields", status=431)
        request.ours = self._ours
        request.is_usual = request.minor == 1 and request.keep_alive and request.method != b"HEAD"

    def _check_options(self, request: Request) -> None:
        """What Connection names goes. One plain upgrade is accepted; h2c is forgotten, as
        RFC 9113 §3.1 deprecates it, and so are odd ones."""
        if self._nominated is not None:
            request.fields = guard.drop_nominated(request.fields, self._nominated)
        if request.method == b"CONNECT":
            guard.check_target(request.method, request.target, request.host)
            request.upgrade = b"connect"
        elif self._upgrade and guard.wants_upgrade(self._upgrade, self._nominated):
            request.upgrade = self._upgrade
        if request.length != 0:
            if request.upgrade:
                raise PeerError("upgrade_with_body", "an upgrade with a body")
            self._muted = self._parser.should_upgrade()

    def on_body(self, data: bytes) -> None:
        if self._chunked:
            self._overhead -= len(data) + guard.CHUNK_ALLOWANCE
        else:
            self._left -= len(data)
        if self._blocked or self._queue:
            self._queue.append((BODY, data))
        else:
            self._sink.on_body(data)

    def on_message_complete(self) -> None:
        if self._muted:
            return
        self._state = IDLE
        self._left = 0
        trailers = self._take_trailers() if self._chunked else None
        if not self._keep_alive:
            self.ended = True
        if self._blocked or self._queue:
            self._queue.append((IDLE, trailers))
        else:
            self._blocked = True
            self._sink.on_end(trailers)
