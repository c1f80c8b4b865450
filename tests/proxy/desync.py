"""Attacks on a real server behind our inbound side, over connections that are used again.

After each attack another client asks for something of its own: it must get that, and no answer
to what an attack has hidden.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from mesh.core import labels
from mesh.core.model import Inbound, InboundPort, Protocol
from mesh.runtime import tls
from proxy.http2_frames import PREFACE, SETTINGS, frame
from tests.proxy.downgrades import Frames
from tests.proxy.frame_scripts import Script
from tests.proxy.h2_ends import End, head
from tests.proxy.servers import Running
from tests.proxy.smuggling import Attack
from tests.proxy.tap import Tap
from tests.proxy.world import World, parse_response

QUIET: Final = 0.02  # seconds in which more would have come
PATIENCE: Final = 5.0  # seconds for an answer that has to come, on a busy machine


async def before(world: World, tap: Tap, protocol: Protocol) -> None:
    """Put the tap where the world's server has its application."""
    world.server.application = await tap.start()
    ports = (InboundPort(world.server.application[1], protocol),)
    world.server.discovery.update(inbound=Inbound(ports=ports))


async def find_desyncs(folder: Path, server: Path, attacks: Iterable[Attack]) -> list[str]:
    """What one server and the strict reader did not understand alike; empty if nothing."""
    wrong: list[str] = []
    tap = Tap(server)
    async with World(folder) as world:
        await before(world, tap, Protocol.HTTP1)
        for number, attack in enumerate(attacks):
            asked = tap.arrived()
            answers = await _attack(world, attack)
            probed = await _probe(world, number)
            faults = tap.take_faults()
            if not probed:
                faults.append("the next client did not get its answer")
            if attack.refused and tap.arrived() != asked + 1:
                faults.append("something arrived of what must be refused")
            if b"/smuggled" in answers and not attack.is_plain:
                faults.append(f"answered what was hidden: {answers!r}")
            wrong += [f"{attack.name}: {fault}" for fault in faults]
        reused = len(tap.talks) < tap.arrived() // 2
        await tap.stop()
    if not reused:
        wrong.append("connections to the server were not used again")
    return wrong


async def find_frame_desyncs(folder: Path, server: Running, scripts: Iterable[Script]) -> list[str]:
    """What a server of HTTP/2 served besides what a script should bring about."""
    wrong: list[str] = []
    tap = Tap(server.http2, is_http2=True)
    async with World(folder) as world:
        await before(world, tap, Protocol.HTTP2)
        for number, script in enumerate(scripts):
            await _say(await world.server.connect_inbound(), script.frames)
            client = End(*await world.server.connect_inbound(), client=True)
            _, answer = client.ask(head(f"/probe-{number}"))
            async with asyncio.timeout(PATIENCE):
                await answer.ended.wait()
            await client.close()
            if bytes(answer.body).split()[:2] != [b"GET", b"/probe-%d" % number]:
                wrong.append(f"{script.name}: the next client got {answer}")
            expected = [f"{method.decode()} {path.decode()}" for method, path, _ in script.served]
            for line in await server.served(f"200 GET /probe-{number}"):
                if line in expected:
                    expected.remove(line)
                elif script.ends is not None and line.endswith(" /"):
                    continue  # came before what ended the connection
                elif line != f"GET /probe-{number}":
                    wrong.append(f"{script.name}: served {line}")
        await tap.stop()
    return wrong


async def find_downgrade_desyncs(
    folder: Path, server: Path, downgrades: Iterable[Frames]
) -> list[str]:
    """What a server of HTTP/1 and the strict reader did not understand alike of what a peer's
    proxy said in HTTP/2."""
    wrong: list[str] = []
    tap = Tap(server)
    async with World(folder) as world:
        await before(world, tap, Protocol.HTTP1)
        for number, (name, frames) in enumerate(downgrades):
            context = world.client.credentials.client_context((labels.ALPN_HTTP2,))
            peer = await asyncio.open_connection(
                "127.0.0.1",
                world.server.inbound,
                ssl=context,
                server_hostname=tls.server_name(world.server.credentials.identity),
            )
            await _say(peer, frames)
            if not await _probe(world, number):
                wrong.append(f"{name}: the next client did not get its answer")
            wrong += [f"{name}: {fault}" for fault in tap.take_faults()]
        for request in [request for talk in tap.talks for request in talk.requests]:
            if request.target == b"/smuggled" or b"forged" in [v for _, v in request.fields]:
                wrong.append(f"arrived: {request}")
        await tap.stop()
    return wrong


async def _say(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], frames: Sequence[bytes]
) -> None:
    """Frames on a connection of their own, which ends when nothing more comes back."""
    reader, writer = connection
    writer.write(PREFACE + frame(SETTINGS, 0, 0, b"") + b"".join(frames))
    with contextlib.suppress(ConnectionError, TimeoutError):
        while True:
            async with asyncio.timeout(QUIET):
                if not await reader.read(65_536):
                    break
    writer.transport.abort()


async def _attack(world: World, attack: Attack) -> bytes:
    """All that comes back, until nothing more does."""
    reader, writer = await world.server.connect_inbound()
    writer.write(attack.raw)
    answers = b""
    wait = PATIENCE
    if not (attack.refused or attack.arrives):
        wait = QUIET  # perhaps nobody answers
    try:
        while True:
            async with asyncio.timeout(wait):
                data = await reader.read(65_536)
            if not data:
                break
            answers += data
            wait = QUIET
    except (ConnectionError, TimeoutError):
        pass
    writer.transport.abort()
    return answers


async def _probe(world: World, number: int) -> bool:
    """Another client's request, mostly over the connection that the attack has used."""
    reader, writer = await world.server.connect_inbound()
    target = b"/probe-%d" % number
    writer.write(b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % target)
    async with asyncio.timeout(PATIENCE):
        raw = await reader.read()
    writer.close()
    status, _, body = parse_response(raw)
    return status == 200 and body.split()[:2] == [b"GET", target]
