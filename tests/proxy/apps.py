"""Applications for tests: raw handlers, as raw as the faults they play."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
Handler = Callable[[Reader, Writer], Awaitable[None]]


async def read_head(reader: Reader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def hello(reader: Reader, writer: Writer) -> None:
    """Answers each request with the head it got."""
    try:
        while True:
            head = await read_head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head))
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def answering(*answers: bytes, close: bool = False) -> Handler:
    """Gives one canned answer per request of a connection, then hangs up if told to."""

    async def handler(reader: Reader, writer: Writer) -> None:
        try:
            for answer in answers:
                await read_head(reader)
                writer.write(answer)
            if not close:
                await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    return handler


async def echo_body(reader: Reader, writer: Writer) -> None:
    """Sends a request's chunked or measured body back, chunked, as it comes."""
    head = (await read_head(reader)).lower()
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    if b"transfer-encoding: chunked" in head:
        while True:
            size = int(await reader.readuntil(b"\r\n"), 16)
            data = await reader.readexactly(size + 2)
            writer.write(b"%x\r\n%b" % (size, data))
            await writer.drain()
            if not size:
                break
    else:
        left = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        while left:
            data = await reader.read(min(left, 65536))
            left -= len(data)
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
    await writer.drain()
    writer.close()


async def read_chunked(reader: Reader) -> tuple[bytes, bytes]:
    """A chunked body and its trailer section."""
    body = b""
    while True:
        size = int(await reader.readuntil(b"\r\n"), 16)
        if not size:
            break
        body += await reader.readexactly(size)
        assert await reader.readexactly(2) == b"\r\n"
    trailers = b""
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        trailers += line
    return body, trailers
