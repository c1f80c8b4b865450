"""Handshakes have a budget of CPU time; beyond it they take turns, and who is in goes on."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest

from mesh.core import labels
from mesh.runtime import tls
from proxy.handshakes import Handshakes
from proxy.opening import Opening
from proxy.strikes import MOST
from proxy.turns import BURST, MOST_WAITING, RATE, Turns
from tests.proxy.apps import hello
from tests.proxy.memory import MemoryTransport, NoLoop
from tests.proxy.test_detect import client_hello
from tests.proxy.test_overload import counted
from tests.proxy.world import World, on_loop, read_response, request
from tests.support.authority import workload

GET = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
FLOOD_SECONDS = 3.0


def spent(seconds: float) -> Turns[str]:
    turns: Turns[str] = Turns(0.0)
    turns.spend(seconds)
    return turns


def test_the_budget_fills_with_time_up_to_a_burst() -> None:
    turns = spent(BURST + 0.1)

    assert not turns.may_begin(0.0)
    assert turns.wait(0.0) == pytest.approx(0.1 / RATE)
    assert turns.may_begin(0.1 / RATE + 0.001)
    turns.wait(1000.0)
    turns.spend(BURST + 0.001)
    assert not turns.may_begin(1000.0)


def test_addresses_take_turns() -> None:
    turns = spent(BURST + 0.1)
    for name in ("a1", "a2", "a3", "b1", "c1", "c2"):
        assert turns.queue(name[0], name) is None

    assert turns.next(0.0) is None
    came = [turns.next(1.0) for _ in range(7)]

    assert came == ["a1", "b1", "c1", "a2", "c2", "a3", None]


def test_nobody_overtakes_those_who_wait() -> None:
    turns = spent(BURST + 0.1)
    turns.queue("a", "a1")

    assert not turns.may_begin(1.0)
    assert turns.next(1.0) == "a1"
    assert turns.may_begin(1.0)


def test_too_many_cost_the_greediest_address_a_place() -> None:
    turns = spent(1.0)
    turns.queue("modest", "m")
    for number in range(MOST_WAITING - 1):
        assert turns.queue("greedy", str(number)) is None

    assert turns.queue("new", "n") == str(MOST_WAITING - 2)
    assert turns.waiting == MOST_WAITING


def test_a_turn_that_does_not_come_in_time_is_refused() -> None:
    loop = NoLoop()
    handshakes = Handshakes(loop, None)  # type: ignore[arg-type]
    handshakes._turns.spend(10.0)
    transports, refused = (MemoryTransport(), MemoryTransport()), list[str]()
    for transport in transports:
        opening = Opening(transport, loop, lambda: None)  # type: ignore[arg-type]
        handshakes.begin(opening, None, lambda link, error: None, refused.append)  # type: ignore[arg-type]
    transports[1].abort()  # this one left by itself

    for timer in list(loop.timers):
        timer()

    assert refused == ["handshake-busy"]


@on_loop
async def test_who_gives_up_while_it_waits_costs_nothing_and_is_no_attacker(tmp_path: Path) -> None:
    """As a proxy does after its connect timeout: were it shaken hands with, those who still wait
    would get no turn, and after fifty it would have to stay away."""
    async with World(tmp_path) as world:
        await world.serve(hello)
        world.route()
        handshakes = world.server.server.inbound.handshakes
        handshakes._turns.spend(10.0)
        hello_bytes = client_hello(
            tls.server_name(world.server.credentials.identity), labels.ALPN_HTTP2
        )
        for _ in range(2 * MOST):
            _, writer = await world.server.connect_inbound()
            writer.write(hello_bytes)
            writer.close()
        async with asyncio.timeout(10):
            while handshakes._turns.waiting < 2 * MOST:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        handshakes._turns.spend(-10.0)
        handshakes._go_on()  # it is their turn

        status, _, _ = await request(world.client, GET[:-2] + b"Connection: close\r\n\r\n")
        refused = counted(world.server, "handshake-flood")

    assert (status, refused) == (200, 0)
    assert handshakes._strikes._failed == {}


@on_loop
async def test_a_peer_that_comes_when_the_budget_is_used_up_gets_its_turn(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(hello)
        world.route()
        world.server.server.inbound.handshakes._turns.spend(BURST + 0.05)

        status, _, _ = await request(world.client, GET[:-2] + b"Connection: close\r\n\r\n")

    assert status == 200


@on_loop
async def test_a_flood_of_handshakes_leaves_half_a_core_to_who_is_in(tmp_path: Path) -> None:
    """Those who flood are proxies of the mesh: each handshake succeeds."""
    async with World(tmp_path) as world:
        await world.serve(hello)
        world.route()
        reader, writer = await world.client.connect()
        writer.write(GET)
        await read_response(reader)
        floods = [await flood(world, tmp_path) for _ in range(2)]
        began, used = time.monotonic(), time.process_time()

        statuses = set()
        while (took := time.monotonic() - began) < FLOOD_SECONDS:
            writer.write(GET)
            statuses.add((await read_response(reader))[0])
            await asyncio.sleep(0.02)  # 50 requests a second
        used = time.process_time() - used
        writer.close()
        done = sum([int((await one.communicate())[0]) for one in floods])
        print(f"{done} handshakes in {took:.1f} s took {used / took:.2f} of a core")

    assert statuses == {200}
    assert counted(world.server, "handshake-flood") == 0
    assert used <= 0.5 * took + BURST


async def flood(world: World, folder: Path) -> asyncio.subprocess.Process:
    """A process that shakes hands as often as it can."""
    (folder / "bundle.pem").write_text(world.chain.bundle)
    leaf = world.chain.leaf_file(folder, workload("flood"))
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.proxy.handshaker", str(world.server.inbound)),
        *(world.server.credentials.identity, str(folder / "bundle.pem"), str(leaf)),
        str(FLOOD_SECONDS),
        stdout=asyncio.subprocess.PIPE,
    )
