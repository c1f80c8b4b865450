"""The applications of a soak: each answers as its path says, or echoes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

import h2.exceptions

from tests.proxy.apps import Reader, Writer, read_head
from tests.proxy.h2_ends import End, Message
from tests.soak.plan import Kind

BIG: Final = 1024 * 1024
SLOW_SECONDS: Final = 0.2
BANNER: Final = b"220 mail ready\r\n"
_tasks: set[asyncio.Task[None]] = set()  # answers under way


class Applications:
    """One listening application per kind."""

    def __init__(self, context: ssl.SSLContext) -> None:
        """`context`: of the application that speaks TLS itself."""
        self._context = context
        self._servers: list[asyncio.AbstractServer] = []
        self.ports: dict[str, int] = {}

    async def start(self) -> None:
        for kind, handler in _HANDLERS.items():
            server = await asyncio.start_server(
                _guarded(handler),
                "127.0.0.1",
                0,
                ssl=self._context if kind is Kind.TLS else None,
            )
            self._servers.append(server)
            self.ports[kind.name] = server.sockets[0].getsockname()[1]

    def close(self) -> None:
        for server in self._servers:
            server.close()


Handler = Callable[[Reader, Writer], Awaitable[None]]


def _guarded(handler: Handler) -> Handler:
    """Lost connections are part of the load."""

    async def handle(reader: Reader, writer: Writer) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await handler(reader, writer)
        with contextlib.suppress(OSError):
            writer.close()

    return handle


async def _http1(reader: Reader, writer: Writer) -> None:
    while True:
        head = (await read_head(reader)).lower()
        size = await _read_body(head, reader)
        path = head.split(b" ")[1]
        if b"upgrade: websocket" in head:
            writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\n"
                b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
            )
            await _echo(reader, writer)
            return
        if await _answer(path, size, writer):
            return


async def _answer(path: bytes, size: int, writer: Writer) -> bool:
    """Answer one request; True: and hang up."""
    if path == b"/slow":
        await asyncio.sleep(SLOW_SECONDS)
    elif path == b"/hang":
        await asyncio.sleep(60)
        return True
    elif path == b"/reset":
        writer.transport.abort()
        return True
    elif path == b"/cut":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
        return True
    elif path == b"/chunks":
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(20):
            writer.write(b"400\r\n" + bytes(1024) + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        return False
    body = bytes(BIG) if path == b"/big" else b"%d" % size
    code = 503 if path == b"/fail" else 200
    last = b"Connection: close\r\n" if path == b"/close" else b""
    writer.write(b"HTTP/1.1 %d X\r\n%bContent-Length: %d\r\n\r\n" % (code, last, len(body)))
    writer.write(body)
    await writer.drain()
    return path == b"/close"


async def _read_body(head: bytes, reader: Reader) -> int:
    total = 0
    if b"transfer-encoding: chunked" in head:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(size + 2)
            total += size
        await reader.readexactly(2)
    elif b"content-length: " in head:
        total = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(total)
    return total


async def _echo(reader: Reader, writer: Writer) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.write_eof() if writer.can_write_eof() else writer.close()


async def _mail(reader: Reader, writer: Writer) -> None:
    writer.write(BANNER)
    while line := await reader.readline():
        writer.write(b"250 " + line)


async def _http2(reader: Reader, writer: Writer) -> None:
    end = End(reader, writer, client=False)
    end.on_request = _answer_http2
    with contextlib.suppress(asyncio.CancelledError):
        await end.task


def _answer_http2(end: End, number: int, message: Message) -> None:
    """Answer at once; `/hang` never, `/fail` with a failure, others as gRPC does."""
    loop = asyncio.get_running_loop()
    path = message.get(":path")
    loop.call_later(5.0, end.messages.pop, number, None)
    if path == "/hang":
        return
    delay = SLOW_SECONDS if path == "/slow" else 0.0
    task = loop.create_task(_finish_http2(end, number, path, delay))
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


async def _finish_http2(end: End, number: int, path: str, delay: float) -> None:
    await asyncio.sleep(delay)
    body = bytes(60_000) if path == "/big" else b"\0\0\0\0\5hello"
    code = "14" if path == "/fail" else "0"
    # What a client may do meanwhile: reset the stream, or hang up.
    with contextlib.suppress(h2.exceptions.ProtocolError, KeyError, TimeoutError):
        end.h2.send_headers(number, [(":status", "200"), ("content-type", "application/grpc")])
        async with asyncio.timeout(5.0):
            await end.send(number, body)
        end.h2.send_headers(number, [("grpc-status", code)], end_stream=True)
        end.flush()


_HANDLERS: Final[dict[Kind, Handler]] = {
    Kind.HTTP1: _http1,
    Kind.HTTP2: _http2,
    Kind.TCP: _echo,
    Kind.TLS: _echo,
    Kind.MAIL: _mail,
}
