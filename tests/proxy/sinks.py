"""Sinks that remember, for tests of the framing cores, whole and byte by byte."""

from __future__ import annotations

from typing import Any

from mesh.core.errors import PeerError
from proxy import http1
from proxy.guard import Fields
from proxy.http1 import STRIP, Request, Response
from proxy.http1_request import RequestReader
from proxy.http1_response import ResponseReader


class Message:
    """One message as its sink saw it."""

    def __init__(self, head: Any) -> None:
        self.head = head
        self.body = b""
        self.trailers: Fields | None = None
        self.ended = False


class Sink(http1.Sink):
    """Collects messages; `answers` lets the next request through at once."""

    def __init__(self, *, answers: bool = True) -> None:
        self.messages: list[Message] = []
        self.tunnel = b""
        self.reader: Any = None
        self._answers = answers

    def on_request(self, request: Request) -> None:
        self.messages.append(Message(request))
        if request.length == 0:
            self.on_end(None)

    def on_response(self, response: Response) -> None:
        self.messages.append(Message(response))

    def on_body(self, data: bytes) -> None:
        self.messages[-1].body += data

    def on_end(self, trailers: Fields | None) -> None:
        self.messages[-1].trailers = trailers
        self.messages[-1].ended = True
        is_tunnel = bool(self.messages[-1].head.upgrade)
        if self._answers and isinstance(self.reader, RequestReader) and not is_tunnel:
            self.reader.next()

    def on_tunnel(self, data: bytes) -> None:
        self.tunnel += data


def read_requests(
    data: bytes, *, step: int = 0, trust: int = STRIP, into: Sink | None = None
) -> Sink:
    """Feed `data`, whole or in pieces of `step` bytes. Raises PeerError."""
    sink = into or Sink()
    sink.reader = RequestReader(sink, trust)
    for i in range(0, len(data), step or len(data) or 1):
        sink.reader.feed(data[i : i + (step or len(data))])
    return sink


def refusal(data: bytes, *, step: int = 0) -> PeerError | None:
    """Why `data` is refused, or None."""
    try:
        read_requests(data, step=step)
    except PeerError as error:
        return error
    return None


def read_responses(
    data: bytes, *methods: bytes, step: int = 0, ended: bool = False, trust: int = STRIP
) -> Sink:
    """Feed the answers to `methods` (one after the other). Raises PeerError."""
    sink = Sink()
    reader = sink.reader = ResponseReader(trust)
    waiting = list(methods or (b"GET",))
    reader.expect(waiting.pop(0), sink)
    for i in range(0, len(data), step or len(data) or 1):
        if reader.sink is None and waiting:
            reader.expect(waiting.pop(0), sink)
        reader.feed(data[i : i + (step or len(data))])
    if ended:
        reader.eof()
    return sink


def names(fields: Fields) -> list[bytes]:
    return fields[0::4]


def pairs(fields: Fields | None) -> list[tuple[bytes, bytes]]:
    return list(zip(fields[0::4], fields[2::4], strict=True)) if fields else []
