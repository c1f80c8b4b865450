"""What the requests of a pod inherit from the requests that it serves."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mesh.core.labels import H_ATTEMPT, H_DEADLINE
from mesh.core.model import Backend, Policy, Retry, Rule, Service, Target
from proxy.http1 import COLON, CRLF, Request
from proxy.lineage import MOST, Lineage, Origin, request_id
from tests.proxy.apps import Reader, Writer, read_head
from tests.proxy.fakes import CLUSTER_IP, WEB
from tests.proxy.routing import SOURCE, App, endpoint, hang, route, status, until
from tests.proxy.world import World, on_loop, read_response, request

TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def arriving(key: bytes, **ours: bytes) -> Request:
    made = Request(b"GET", b"/", [b"X-Request-Id", COLON, key, CRLF])
    names = {"deadline": H_DEADLINE, "attempt": H_ATTEMPT}
    made.ours = {names[name]: value for name, value in ours.items()}
    return made


def test_deadline_and_try_are_found_by_the_id() -> None:
    lineage = Lineage()
    key = lineage.enter(arriving(b"a", deadline=b"250", attempt=b"2"), 10.0)

    assert lineage.find(arriving(b"a")) == Origin(2, 10.25)
    assert lineage.find(arriving(b"b")) is None
    assert key is not None
    lineage.leave(key)
    assert not lineage.known


def test_requests_without_anything_to_inherit_are_not_kept() -> None:
    lineage = Lineage()

    assert lineage.enter(arriving(b"a"), 0.0) is None
    assert lineage.enter(Request(b"GET", b"/", []), 0.0) is None


def test_what_is_kept_is_bounded() -> None:
    lineage = Lineage()
    for number in range(MOST + 10):
        lineage.enter(arriving(b"%d" % number, attempt=b"2"), 0.0)

    assert len(lineage.known) == MOST


def test_a_trace_id_stands_in_for_a_request_id() -> None:
    assert request_id([b"traceparent", COLON, TRACE, CRLF]) == TRACE[3:35]
    assert request_id([b"traceparent", COLON, b"00-short", CRLF]) is None


def test_an_empty_budget_is_told_for_a_while() -> None:
    lineage = Lineage()
    assert not lineage.pushes_back(0.0)

    lineage.overflowed(5.0)

    assert lineage.pushes_back(5.9)
    assert not lineage.pushes_back(6.1)


GET = b"GET / HTTP/1.1\r\nHost: web\r\nX-Request-Id: r-1\r\nConnection: close\r\n\r\n"


class Passing:
    """An application that asks another Service for each request, and keeps what it was told."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.answers: list[tuple[int, str]] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def __call__(self, reader: Reader, writer: Writer) -> None:
        while True:
            await read_head(reader)
            self.tasks.append(asyncio.ensure_future(self._ask()))
            await self.tasks[-1]
            writer.write(status(self.answers[-1][0]))

    async def _ask(self) -> None:
        reader, writer = await self._world.server.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: back\r\nX-Request-Id: r-1\r\n\r\n")
        code, headers, _ = await read_response(reader)
        self.answers.append((code, headers.get("mesh-reason", "")))
        writer.close()


def behind(world: World, port: int, policy: Policy | None = None) -> None:
    """Let the server pod know the Service behind it."""
    rule = Rule((Backend(WEB),), source=SOURCE, policy=policy)
    end = endpoint(world, port=port, meshed=False)
    world.server.discovery.update(
        Target(CLUSTER_IP, authority=WEB, rules=(rule,)),
        services=[Service(WEB, "shop", "back", 80, (end,))],
    )


@on_loop
async def test_a_deadline_reaches_the_next_tier_through_the_application(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        behind(world, await world.serve(hang))
        passing = Passing(world)
        await world.serve(passing)
        route(world, policy=Policy(request=0.2))

        code, _, _ = await request(world.client, GET)
        await until(lambda: passing.answers)

        assert code == 504
        assert passing.answers[0] == (504, "deadline-exceeded; HTTPRoute/shop/web#0")
        await asyncio.gather(*passing.tasks, return_exceptions=True)


@on_loop
async def test_a_second_try_is_not_multiplied_by_the_next_tier(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        retry = Policy(retry=Retry(limit=3, statuses=((500, 599),), backoff=0.001))
        back = App(lambda n: status(500))
        behind(world, await world.serve(back), retry)
        await world.serve(Passing(world))
        route(world, policy=Policy(retry=Retry(limit=2, statuses=((500, 599),), backoff=0.001)))

        await request(world.client, GET)

        assert len(back.heads) == 4 + 1 + 1  # the first try is, the others are not
