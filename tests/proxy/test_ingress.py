"""An ingress controller's requests go to the Service that they name."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.core.model import Backend, Rule, Service, Target
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
