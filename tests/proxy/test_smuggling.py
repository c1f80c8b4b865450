"""No request inside a request: what two proxies forward, read by a parser without mercy."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mesh.core.model import Protocol
from tests.proxy.apps import Reader, Writer
from tests.proxy.smuggling import ATTACKS, Attack
from tests.proxy.strict import Arrived, DesyncError, read
from tests.proxy.world import World, on_loop

QUIET = 0.02  # seconds in which more would have arrived, where nothing says that all has
TURNS = 100  # of the loop, in which what is on its way arrives, however busy the machine is


class Backend:
    """Answers each request that reads plainly; remembers all, and what did not."""

    def __init__(self) -> None:
        self.arrived: list[Arrived] = []
        self.desyncs: list[str] = []
        self.news = asyncio.Event()

    async def __call__(self, reader: Reader, writer: Writer) -> None:
        data = b""
        while piece := await reader.read(65_536):
            data += piece
            try:
                while True:
                    request, data = read(data)
                    if request is None:
                        break
                    self.arrived.append(request)
                    self.news.set()
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
                    writer.write(b"" if request.method == b"HEAD" else b"ok")
            except DesyncError as error:
                self.desyncs.append(str(error))
                break
        writer.close()


async def send(world: World, attack: Attack, backend: Backend, step: int) -> bytes:
    """What comes back until the connection ends, or all has arrived that was to arrive."""
    reader, writer = await world.client.connect()
    for at in range(0, len(attack.raw), step):
        writer.write(attack.raw[at : at + step])
        if step < 100:
            await asyncio.sleep(0)
    answer = b""
    try:
        async with asyncio.timeout(5 if attack.refused else QUIET):
            while data := await reader.read(65_536):
                answer += data
    except (ConnectionError, TimeoutError):
        pass
    if attack.arrives:
        async with asyncio.timeout(5):
            while len(backend.arrived) < len(attack.arrives):
                await backend.news.wait()
                backend.news.clear()
    writer.transport.abort()
    for _ in range(TURNS):
        await asyncio.sleep(0)
    return answer


def judge(attack: Attack, backend: Backend, answer: bytes) -> str | None:
    """What is wrong, if anything."""
    targets = tuple(request.target for request in backend.arrived)
    if backend.desyncs:
        return f"desync: {backend.desyncs}"
    if b"/smuggled" in targets and not attack.is_plain:
        return f"smuggled: {targets}"
    forged = [r for r in backend.arrived if b"forged" in [v for _, v in r.fields]]
    if forged:
        return f"forged: {forged[0].fields}"
    if attack.refused and (targets or answer[9:10] not in (b"4", b"5")):
        return f"not refused: {targets} {answer[:60]!r}"
    if attack.arrives is not None and targets != attack.arrives:
        return f"arrived {targets}, wanted {attack.arrives}: {answer[:200]!r}"
    return None


async def run(folder: Path, step: int) -> list[str]:
    wrong = []
    async with World(folder) as world:
        backend = Backend()
        await world.serve(backend)
        world.route(protocol=Protocol.HTTP1)
        for attack in ATTACKS:
            backend.arrived.clear()
            backend.desyncs.clear()
            try:
                answer = await send(world, attack, backend, step)
            except TimeoutError:
                answer = b"(nothing more arrived)"
            fault = judge(attack, backend, answer)
            if fault is not None:
                wrong.append(f"{attack.name}: {fault}")
    return wrong


@on_loop
async def test_nothing_is_smuggled_in_one_piece(tmp_path: Path) -> None:
    assert await run(tmp_path, 1 << 20) == []


@on_loop
async def test_nothing_is_smuggled_in_small_pieces(tmp_path: Path) -> None:
    assert await run(tmp_path, 64) == []


def test_there_are_as_many_messages_as_promised() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 200
