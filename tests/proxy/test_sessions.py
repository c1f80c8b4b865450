"""Connections to a peer resume the session of an earlier one, and prove no less."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any, Final

from mesh.core.model import Protocol
from proxy.sessions import AGAIN, MOST_TAKEN, Sessions
from tests.proxy.apps import Reader, Writer
from tests.proxy.world import World, on_loop
from tests.support.authority import workload

ALPN: Final = ("h2",)
CONTEXT: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


async def echo(reader: Reader, writer: Writer) -> None:
    while data := await reader.read(100):
        writer.write(data)
    writer.close()


async def connect(world: World) -> tuple[bool, str]:
    """One opaque connection: whether its handshake was spared, and whom the server saw."""
    reader, writer = await world.client.connect()
    writer.write(b"\x00hello")
    assert await reader.readexactly(6) == b"\x00hello"
    (tunnel,) = world.client.server.keeper.tunnels
    link = tunnel.server.near.get_extra_info("ssl_object")
    seen = [
        dict(labels).get("client_id", "")
        for (key, labels, peer), series in world.server.server.telemetry.tcp.items()
        if peer == "src" and series.open
    ]
    remember_now(world, link)
    writer.close()
    while world.client.server.keeper.tunnels:  # noqa: ASYNC110  nobody tells
        await asyncio.sleep(0.001)
    return link.session_reused, seen[0]


def remember_now(world: World, link: Any) -> None:
    """What a timer does a second later."""
    (hop,) = world.client.server.targets.hops()
    endpoint, mesh = hop.endpoint, hop.mesh
    assert mesh is not None
    place = endpoint.address, endpoint.port
    now = asyncio.get_running_loop().time()
    hop._dialler.sessions.learn((place, mesh), mesh.alpn, link, now)


@on_loop
async def test_a_session_is_resumed_until_the_leaf_changes(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(echo)
        world.route(protocol=Protocol.OPAQUE, opaque=True)

        seen = [await connect(world) for _ in range(4)]
        world.client.credentials.renew(world.chain, workload("client"), tmp_path)
        renewed = await connect(world)

    name = workload("client").dns()
    assert seen == [(False, name), (False, name), (True, name), (True, name)]
    assert renewed == (False, name)


class Link:
    """A connection of `context`. It counts how often its session was asked for."""

    def __init__(self, context: object, *, reused: bool = False) -> None:
        self.context = context
        self.session_reused = reused
        self.asked = 0

    @property
    def session(self) -> Any:
        self.asked += 1
        return self

    has_ticket = True


def learnt(sessions: Sessions, peer: str, now: float, *, reused: bool = False) -> int:
    """How often a connection to a peer was asked for its session."""
    link = Link(CONTEXT, reused=reused)
    sessions.offer(peer, ALPN, CONTEXT)
    sessions.learn(peer, ALPN, link, now)  # type: ignore[arg-type]
    return link.asked


def test_a_peer_that_is_met_once_is_not_asked() -> None:
    sessions = Sessions()

    assert [learnt(sessions, "a", 0.0), learnt(sessions, "b", 0.0)] == [0, 0]
    assert sessions.offer("a", ALPN, CONTEXT) is None


def test_a_session_that_is_resumed_is_not_asked_for_again() -> None:
    sessions = Sessions()
    asked = [learnt(sessions, "a", 0.0), learnt(sessions, "a", 0.0)]
    kept = sessions.offer("a", ALPN, CONTEXT)

    asked += [learnt(sessions, "a", AGAIN * day, reused=True) for day in range(9)]

    assert asked == [0, 1] + [0] * 9
    assert sessions.offer("a", ALPN, CONTEXT) is kept is not None


def test_a_peer_that_resumes_nothing_is_asked_once_an_hour() -> None:
    sessions = Sessions()

    asked = [learnt(sessions, "a", float(second)) for second in range(0, 3 * int(AGAIN), 5)]

    assert sum(asked) == 3


def test_sessions_of_another_leaf_are_not_offered() -> None:
    sessions = Sessions()
    learnt(sessions, "a", 0.0)
    learnt(sessions, "a", 0.0)

    assert sessions.offer("a", ALPN, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)) is None


def test_what_all_sessions_cost_is_bounded_whatever_comes() -> None:
    sessions = Sessions()

    asked = [learnt(sessions, f"{n % 2000}", float(n)) for n in range(20_000)]

    assert sum(asked) == MOST_TAKEN
