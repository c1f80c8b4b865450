"""Servers that speak first, with the greetings that they really send, behind two proxies and
without a word of annotation: the client hears them soon, and at once when the port is known."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

import pytest

from mesh.core.model import Protocol
from proxy.opening import SILENCE, Opening
from tests.proxy.apps import Reader, Writer
from tests.proxy.world import Pod, World, on_loop

FIRST = 0.1  # seconds to the greeting where nothing is known of the port,
THEN = 0.02  # and after that
# Of so many the best counts, since a busy machine delays and never hurries a greeting; on one that
# is very busy it only has to be better than most on a port that is declared opaque.
TRIES = 10


@dataclass(frozen=True)
class Dialogue:
    """How a connection begins: the server's greeting, then the client's answer and its echo."""

    name: str
    greeting: bytes
    answer: bytes


def _mysql(number: int, body: bytes) -> bytes:
    """One packet of MySQL's protocol."""
    return len(body).to_bytes(3, "little") + bytes([number]) + body


MYSQL = Dialogue(
    "mysql",
    _mysql(
        0,
        b"\x0a8.0.36\x00\x2a\x00\x00\x00saltsalt\x00\xff\xff\x2d\x02\x00\xff\xdf\x15"
        + bytes(10)
        + b"saltsaltsalt\x00caching_sha2_password\x00",
    ),
    _mysql(1, b"\x8d\xa2\x3a\x00\x00\x00\x00\x40\x2d" + bytes(23) + b"root\x00\x00"),
)
SMTP = Dialogue("smtp", b"220 mail.example.org ESMTP Postfix (Debian/GNU)\r\n", b"EHLO web\r\n")
SSH = Dialogue(
    "ssh", b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n", b"SSH-2.0-OpenSSH_9.6\r\n\x00\x00\x04\xfc"
)


async def converse(world: World, dialogue: Dialogue) -> float:
    """One connection; the seconds until the greeting was there."""
    began = monotonic()
    reader, writer = await world.client.connect()
    assert await reader.readexactly(len(dialogue.greeting)) == dialogue.greeting
    seconds = monotonic() - began
    writer.write(dialogue.answer)
    assert await reader.readexactly(len(dialogue.answer)) == dialogue.answer
    writer.close()
    return seconds


@pytest.mark.parametrize("dialogue", [MYSQL, SMTP, SSH], ids=lambda dialogue: dialogue.name)
@on_loop
async def test_a_greeting_is_heard_soon_and_then_at_once(
    tmp_path: Path, dialogue: Dialogue
) -> None:
    async def greet(reader: Reader, writer: Writer) -> None:
        writer.write(dialogue.greeting)
        writer.write(await reader.readexactly(len(dialogue.answer)))

    first, then, declared = [], [], []
    async with World(tmp_path, connect_timeout=20.0) as world:
        await world.serve(greet)
        world.route()
        out = world.client.server.outbound
        for _ in range(TRIES):
            out.verdicts = type(out.verdicts)()  # nothing is known of the port
            first.append(await converse(world, dialogue))
            then.append(await converse(world, dialogue))
            world.route(protocol=Protocol.OPAQUE)
            declared.append(await converse(world, dialogue))
            world.route()
        metrics = world.client.server.metrics()

    busy = median(declared)
    assert min(first) < max(FIRST, SILENCE + busy)
    assert min(then) < max(THEN, busy)
    assert f'outbound_detect_total{{protocol="server-first"}} {TRIES}' in metrics
    series = "outbound_tcp_detect_duration_seconds"
    assert f'{series}_bucket{{protocol="server-first",le="0.02"}} 0\n' in metrics  # waits for 25 ms
    assert f'{series}_count{{protocol="server-first"}} {TRIES}' in metrics


class Hasty:
    """In front of a pod's proxy: to the first `times` who connect it says what the application
    says, as that proxy does when the hello of another is late."""

    def __init__(self, pod: Pod, times: int) -> None:
        self._pod = pod
        self._times = times
        self.count = 0

    async def start(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _serve(self, reader: Reader, writer: Writer) -> None:
        self.count += 1
        if self.count <= self._times:
            writer.write(SMTP.greeting)
            await reader.read()
        else:
            there, back = await self._pod.connect_inbound()
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        writer.close()


async def _copy(reader: Reader, writer: Writer) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()


@pytest.mark.parametrize(("times", "dials"), [(1, 2), (9, 2)], ids=["once", "always"])
@on_loop
async def test_a_hello_that_was_late_is_said_once_more(
    tmp_path: Path, times: int, dials: int
) -> None:
    async def greet(reader: Reader, writer: Writer) -> None:
        writer.write(SMTP.greeting)
        writer.write(await reader.readexactly(len(SMTP.answer)))

    async with World(tmp_path, connect_timeout=20.0) as world:
        await world.serve(greet)
        hasty = Hasty(world.server, times)
        front = await hasty.start()
        world.route(port=front.sockets[0].getsockname()[1])
        try:
            await converse(world, SMTP)
            heard = True
        except asyncio.IncompleteReadError as error:
            heard = error.partial != b""
        finally:
            front.close()

    assert heard is (times < dials)
    assert hasty.count == dials


@on_loop
async def test_a_client_that_spoke_while_the_proxy_was_held_up_was_not_silent() -> None:
    """As on a starved node: the time is over, and the bytes are there but not read."""
    loop = asyncio.get_running_loop()
    said: list[str] = []
    came, decided = asyncio.Event(), asyncio.Event()

    def done(verdict: str) -> None:
        said.append(verdict)
        decided.set()

    class First(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            opening = Opening(transport, loop, lambda: None)
            transport.set_protocol(opening)
            opening.decide(
                lambda data: "spoke" if data else None,
                done,
                otherwise="ended",
                silence=0.02,
                silent=lambda: said.append("silent"),
            )
            came.set()

    class Other(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            client.sendall(b"hello")
            time.sleep(0.05)  # nothing is read meanwhile

    server = await loop.create_server(First, "127.0.0.1", 0)
    ours, theirs = socket.socketpair()
    other, _ = await loop.create_connection(Other, sock=theirs)
    with socket.create_connection(server.sockets[0].getsockname()) as client, ours:
        await came.wait()
        ours.sendall(b"x")
        await decided.wait()
    other.close()
    server.close()

    assert said == ["spoke"]


@on_loop
async def test_both_sides_of_ssh_may_speak_at_once(tmp_path: Path) -> None:
    """As OpenSSH's client does: it does not wait for the server's line."""

    async def both(reader: Reader, writer: Writer) -> None:
        writer.write(SSH.greeting)
        assert await reader.readexactly(len(SSH.answer)) == SSH.answer
        writer.write(b"kex")

    async with World(tmp_path, connect_timeout=20.0) as world:
        await world.serve(both)
        world.route()
        for _ in range(3):
            reader, writer = await world.client.connect()
            writer.write(SSH.answer)
            assert await reader.readexactly(len(SSH.greeting) + 3) == SSH.greeting + b"kex"
            writer.close()
        metrics = world.client.server.metrics()

    assert 'outbound_detect_total{protocol="opaque"} 3' in metrics


@on_loop
async def test_verdicts_of_both_sides_and_their_latency_are_metrics(tmp_path: Path) -> None:
    async def end(reader: Reader, writer: Writer) -> None:
        await reader.read(1)
        writer.close()

    async with World(tmp_path, connect_timeout=20.0) as world:
        await world.serve(end)
        world.route()
        for data in (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b"\x00binary"):
            reader, writer = await world.client.connect()
            writer.write(data)
            async with asyncio.timeout(10):
                await reader.read()
            writer.close()
        told = {
            side: pod.server.metrics()
            for side, pod in (("outbound", world.client), ("inbound", world.server))
        }

    for side, verdicts in (("outbound", ("http1", "opaque")), ("inbound", ("mesh",))):
        for verdict in verdicts:
            assert f'{side}_detect_total{{protocol="{verdict}"}}' in told[side]
            series = f'{side}_tcp_detect_duration_seconds_bucket{{protocol="{verdict}",le="+Inf"}}'
            assert series in told[side]
