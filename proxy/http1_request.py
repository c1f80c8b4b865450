"""Bytes of a client -> requests: llhttp with the wire guard around it. Pure."""

from __future__ import annotations

from typing import Final

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from mesh.core.errors import PeerError
from proxy import guard
from proxy.http1 import BODY, HEAD, IDLE, PIECE, STRIP, HeadReader, Request, Sink

EARLY: Final = 1024  # bytes of a first head that are parsed anew when more of it comes
_NOBODY: Final = Sink()


class RequestReader(HeadReader):
    """Bytes of a client -> requests, strictly one after the other.

    A request without a body (`length` 0) ends with its head, others with `on_end`. After that
    the next request waits, parsed or not, until `next()`: a sink never sees two at once, and
    pipelined bytes are bounded by one piece plus what was read.

    A client that has sent only the beginning of its first head holds these bytes and no parser,
    which is a kilobyte: they are checked as they come, and parsed anew with those that follow.
    """

    __slots__ = (
        "_blocked",
        "_bodyless",
        "_chunked",
        "_detour",
        "_feeding",
        "_held",
        "_is_first",
        "_keep_alive",
        "_known_host",
        "_left",
        "_muted",
        "_overhead",
        "_parser",
        "_queue",
        "_sink",
        "_start",
        "_tunnel",
        "_url",
    )

    def __init__(self, sink: Sink, trust: int = STRIP) -> None:
        super().__init__(trust)
        self._sink = sink
        self._parser: HttpRequestParser | None = None  # before the first byte, and see `_forget`
        self._start = b""  # of the first head, as long as there is no parser
        self._is_first = True  # no head has been complete
        self._left = 0  # bytes of a body of known length still to come
        self._chunked = False
        self._blocked = False  # a request is complete and not yet answered
        self._bodyless = True
        self._detour = False  # bytes may not go straight into the parser
        self._feeding = False
        self._held: list[bytes] = []
        self._queue: list[tuple[int, object]] = []  # an empty deque is 14 times as large
        self._known_host = b" "  # the last one found good; never empty
        self._url = b""
        self._muted = False
        self._overhead = 0
        self._tunnel = False
        self._keep_alive = True

    @property
    def is_idle(self) -> bool:
        """Whether no byte of a request is waiting or half-read."""
        return self._state == IDLE and not self._held and not self._queue

    @property
    def ended(self) -> bool:
        """Whether nothing behind the current request will be read."""
        return not self._keep_alive

    @property
    def _must_wait(self) -> bool:
        """Whether bytes may not go straight into the parser."""
        return self._blocked or self._detour

    @property
    def in_head(self) -> bool:
        return self._state == HEAD

    def close(self) -> None:
        """The connection is gone: tell nobody any more, and let go of the parser, which knows
        its reader."""
        self._sink = _NOBODY
        self._parser = None

    def feed(self, data: bytes) -> bool:
        """Parse, calling the sink. Says whether bytes had to be held back: read no more.

        Raises PeerError with the status to answer.
        """
        size = len(data)
        if self._must_wait or (size > PIECE and self._left < size):
            return self._hold(data)
        self._parse(data)
        if self._detour:
            self._pump()
            return self._detour
        return False

    def next(self) -> bool:
        """The response to the last request is out: let the next one through. Says whether
        bytes are still held back."""
        self._blocked = False
        if self._detour and not self._feeding:
            self._pump()
        return self._detour

    def tunnel_now(self) -> bytes:
        """The upgrade was accepted: what came after the request, and raw bytes from here."""
        self._tunnel = self._detour = True
        held = b"".join(self._held)
        self._held.clear()
        return held

    @property
    def has_held(self) -> bool:
        """Whether bytes wait behind the current request, unparsed."""
        return bool(self._held)

    def held_bytes(self) -> int:
        return sum(map(len, self._held))

    def _hold(self, data: bytes) -> bool:
        if self._tunnel:
            self._sink.on_tunnel(data)
            return False
        if self._keep_alive:
            self._held.append(data)
            self._detour = True
            if not self._feeding:
                self._pump()
        return self._detour  # else nothing behind the last request is read

    def _pump(self) -> None:
        """Tell and parse what waits, until a request has to be answered first."""
        while not self._blocked:
            if self._queue:
                self._emit(*self._queue.pop(0))
            elif self._held:
                data = self._held.pop(0)
                if len(data) > PIECE and self._left < len(data):
                    self._held.insert(0, data[PIECE:])
                    data = data[:PIECE]
                self._parse(data)
            else:
                self._detour = self._tunnel
                return

    def _emit(self, kind: int, value: object) -> None:
        sink = self._sink
        if kind == HEAD:
            self._blocked = value.length == 0  # type: ignore[attr-defined]
            sink.on_request(value)  # type: ignore[arg-type]
        elif kind == BODY:
            sink.on_body(value)  # type: ignore[arg-type]
        else:
            self._blocked = True
            sink.on_end(value)  # type: ignore[arg-type]

    def _parse(self, data: bytes) -> None:
        parser, is_fresh = self._parser, False
        if parser is None:
            parser = self._parser = HttpRequestParser(self)
            data, is_fresh = self._start + data, True
        self._feeding = True
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._interrupted(error, data)
        self._feeding = False
        if not self._blocked:
            self._account(len(data))
            if is_fresh and self._is_first and self._state == HEAD and len(data) < EARLY:
                self._forget(data)

    def _forget(self, start: bytes) -> None:
        """Only this much of the first head is here, without a fault: keep nothing else."""
        self._parser = None
        self._start = start
        self._url = b""
        self._head = 0
        self._reset()

    def _interrupted(self, error: Exception, data: bytes) -> None:
        """llhttp stopped: at an upgrade, at an error of ours or of the client."""
        self._feeding = False
        if isinstance(error, HttpParserUpgrade):
            self._stopped(data[error.args[0] :])
        elif isinstance(error, HttpParserCallbackError):
            raise (error.__context__ or error) from None
        elif self._state != IDLE or self._keep_alive:
            raise guard.parse_error(error) from error
        # else: bytes after a request that said close, which nobody reads

    def _account(self, size: int) -> None:
        """A message is unfinished: hold its head and its chunk framing to their limits."""
        if self._state == HEAD:
            self._head += size
            if self._head > guard.MAX_HEAD:
                raise PeerError("head_too_large", "request head too large", status=431)
        elif self._state == BODY and self._chunked:
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
            self._state = BODY
            self._url = b""
            self._reset()
        if rest:
            self._held.insert(0, rest)
            self._detour = True

    # -- llhttp ---------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._state = HEAD

    def on_url(self, url: bytes) -> None:
        self._url = self._url + url if self._url else url

    def on_headers_complete(self) -> None:
        parser = self._parser
        if self._muted or parser is None:
            return
        self._is_first = False
        method, target = parser.get_method(), self._url
        request = Request(method, target, self._fields[:])
        request.keep_alive = self._keep_alive = parser.should_keep_alive()
        request.host = self._host or b""
        if not request.keep_alive or self._has_persistence or self._is_odd:
            self._check_version(request, parser.get_http_version())
            self._has_persistence = False
        # else it is 1.1: only there does a client that says nothing keep its connection
        if request.host != self._known_host:
            self._check_host(request)
        if self._is_odd or self._length is not None:
            self._check_body(request)
        else:
            self._chunked = False
        if method != b"GET" and method != b"POST":
            self._check_method(request)
        elif target[:1] != b"/" or guard.HASH in target or len(target) > guard.MAX_LINE:
            guard.check_target(method, target, request.host)
        if not request.keep_alive:
            request.is_usual = False
        if self._head and max(map(len, request.fields), default=0) > guard.MAX_LINE:
            raise PeerError("field_too_long", "header field too long", status=431)
        if len(request.fields) > guard.MAX_FIELDS * 4:
            raise PeerError("too_many_fields", "too many header fields", status=431)
        self._fields.clear()
        self._host = None
        self._url = b""
        self._head = 0
        self._state = BODY
        self._bodyless = request.length == 0
        if self._detour or self._blocked:
            self._detour = True
            self._queue.append((HEAD, request))
        else:
            self._blocked = self._bodyless
            self._sink.on_request(request)

    def _check_method(self, request: Request) -> None:
        guard.check_target(request.method, request.target, request.host)
        if request.method == b"HEAD":
            request.is_usual = False
        elif request.method == b"CONNECT":
            request.is_usual = False
            request.upgrade = b"connect"
            if request.length != 0:
                raise PeerError("upgrade_with_body", "a tunnel with a body")

    def _check_version(self, request: Request, version: str) -> None:
        if version != "1.1":
            if version != "1.0":
                raise PeerError("bad_version", "expected HTTP/1.1 or HTTP/1.0", status=505)
            request.minor = 0
            request.is_usual = False

    def _check_host(self, request: Request) -> None:
        stripped = request.host.rstrip(b" \t")
        guard.check_host(stripped, request.minor)
        self._known_host = stripped if stripped and stripped == request.host else b" "
        request.host = stripped

    def _check_body(self, request: Request) -> None:
        """Framing and the rarer fields: the length, chunks, Connection, upgrades, ours."""
        had_length = self._length is not None
        if self._length is not None:
            request.length = self._left = guard.parse_length(self._length)
            self._length = None
        self._chunked = self._coding
        if not self._is_odd:
            return
        if self._coding:
            if had_length or not request.minor:
                raise PeerError("bad_framing", "Transfer-Encoding beside a length, or in 1.0")
            request.length = None
            self._overhead = -PIECE
        if self._nominated is not None:
            request.fields = guard.drop_nominated(request.fields, self._nominated)
        self._check_upgrade(request)
        request.ours = self._ours
        self._reset()

    def _check_upgrade(self, request: Request) -> None:
        """One plain upgrade is accepted; h2c is forgotten, as RFC 9113 §3.1 deprecates it,
        and so are odd ones."""
        if self._upgrade and guard.wants_upgrade(self._upgrade, self._nominated):
            request.upgrade = self._upgrade
        if request.length != 0:
            if request.upgrade:
                raise PeerError("upgrade_with_body", "an upgrade with a body")
            self._muted = self._parser is not None and self._parser.should_upgrade()

    def on_body(self, data: bytes) -> None:
        if self._chunked:
            self._overhead -= len(data) + guard.CHUNK_ALLOWANCE
        else:
            self._left -= len(data)
        if self._queue or self._blocked:
            self._queue.append((BODY, data))
        else:
            self._sink.on_body(data)

    def on_message_complete(self) -> None:
        if self._muted:
            return
        self._state = IDLE
        if self._bodyless:
            return  # told with the head
        trailers = self._take_trailers() if self._chunked else None
        if self._queue or self._blocked:
            self._queue.append((IDLE, trailers))
        else:
            self._blocked = True
            self._sink.on_end(trailers)
