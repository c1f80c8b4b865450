"""An ingress controller's requests go to the Service that they name."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from mesh.core.model import Backend, Rule, Service, Target
from tests.proxy.h2_ends import Application, End, Message, head
from tests.proxy.routing import SOURCE, App, endpoint, route, status
from tests.proxy.world import World, on_loop, request

NAMED = "api.shop.svc.cluster.local:80"


async def asked(world: World, override: str) -> tuple[bytes, App]:
    """Who answers a request with this override, and the application of the named Service."""
    api = App(lambda n: status(200, b"api"))
    port = await world.serve(api)
    await world.serve(App(lambda n: status(200, b"web")))
    route(world, meshed=False)
    world.client.discovery.update(
        Target(NAMED, authority=NAMED, rules=(Rule((Backend(NAMED),), source=SOURCE),)),
        services=[Service(NAMED, "shop", "api", 80, (endpoint(world, port=port, meshed=False),))],
    )
    head = (
        f"GET / HTTP/1.1\r\nHost: web\r\nL5d-Dst-Override: {override}\r\nConnection: close\r\n\r\n"
    )
    _, _, body = await request(world.client, head.encode())
    return body, api


@on_loop
async def test_a_request_goes_to_the_service_that_it_names(tmp_path: Path) -> None:
    async with World(tmp_path, ingress=True) as world:
        body, api = await asked(world, NAMED)

        assert body == b"api"
        assert b"override" not in api.heads[0].lower()


@pytest.mark.parametrize(("ingress", "served"), [(True, [b"api", b"api"]), (False, [b"web"] * 2)])
@on_loop
async def test_on_http2_it_is_as_on_http1(
    tmp_path: Path, ingress: bool, served: list[bytes]
) -> None:
    async with World(tmp_path, ingress=ingress) as world, named(world) as (client, applications):
        answers = []
        fields = head("/a", ("l5d-dst-override", NAMED))
        for asked_for in (fields, fields, head("/a")):
            _, answer = client.ask(asked_for)
            await answer.ended.wait()
            answers.append(bytes(answer.body))

    assert answers == [*served, b"web"]
    requests = [message for application in applications for message in application.requests]
    assert not any("l5d-dst-override" in dict(message.headers) for message in requests)


@contextlib.asynccontextmanager
async def named(world: World) -> AsyncIterator[tuple[End, list[Application]]]:
    """An HTTP/2 client, and the applications of the Service that it dials and of another."""
    applications = [Application(_saying(b"web")), Application(_saying(b"api"))]
    ports = [await application.start() for application in applications]
    route(world, endpoints=(endpoint(world, port=ports[0], meshed=False),))
    api = endpoint(world, port=ports[1], meshed=False)
    world.client.discovery.update(
        Target(NAMED, authority=NAMED, rules=(Rule((Backend(NAMED),), source=SOURCE),)),
        services=[Service(NAMED, "shop", "api", 80, (api,))],
    )
    client = End(*await world.client.connect(), client=True)
    try:
        yield client, applications
    finally:
        await client.close()
        for application in applications:
            await application.close()


def _saying(body: bytes) -> Callable[[End, int, Message], None]:
    return lambda end, number, message: end.answer(number, [(":status", "200")], body)


@pytest.mark.parametrize(
    "override", ["gone.shop.svc.cluster.local:80", "no port", "x" * 300 + ":1"]
)
@on_loop
async def test_a_name_that_nobody_knows_is_passed_over(tmp_path: Path, override: str) -> None:
    async with World(tmp_path, ingress=True) as world:
        assert (await asked(world, override))[0] == b"web"


@on_loop
async def test_other_pods_cannot_choose(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        assert (await asked(world, NAMED))[0] == b"web"
