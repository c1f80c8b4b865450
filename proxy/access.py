"""The access log: one line per request to stderr, off, text (Apache's form) or JSON.

Written in batches from memory by the loop, and thrown away when stderr does not take it: a
full disk or a stuck reader of the log never holds up a request.
"""

from __future__ import annotations

import json
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any, Final

from mesh.core.labels import H_REQUEST_ID
from mesh.runtime.lines import LineWriter
from proxy import guard
from proxy.exchange import Exchange

MAX_WAITING: Final = 256 * 1024  # bytes of lines not yet written
_LONGEST: Final = 512  # bytes of one field of a client


class AccessLog:
    """Lines on their way out."""

    __slots__ = ("_call_later", "_clock", "_dropped", "_json", "_lines", "_out", "_size", "is_on")

    def __init__(
        self,
        loop: AbstractEventLoop,
        form: str,
        *,
        fd: int = 2,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.is_on = form != "off"
        self._json = form == "json"
        self._call_later = loop.call_later
        self._clock = clock
        self._out = LineWriter(fd)
        self._lines: list[str] = []
        self._size = 0
        self._dropped = 0  # lines that found no room in memory

    @property
    def lost(self) -> int:
        """Lines that nobody took."""
        return self._dropped + self._out.lost

    def write(
        self, direction: str, exchange: Exchange, *, client: str, identity: str, seconds: float
    ) -> None:
        """Put one request on its way."""
        journey = exchange.journey
        request = (journey.original if journey is not None else None) or exchange.request
        entry: dict[str, Any] = {
            "direction": direction,
            "client": client,
            "client_id": identity,
            "method": _text(request.method),
            "uri": _text(request.target),
            "version": "HTTP/2" if request.is_http2 else f"HTTP/1.{request.minor}",
            "host": _text(request.host),
            "status": exchange.status,
            "reason": exchange.error,
            "request_bytes": exchange.request_bytes,
            "response_bytes": exchange.response_bytes,
            "seconds": round(seconds, 6),
            "request_id": _text(_id_of(exchange)),
        }
        now = self._clock()
        line = self._json_line(entry, now) if self._json else _text_line(entry, now)
        if self._size + len(line) > MAX_WAITING:
            self._dropped += 1
            return
        if not self._lines:
            self._call_later(0.2, self.flush)
        self._lines.append(line)
        self._size += len(line)

    def flush(self) -> None:
        """Hand all waiting lines to stderr. What it does not take at once is lost."""
        lines, self._lines, self._size = self._lines, [], 0
        if lines:
            self._out.write(lines)

    def _json_line(self, entry: dict[str, Any], now: float) -> str:
        entry["timestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        return json.dumps(entry) + "\n"


def _id_of(exchange: Exchange) -> bytes:
    """What `mesh explain --id` knows the request by."""
    journey = exchange.journey
    if journey is not None and journey.id:
        return journey.id
    return guard.get(exchange.request.fields, H_REQUEST_ID) or b""


def _text_line(entry: dict[str, Any], now: float) -> str:
    stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now))
    return (
        f"{entry['client']} {entry['client_id'] or '-'} - [{stamp}] "
        f'"{entry["method"]} {entry["uri"]} {entry["version"]}" '
        f"{entry['status']} {entry['response_bytes']} {entry['seconds']:.6f} "
        f"{entry['direction']} {entry['reason'] or '-'} {entry['request_id'] or '-'}\n"
    )


def _text(data: bytes) -> str:
    """Text of a client: capped, printable, without quotes or line ends."""
    text = data[:_LONGEST].decode("latin-1")
    return "".join(c if " " < c < "\x7f" and c not in '"\\' else f"\\x{ord(c):02x}" for c in text)
