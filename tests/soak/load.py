"""The clients of a soak: requests that must succeed, and clients that behave badly.

Every action ends in a word that is counted; one that begins with `!` should not have happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Final

from tests.proxy.apps import Reader, Writer, read_head
from tests.proxy.h2_ends import GRPC, End, Message, head
from tests.soak.apps import BANNER, BIG
from tests.soak.plan import Kind, source

Action = Callable[[], Coroutine[Any, Any, str]]
PATIENCE: Final = 30.0  # seconds that one action may take: longer is a hung one
BODY: Final = b"x" * 5000
OK_PATHS: Final = ("/ok", "/ok", "/ok", "/slow", "/chunks", "/big")


class Load:
    """Workers of all kinds against the outbound port of the client's proxy."""

    def __init__(self, port: int, context: ssl.SSLContext, *, workers: int, pause: float) -> None:
        """`pause`: mean seconds between two actions of one worker."""
        self._port = port
        self._context = context
        self._workers = workers
        self._pause = pause
        self._dice = random.Random(2)
        self._tasks: list[asyncio.Task[None]] = []
        self.words: Counter[str] = Counter()

    def start(self) -> None:
        actions: list[Action] = [self._http1, self._http1_badly, self._http2, self._websocket]
        actions += [self._tcp, self._tls, self._mail]
        for action in actions:
            for _ in range(self._workers):
                self._tasks.append(asyncio.ensure_future(self._repeat(action)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def unexpected(self) -> dict[str, int]:
        return {word: count for word, count in self.words.items() if word.startswith("!")}

    async def _repeat(self, action: Action) -> None:
        name = action.__name__.strip("_")
        while True:
            try:
                async with asyncio.timeout(PATIENCE):
                    word = await action()
            except TimeoutError:
                word = "!hung"
            except (OSError, asyncio.IncompleteReadError) as error:
                word = f"!{type(error).__name__}"
            except Exception as error:
                word = f"!{error!r:.80}"
            mark = "!" if word.startswith("!") else ""
            self.words[f"{mark}{name} {word.lstrip('!')}"] += 1
            await asyncio.sleep(self._dice.expovariate(1 / self._pause))

    async def _connect(self, kind: Kind, context: ssl.SSLContext | None = None) -> _Link:
        name = "own.example.test" if context is not None else None
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            self._port,
            local_addr=(source(kind), 0),
            ssl=context,
            server_hostname=name,
        )
        return _Link(reader, writer)

    # -- HTTP/1 ------------------------------------------------------------------------------

    async def _http1(self) -> str:
        """Some requests on one connection, all of which must be answered whole."""
        async with await self._connect(Kind.HTTP1) as (reader, writer):
            for _ in range(self._dice.randrange(1, 15)):
                path = self._dice.choice(OK_PATHS)
                writer.write(self._request(path))
                status, size, reason = await _response(reader)
                if status != 200 or (path == "/big" and size != BIG):
                    return f"!{path} {status} {size} {reason}"
        return "ok"

    def _request(self, path: str) -> bytes:
        start = b" %b HTTP/1.1\r\nHost: web\r\nX-Drop: me\r\n" % path.encode()
        chosen = self._dice.randrange(4)
        if chosen == 0:
            return b"POST" + start + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
        if chosen == 1:
            chunk = b"%x\r\n%b\r\n" % (len(BODY), BODY)
            return b"PUT" + start + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 3 + b"0\r\n\r\n"
        return b"GET" + start + b"\r\n"

    async def _http1_badly(self) -> str:
        """Servers that fail and clients that give up; what is answered must say so."""
        path = self._dice.choice(("/fail", "/reset", "/cut", "/close", "/hang", "/big", "/half"))
        async with await self._connect(Kind.HTTP1) as (reader, writer):
            if path == "/half":
                writer.write(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 100\r\n\r\nhalf")
                await asyncio.sleep(0.05)
            elif path in ("/hang", "/big"):
                writer.write(self._request(path))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await reader.readexactly(5000)
            else:
                writer.write(self._request(path))
                try:
                    status, _, reason = await _response(reader)
                except (asyncio.IncompleteReadError, ConnectionError):
                    return f"{path} cut"
                expected = {"/fail": (503, 502), "/reset": (502,), "/cut": (), "/close": (200,)}
                return path if status in expected[path] else f"!{path} {status} {reason}"
        return f"{path} left"

    async def _websocket(self) -> str:
        async with await self._connect(Kind.HTTP1) as (reader, writer):
            writer.write(
                b"GET /ws HTTP/1.1\r\nHost: web\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            if b" 101 " not in await read_head(reader):
                return "!no upgrade"
            return await self._talk(reader, writer, ends=False)

    # -- bytes -------------------------------------------------------------------------------

    async def _tcp(self) -> str:
        async with await self._connect(Kind.TCP) as (reader, writer):
            return await self._talk(reader, writer, ends=True)

    async def _tls(self) -> str:
        async with await self._connect(Kind.TLS, self._context) as (reader, writer):
            return await self._talk(reader, writer, ends=False)

    async def _talk(self, reader: Reader, writer: Writer, *, ends: bool) -> str:
        """Send and expect the same; leave in one of three ways."""
        for _ in range(self._dice.randrange(1, 6)):
            data = b"\x01" + self._dice.randbytes(self._dice.choice((10, 2000, 40_000)))
            writer.write(data)
            if await reader.readexactly(len(data)) != data:
                return "!other bytes"
        way = self._dice.choice(("close", "abort", "end"))
        if way == "abort":
            writer.transport.abort()
        elif way == "end" and ends:
            writer.write_eof()
            if await reader.read() != b"":
                return "!more bytes"
        return way

    async def _mail(self) -> str:
        async with await self._connect(Kind.MAIL) as (reader, writer):
            if await reader.readline() != BANNER:
                return "!no banner"
            writer.write(b"HELO\r\n")
            return "ok" if await reader.readline() == b"250 HELO\r\n" else "!no answer"

    # -- HTTP/2 ------------------------------------------------------------------------------

    async def _http2(self) -> str:
        """Calls at once on one connection; some are given up, and sometimes all of them."""
        async with await self._connect(Kind.HTTP2) as (reader, writer):
            end = End(reader, writer, client=True)
            try:
                return await self._calls(end)
            finally:
                await end.close()

    async def _calls(self, end: End) -> str:
        calls = []
        for _ in range(self._dice.randrange(1, 12)):
            path = self._dice.choice(("/ok", "/ok", "/slow", "/big", "/hang", "/fail"))
            number, message = end.ask(head(path, *GRPC, method="POST"), end=False)
            await end.send(number, b"\0\0\0\0\5hello", end=True)
            calls.append((path, number, message))
        if self._dice.random() < 0.2:
            return "aborted"
        for path, number, message in calls:
            if path == "/hang":
                end.h2.reset_stream(number, 8)
                end.flush()
            elif (problem := await _call_problem(path, message)) is not None:
                return problem
        return "ok"


async def _call_problem(path: str, message: Message) -> str | None:
    """What is wrong with the answer of a call."""
    await message.ended.wait()
    code = dict(message.trailers or message.headers).get("grpc-status")
    size = 60_000 if path == "/big" else 10
    if message.reset is not None or code != ("14" if path == "/fail" else "0"):
        return f"!{path} reset={message.reset} code={code}"
    return None if len(message.body) == size else f"!{path} {len(message.body)} bytes"


class _Link:
    """A connection that is closed when its block ends."""

    def __init__(self, reader: Reader, writer: Writer) -> None:
        self._ends = reader, writer

    async def __aenter__(self) -> tuple[Reader, Writer]:
        return self._ends

    async def __aexit__(self, *exc: object) -> None:
        self._ends[1].close()


async def _response(reader: Reader) -> tuple[int, int, str]:
    """Status, size of the body and the proxy's reason of one response. Raises when it is cut."""
    head = (await read_head(reader)).lower()
    reason = head.partition(b"mesh-reason: ")[2].partition(b"\r\n")[0].decode()
    status = int(head.split(b" ")[1])
    size = 0
    if b"transfer-encoding: chunked" in head:
        while chunk := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(chunk + 2)
            size += chunk
        await reader.readexactly(2)
    else:
        size = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(size)
    return status, size, reason
