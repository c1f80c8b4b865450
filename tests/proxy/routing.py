"""Rules for the client of a test's world, and an application that fails as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from mesh.core.model import (
    Backend,
    BackendPolicy,
    Budget,
    Endpoint,
    Filters,
    Policy,
    Profile,
    Rule,
    Service,
    Source,
    Target,
)
from tests.proxy.apps import Reader, Writer, read_head
from tests.proxy.fakes import CLUSTER_IP, WEB
from tests.proxy.world import World

SOURCE = Source("HTTPRoute", "shop", "web")
NOBODY = Endpoint("127.0.0.1", 1, pod="web-0", namespace="shop")  # nobody listens there


def endpoint(world: World, *, port: int = 0, pod: str = "web-1", meshed: bool = True) -> Endpoint:
    """The server pod, through its proxy or, with `meshed` False, past it."""
    return Endpoint(
        "127.0.0.1",
        port or (world.server.inbound if meshed else world.server.application[1]),
        identity=world.server.credentials.identity if meshed else "",
        pod=pod,
        namespace="shop",
        workload="deployment/web",
    )


def route(
    world: World,
    *,
    policy: Policy | None = None,
    filters: Filters | None = None,
    use: BackendPolicy | None = None,
    endpoints: tuple[Endpoint, ...] | None = None,
    profile: Profile | None = None,
    budget: Budget | None = None,
    rules: tuple[Rule, ...] = (),
    services: tuple[Service, ...] = (),
    meshed: bool = True,
) -> None:
    """Let the client's discovery know the Service with one rule, or with those given."""
    found = (endpoint(world, meshed=meshed),) if endpoints is None else endpoints
    rule = Rule((Backend(WEB),), source=SOURCE, policy=policy, filters=filters)
    world.client.discovery.update(
        Target(CLUSTER_IP, authority=WEB, rules=rules or (rule,), profile=profile, budget=budget),
        services=[Service(WEB, "shop", "web", 80, found, policy=use), *services],
    )


class App:
    """Answers with what `answer` says of request number 1, 2, ...; remembers what it got."""

    def __init__(self, answer: Callable[[int], bytes | None]) -> None:
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self._answer = answer

    async def __call__(self, reader: Reader, writer: Writer) -> None:
        while True:
            head = await read_head(reader)
            lower = head.lower()
            body = b""
            if b"content-length: " in lower:
                size = int(lower.split(b"content-length: ")[1].split(b"\r\n")[0])
                body = await reader.readexactly(size)
            self.heads.append(head)
            self.bodies.append(body)
            answer = self._answer(len(self.heads))
            if answer is None:
                writer.close()
                return
            writer.write(answer)


def status(code: int, body: bytes = b"", *fields: bytes) -> bytes:
    """A response with a reason phrase that fits nothing."""
    more = b"".join(field + b"\r\n" for field in fields)
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%b\r\n%b" % (code, len(body), more, body)


async def hang(reader: Reader, writer: Writer) -> None:
    """Takes a request and never answers."""
    await read_head(reader)
    await asyncio.Event().wait()


def counted(world: World, name: str, **labels: Any) -> int:
    """How often the client's proxy counted an event."""
    return sum(
        count
        for (event, pairs), count in world.client.server.telemetry.errors.items()
        if event == name and labels.items() <= dict(pairs).items()
    )


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that a proxy does by itself; the test's timeout bounds it."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.005)
