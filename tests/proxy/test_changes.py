"""Under load nothing fails while configurations are swapped, leaves renewed, proxies drained,
and a proxy that is killed loses what it has in hand and nothing else.

MESH_SWAPS, MESH_RENEWALS, MESH_DRAINS, MESH_KILLS: how many of each.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path
from time import monotonic
from typing import Final

import pytest

from mesh.core.model import (
    Backend,
    BackendPolicy,
    Balancing,
    Endpoint,
    Filters,
    HeaderEdit,
    Policy,
    Retry,
    Rule,
    Service,
    Target,
)
from tests.bench.processes import start, wait_for
from tests.bench.trust import make_files
from tests.proxy.apps import Reader, Writer, read_head
from tests.proxy.fakes import CLUSTER_IP, WEB
from tests.proxy.h2_ends import End
from tests.proxy.load import OK, asking
from tests.proxy.routing import SOURCE
from tests.proxy.world import Pod, World, free_port, make_pod, on_loop_for
from tests.support.authority import workload

SWAPS: Final = int(os.environ.get("MESH_SWAPS", "100"))
RENEWALS: Final = int(os.environ.get("MESH_RENEWALS", "10"))
DRAINS: Final = int(os.environ.get("MESH_DRAINS", "2"))
KILLS: Final = int(os.environ.get("MESH_KILLS", "1"))
CLIENTS: Final = 6
PREFACE_HEAD: Final = b"PRI * HTTP/2.0\r\n\r\n"

LONGEST: Final = 60.0 + SWAPS / 20 + DRAINS * 5 + KILLS * 5  # seconds of one test

pytestmark = pytest.mark.timeout(10 + LONGEST)


async def answers(reader: Reader, writer: Writer) -> None:
    """In the protocol that it is asked in."""
    while (await read_head(reader)) != PREFACE_HEAD:
        writer.write(OK)
    end = End(reader, writer, client=False)
    end.on_request = lambda end, number, message: end.answer(number, [(":status", "200")], b"ok")
    end.h2.receive_data(PREFACE_HEAD)
    await end.task


def at(pod: Pod, name: str) -> Endpoint:
    identity = pod.credentials.identity
    return Endpoint("127.0.0.1", pod.inbound, identity=identity, pod=name, namespace="shop")


def route(world: World, *endpoints: Endpoint) -> None:
    world.client.discovery.update(
        Target(CLUSTER_IP, authority=WEB, rules=(Rule((Backend(WEB),), source=SOURCE),)),
        services=[Service(WEB, "shop", "web", 80, endpoints)],
    )


@on_loop_for(LONGEST)
async def test_no_request_fails_while_configurations_are_swapped(tmp_path: Path) -> None:
    dice = random.Random(5)
    async with World(tmp_path) as world:
        await world.serve(answers)
        other = "v2.shop.svc.cluster.local:80"

        def swap(number: int) -> None:
            edit = HeaderEdit(set=(("x-swap", str(number)),))
            rule = Rule(
                (Backend(WEB, dice.choice((1, 9))), Backend(other, dice.choice((0, 1)))),
                source=SOURCE,
                policy=dice.choice((None, Policy(request=20.0), Policy(retry=Retry(limit=1)))),
                filters=dice.choice((None, Filters(request=edit, response=edit))),
            )
            use = BackendPolicy(dice.choice((Balancing.EWMA, Balancing.ROUND_ROBIN)))
            ends = tuple(at(world.server, f"web-{pod}") for pod in dice.choice(((1,), (2,), (3,))))
            world.client.discovery.update(
                Target(CLUSTER_IP, authority=WEB, rules=(rule,)),
                services=[
                    Service(WEB, "shop", "web", 80, ends, policy=use),
                    Service(other, "shop", "v2", 80, ends),
                ],
            )

        swap(0)
        async with asking(world.client) as clients:
            for number in range(SWAPS):
                swap(number)
                await clients.more(1)

    assert clients.words == {}
    assert clients.count >= SWAPS


@on_loop_for(LONGEST)
async def test_no_request_fails_while_leaves_are_renewed(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(answers)
        route(world, at(world.server, "web-1"))
        async with asking(world.client) as clients:
            for number in range(RENEWALS):
                pod, name = ((world.client, "client"), (world.server, "web"))[number % 2]
                pod.credentials.renew(world.chain, workload(name), tmp_path)
                await clients.more(CLIENTS)

    assert clients.words == {}


@on_loop_for(LONGEST)
async def test_no_request_fails_while_proxies_drain(tmp_path: Path) -> None:
    """One of two replicas at a time, as a rolling restart does; its end is heard of late."""
    async with World(tmp_path) as world:
        await world.serve(answers)
        pods = [world.server, make_pod(world.chain, tmp_path, "web")]
        pods[1].application = world.server.application
        await pods[1].start()
        route(world, *(at(pod, f"web-{n}") for n, pod in enumerate(pods)))
        async with asking(world.client) as clients:
            for number in range(DRAINS):
                leaving = pods.pop(0)
                leaving.server.end()
                await clients.more(2 * CLIENTS)
                route(world, at(pods[0], "web-old"))
                assert leaving.task is not None
                await leaving.task
                pods.append(make_pod(world.chain, tmp_path, "web"))
                pods[1].application = world.server.application
                await pods[1].start()
                route(world, at(pods[0], "web-old"), at(pods[1], f"web-{number}"))
        for pod in pods:
            await pod.stop()

    assert clients.words == {}
    assert clients.count > DRAINS * CLIENTS


@on_loop_for(LONGEST)
async def test_a_killed_proxy_loses_what_it_has_in_hand_and_nothing_else(tmp_path: Path) -> None:
    """SIGKILL, one after the other; each comes back, as its kubelet would have it."""
    async with World(tmp_path) as world:
        port = await world.serve(answers)
        files = make_files(tmp_path, "web", world.chain)
        between = free_port()
        command = ["-m", "tests.bench.ours", "inbound", str(between), str(port), files.identity]
        command = [sys.executable, *command, str(files.leaf), str(files.bundle), "http"]
        replica = Endpoint("127.0.0.1", between, identity=files.identity, pod="web-2")
        process = start(command, tmp_path)
        await asyncio.to_thread(wait_for, between, process)
        route(world, at(world.server, "web-1"), replica)
        try:
            async with asking(world.client, http1=CLIENTS, http2=0) as clients:
                for _ in range(KILLS):
                    await clients.more(100)
                    known = len(clients.failures)
                    process.send_signal(signal.SIGKILL)
                    killed = monotonic()
                    process.wait()
                    await clients.more(100)
                    process = start(command, tmp_path)
                    await asyncio.to_thread(wait_for, between, process)

                    lost = clients.failures[known:]
                    assert len(lost) <= CLIENTS
                    assert {word for _, word in lost} <= {"502 server-closed"}
                    assert all(began <= killed + 0.05 for began, _ in lost)
        finally:
            process.kill()
            process.wait()
