"""A client's and a server's pod with a fault between two of their hops, and requests that tell
how they ended and how long that took."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from time import monotonic
from typing import Final

from tests.faults.toxics import Link, Toxics
from tests.proxy.apps import Reader, Writer, read_head
from tests.proxy.world import Pod, World, parse_response

CONNECT: Final = 0.5  # seconds, of both proxies
REQUEST: Final = 1.0  # seconds, of the rule
BODY: Final = bytes(range(256)) * 256
WHOLE: Final = (b"", BODY)  # of a proxy's own answers, and of the application's
GET: Final = b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"


class Place(Enum):
    """Between which two the fault is."""

    APPLICATION = "before the application"
    PROXIES = "between the proxies"
    UNMESHED = "before a server without a proxy"


@dataclass(frozen=True)
class Ended:
    """How a request ended. `late` is by how much the loop itself ran behind a timer that was
    set together with the request: the machine's lateness, not the proxies'."""

    status: int  # 0: no response, or one that was cut visibly
    reason: str
    seconds: float
    late: float
    is_whole: bool


@contextlib.asynccontextmanager
async def faulty(folder: Path, toxics: Toxics, place: Place) -> AsyncIterator[tuple[World, Link]]:
    """Two pods and the link that faults are put on."""
    async with World(folder, server={"connect_timeout": CONNECT}, connect_timeout=CONNECT) as world:
        port = await world.serve(_application)
        if place is Place.PROXIES:
            link = toxics.link(world.server.inbound)
            world.route(timeout=REQUEST, port=link.port)
        else:
            link = toxics.link(port)
            world.server.application = ("127.0.0.1", link.port)
            world.route(timeout=REQUEST, meshed=place is Place.APPLICATION)
        yield world, link


@contextlib.asynccontextmanager
async def faulty_both(folder: Path, toxics: Toxics) -> AsyncIterator[tuple[World, Link, Link]]:
    """Two pods, the link between their proxies and the one before the application."""
    async with World(folder, server={"connect_timeout": 0.3}, connect_timeout=0.3) as world:
        between = toxics.link(world.server.inbound)
        before = toxics.link(await world.serve(_application))
        world.server.application = ("127.0.0.1", before.port)
        world.route(timeout=0.8, port=between.port)
        yield world, between, before


async def _application(reader: Reader, writer: Writer) -> None:
    while True:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
        await writer.drain()


async def ask(pod: Pod, *, timer: float) -> Ended:
    """One request on a connection of its own; `timer` is the timeout that it may run into."""
    loop = asyncio.get_running_loop()
    began, rang = monotonic(), list[float]()
    alarm = loop.call_later(timer, lambda: rang.append(monotonic()))
    raw, is_cut = b"", False
    try:
        reader, writer = await pod.connect()
        writer.write(GET)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                raw += data
        writer.close()
    except ConnectionError:
        is_cut = True
    seconds = monotonic() - began
    late = max(0.0, rang[0] - began - timer) if rang else 0.0
    alarm.cancel()
    status, headers, body = parse_response(raw)
    is_whole = not is_cut and len(body) == int(headers.get("content-length", -1))
    reason = headers.get("mesh-reason", "").partition(";")[0]
    return Ended(status if is_whole else 0, reason, seconds, late, is_whole and body in WHOLE)


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port where connecting never ends: its queue is full and nobody takes from it."""
    with socket.socket() as listener, contextlib.ExitStack() as fillers:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        while True:
            filler = fillers.enter_context(socket.socket())
            filler.settimeout(0.2)
            try:
                filler.connect(("127.0.0.1", port))
            except TimeoutError:
                break
        yield port
