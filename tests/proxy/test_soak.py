"""Requests against an application that fails in every way, under rules of every kind: each gets
one answer in time, and nothing is left in hand afterwards."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from mesh.core.model import (
    Backend,
    BackendPolicy,
    Balancing,
    Breaker,
    Filters,
    HeaderEdit,
    Mirror,
    Policy,
    Retry,
    Rule,
    Service,
)
from tests.proxy.apps import Reader, Writer, read_head
from tests.proxy.fakes import WEB
from tests.proxy.routing import NOBODY, SOURCE, endpoint, route, status, until
from tests.proxy.world import World, on_loop, request

MIRROR = "shadow.shop.svc.cluster.local:80"


class Moody:
    """Answers, fails, hangs up, hangs, babbles or breaks off, by turns of a seeded dice."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)

    async def __call__(self, reader: Reader, writer: Writer) -> None:
        while True:
            head = (await read_head(reader)).lower()
            if b"content-length: " in head:
                size = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
                if self._dice.random() < 0.8:
                    await reader.readexactly(size)
            mood = self._dice.randrange(8)
            if mood < 3:
                writer.write(status(200, b"fine"))
            elif mood == 3:
                writer.write(status(503, b"x" * self._dice.choice((0, 10, 100_000))))
            elif mood == 4:
                writer.close()
                return
            elif mood == 5:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf")
                writer.close()
                return
            elif mood == 6:
                writer.write(b"\x00\x01 no HTTP\r\n\r\n")
            else:
                await asyncio.sleep(30)


def rules_of(dice: random.Random, *, meshed: bool, world: World) -> None:
    """One rule with something of everything, drawn anew."""
    policy = Policy(
        request=1.0,
        attempt=dice.choice((None, 0.1)),
        idle=dice.choice((None, 0.3)),
        retry=Retry(
            limit=dice.choice((1, 3, None)),
            statuses=((500, 599),),
            on_reset=dice.random() < 0.5,
            on_timeout=True,
            backoff=0.001,
            max_backoff=0.01,
        ),
    )
    filters = Filters(
        request=HeaderEdit(set=(("x-a", "1"),)),
        response=HeaderEdit(remove=("x-b",)),
        mirrors=(Mirror(MIRROR, 0.5),),
    )
    use = BackendPolicy(dice.choice(list(Balancing)), breaker=Breaker(3, 0.02, 0.05))
    end = endpoint(world, meshed=meshed)
    services = (
        Service(MIRROR, "shop", "shadow", 80, (end,)),
        Service("v2.shop.svc:80", "shop", "v2", 80, (NOBODY, end), policy=use),
    )
    rule = Rule(
        (Backend(WEB, 3), Backend("v2.shop.svc:80", 1)),
        source=SOURCE,
        policy=dice.choice((policy, Policy(request=1.0))),
        filters=dice.choice((filters, None)),
    )
    route(world, rules=(rule,), services=services, use=use, endpoints=(end, NOBODY))


@pytest.mark.parametrize("meshed", [True, False])
@on_loop
async def test_every_request_gets_one_answer_and_nothing_is_left(
    tmp_path: Path, meshed: bool
) -> None:
    dice = random.Random(7 if meshed else 8)
    async with World(tmp_path) as world:
        outbound = world.client.server.outbound
        outbound.mirrors.seconds = 0.5
        await world.serve(Moody(1))
        rules_of(dice, meshed=meshed, world=world)
        body = b"y" * 5000
        heads = [
            b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n",
            b"HEAD / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 5000\r\nConnection: close\r\n\r\n"
            + body,
        ]

        async def ask() -> int:
            try:
                return (await asyncio.wait_for(request(world.client, dice.choice(heads)), 5))[0]
            except ConnectionError:
                return 0  # cut in the middle of a response

        codes: list[int] = []
        for _ in range(12):
            codes += await asyncio.gather(*(ask() for _ in range(10)))
            rules_of(dice, meshed=meshed, world=world)

        await until(lambda: not outbound.mirrors.active)
        assert len(codes) == 120
        assert {200, 503} <= set(codes) <= {0, 200, 502, 503, 504}
        assert [hop.load.pending for hop in world.client.server.hops()] == [0] * len(
            world.client.server.hops()
        )
        assert not outbound.lineage.known
        assert world.client.server.path.errors == world.server.server.path.errors == 0
