"""Each fault of a network or a server gets its status, in time, and never half a response."""

from __future__ import annotations

import asyncio
import resource
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from mesh.core.model import Protocol
from tests.faults.stage import CONNECT, REQUEST, Ended, Place, ask, black_hole, faulty
from tests.faults.toxics import Toxics
from tests.proxy.world import World, on_loop

AT_ONCE: Final = 5  # requests that meet each fault together
SLACK: Final = 0.05  # seconds beyond a timeout
ROUNDS: Final = 5  # of which one must be in time: the others may be late for want of a CPU
APPLICATION, PROXIES, UNMESHED = Place

pytestmark = pytest.mark.faults


@dataclass(frozen=True)
class Fault:
    """A toxic and how a request ends that meets it."""

    name: str
    kind: str
    status: int  # 0: a response that was cut, which shows
    reason: str = ""
    within: float = 0.0  # seconds: the timeout that ends it
    stream: str = "downstream"
    attributes: dict[str, int] = field(default_factory=dict)
    places: tuple[Place, ...] = tuple(Place)
    or_: tuple[tuple[int, str], ...] = ()  # as right, depending on what came first


FAULTS: Final = (
    Fault("none", "noop", 200),
    Fault("slow network", "latency", 200, attributes={"latency": 50, "jitter": 20}),
    Fault("small segments", "slicer", 200, attributes={"average_size": 500, "size_variation": 300}),
    Fault("little bandwidth", "bandwidth", 200, attributes={"rate": 1000}),
    Fault("late close", "slow_close", 200, attributes={"delay": 100}),
    Fault("refused", "refuse", 502, "connect-failed"),
    Fault(
        "reset before the answer",
        "reset_peer",
        502,
        "server-closed",
        or_=((502, "connect-failed"),),  # before a byte was sent
        places=(APPLICATION, UNMESHED),
    ),
    Fault(
        "reset in the handshake",
        "reset_peer",
        502,
        "tls-closed",
        places=(PROXIES,),
        or_=((502, "connect-failed"),),  # before it began
    ),
    Fault(
        "closed before the answer",
        "limit_data",
        502,
        "server-closed",
        places=(APPLICATION, UNMESHED),
    ),
    Fault(
        "cut in the head",
        "limit_data",
        502,
        "server-closed",
        attributes={"bytes": 20},
        places=(APPLICATION, UNMESHED),
    ),
    Fault(
        "cut in the handshake",
        "limit_data",
        502,
        "tls-closed",
        attributes={"bytes": 400},
        places=(PROXIES,),
    ),
    Fault(
        "cut in the body",
        "limit_data",
        0,
        attributes={"bytes": 20_000},
        or_=((502, "tls-failed"), (502, "tls-closed")),
    ),
    Fault(
        "silence",
        "timeout",
        504,
        "timeout",
        within=REQUEST,
        places=(APPLICATION, UNMESHED),
    ),
    Fault(
        "silence in the handshake",
        "timeout",
        504,
        "connect-timeout",
        within=CONNECT,
        places=(PROXIES,),
    ),
)


@pytest.mark.parametrize(
    ("fault", "place"),
    [pytest.param(f, p, id=f"{f.name} {p.value}") for f in FAULTS for p in f.places],
)
@on_loop
async def test_a_fault_gets_its_status_in_time(
    fault: Fault, place: Place, toxics: Toxics, tmp_path: Path
) -> None:
    async with faulty(tmp_path, toxics, place) as (world, link):
        if fault.kind == "refuse":
            link.refuse()
        else:
            link.add(fault.kind, fault.stream, **fault.attributes)
        found, late = await meet(world, fault.within)

    assert {(end.status, end.reason) for end in found} <= {(fault.status, fault.reason), *fault.or_}
    assert all(end.is_whole for end in found if end.status)
    assert late <= SLACK


async def meet(world: World, timer: float) -> tuple[list[Ended], float]:
    """Some requests at once, until all of a round are in time; how they ended, and by how much
    the last one of the best round was late. `timer` 0.0: no timeout is expected."""
    found: list[Ended] = []
    late = 0.0
    for _ in range(ROUNDS):
        ends = await asyncio.gather(*(ask(world.client, timer=timer) for _ in range(AT_ONCE)))
        found += ends
        late = max(end.seconds - end.late for end in ends) - timer if timer else 0.0
        if late <= SLACK:
            break
    return found, late


@pytest.mark.parametrize("place", Place, ids=lambda place: place.value)
@on_loop
async def test_a_black_hole_costs_no_more_than_the_connect_timeout(
    place: Place, toxics: Toxics, tmp_path: Path
) -> None:
    async with faulty(tmp_path, toxics, place) as (world, _):
        with black_hole() as port:
            if place is PROXIES:
                world.route(timeout=REQUEST, port=port)
            else:
                world.server.application = ("127.0.0.1", port)
                world.route(timeout=REQUEST, meshed=place is APPLICATION)
            found, late = await meet(world, CONNECT)

    # A peer's proxy refuses the request: that is all that it can say of its own timeout.
    expected = (502, "connect-failed") if place is APPLICATION else (504, "connect-timeout")
    assert {(end.status, end.reason) for end in found} == {expected}
    assert late <= SLACK


@on_loop
async def test_a_partition_costs_time_but_no_cpu(toxics: Toxics, tmp_path: Path) -> None:
    """The link of two proxies goes silent with requests on it, and more come meanwhile."""
    async with faulty(tmp_path, toxics, PROXIES) as (world, link):
        assert (await ask(world.client, timer=REQUEST)).status == 200
        for stream in ("upstream", "downstream"):
            link.add("timeout", stream)
        found, late = await meet(world, REQUEST)
        world.route(timeout=30.0, port=link.port)
        waiting = [asyncio.ensure_future(ask(world.client, timer=30.0)) for _ in range(AT_ONCE)]
        await asyncio.sleep(0.1)
        before = _cpu_seconds()
        await asyncio.sleep(3.0)
        spent = _cpu_seconds() - before
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    assert {(end.status, end.reason) for end in found} == {(504, "timeout")}
    assert late <= REQUEST * 0.1
    assert spent / 3.0 < 0.02


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize("kind", ["latency", "slicer", "bandwidth"])
@on_loop
async def test_bytes_of_a_tunnel_arrive_through_faults(
    kind: str, toxics: Toxics, tmp_path: Path
) -> None:
    """Both ways, in order, to the last one."""
    attributes = {
        "latency": {"latency": 30, "jitter": 20},
        "slicer": {"average_size": 700, "size_variation": 600},
        "bandwidth": {"rate": 4000},
    }
    data = bytes(range(256)) * 4000
    async with World(tmp_path) as world:
        await world.serve(_echo)
        link = toxics.link(world.server.inbound)
        world.route(port=link.port, protocol=Protocol.OPAQUE)
        for stream in ("upstream", "downstream"):
            link.add(kind, stream, **attributes[kind])
        reader, writer = await world.client.connect()
        writer.write(data)
        writer.write_eof()

        assert await reader.read(-1) == data
        writer.close()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
