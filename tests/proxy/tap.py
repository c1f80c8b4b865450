"""Between a proxy and a server that is not ours: what the one said, and how the other read it.

Requests are read by the strict reader, answers by their framing. A server of these tests answers
`METHOD TARGET ...`, what it has understood; each answer is held against the request at its place.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.proxy import strict
from tests.proxy.strict import Arrived, DesyncError
from tests.proxy.world import parse_response

_BODYLESS: Final = (204, 304)
_BODYLESS_TO: Final = (b"HEAD", b"CONNECT")


class Talk:
    """One connection: requests and answers, in their order."""

    def __init__(self) -> None:
        self.requests: list[Arrived] = []
        self.answers: list[tuple[int, bytes]] = []
        self.faults: list[str] = []
        self._asked = b""
        self._said = b""

    def ask(self, data: bytes) -> None:
        self._asked += data
        try:
            while True:
                request, self._asked = strict.read(self._asked)
                if request is None:
                    return
                self.requests.append(request)
        except DesyncError as error:
            self.faults.append(f"desync: {error}")
            self._asked = b""

    def say(self, data: bytes) -> None:
        self._said += data
        while self._said:
            request = self._request_of(len(self.answers))
            answer, self._said = _read_answer(self._said, request)
            if answer is None:
                return
            if answer[0] < 200:
                continue
            self.answers.append(answer)
            self._compare(request, answer)

    def _request_of(self, number: int) -> Arrived | None:
        """What was asked at this place; its body may still be on its way."""
        if number < len(self.requests):
            return self.requests[number]
        return strict.read_head(self._asked) if number == len(self.requests) else None

    def _compare(self, request: Arrived | None, answer: tuple[int, bytes]) -> None:
        if request is None:
            self.faults.append(f"an answer to nothing: {answer}")
        elif answer[0] == 200 and request.method not in _BODYLESS_TO:
            read = [_path(word) for word in answer[1].split()[:2]]
            if read != [request.method, _path(request.target)]:
                self.faults.append(f"{request.method!r} {request.target!r} was read as {read}")


def _path(target: bytes) -> bytes:
    """Without scheme and authority, as servers tell it."""
    if b"://" in target:
        return b"/" + target.partition(b"://")[2].partition(b"/")[2]
    return target


def _read_answer(data: bytes, request: Arrived | None) -> tuple[tuple[int, bytes] | None, bytes]:
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        return None, data
    status, headers, _ = parse_response(head + end)
    is_bodyless = request is not None and request.method in _BODYLESS_TO
    if is_bodyless or status < 200 or status in _BODYLESS:
        return (status, b""), rest
    if headers.get("transfer-encoding") == "chunked":
        body, rest = strict.read_chunks(rest)
        return ((status, body), rest) if body is not None else (None, data)
    size = int(headers.get("content-length", "0"))
    return ((status, rest[:size]), rest[size:]) if len(rest) >= size else (None, data)


class Tap:
    """Listens where a proxy expects the application, in front of a server on a Unix socket."""

    def __init__(self, server: Path, *, is_http2: bool = False) -> None:
        self._server = server
        self._is_http2 = is_http2
        self._tasks: set[asyncio.Task[None]] = set()
        self.talks: list[Talk] = []

    async def start(self) -> tuple[str, int]:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        address: tuple[str, int] = self._listener.sockets[0].getsockname()[:2]
        return address

    async def stop(self) -> None:
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def take_faults(self) -> list[str]:
        """What went wrong since this was asked last."""
        faults = [fault for talk in self.talks for fault in talk.faults]
        for talk in self.talks:
            talk.faults.clear()
        return faults

    def arrived(self) -> int:
        """How many requests have come in all."""
        return sum(len(talk.requests) for talk in self.talks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = Talk()
        self.talks.append(talk)
        from_server, to_server = await asyncio.open_unix_connection(str(self._server))
        for source, target, hear in (
            (reader, to_server, None if self._is_http2 else talk.ask),
            (from_server, writer, None if self._is_http2 else talk.say),
        ):
            task = asyncio.create_task(self._carry(source, target, hear))
            self._tasks.add(task)

    async def _carry(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        hear: Callable[[bytes], None] | None,
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65_536):
                if hear is not None:
                    hear(data)
                target.write(data)
                await target.drain()
        target.close()
