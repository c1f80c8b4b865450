"""A wire between a client and a server that a test can cut, or freeze without a word."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Wire:
    """Forwards TCP from a port of its own. `cut` resets and refuses, `freeze` only holds."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self._target = port
        self._open = True
        self._flows = asyncio.Event()
        self._flows.set()
        self._held: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        self._open = False
        for writer in self._held:
            writer.transport.abort()

    def mend(self) -> None:
        self._open = True
        self._flows.set()

    def freeze(self) -> None:
        """What flows now stays open and silent; so does what comes later."""
        self._flows.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            writer.transport.abort()
            return
        theirs, far = await asyncio.open_connection("127.0.0.1", self._target)
        self._held |= {writer, far}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._copy(reader, far))
                group.create_task(self._copy(theirs, writer))
        except* OSError:
            pass
        finally:
            self._held -= {writer, far}
            writer.transport.abort()
            far.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1 << 16):
            await self._flows.wait()
            writer.write(piece)
            await writer.drain()
        raise ConnectionResetError  # ends the other direction as well


@contextlib.asynccontextmanager
async def wire_to(port: int) -> AsyncIterator[Wire]:
    wire = Wire(port)
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        wire.cut()
        server.close()
