"""Requests that are sent again, and those that are not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mesh.core.model import (
    Backend,
    Budget,
    Condition,
    Policy,
    Profile,
    Retry,
    RouteClass,
    Rule,
    Service,
    Source,
)
from tests.proxy.routing import NOBODY, SOURCE, App, counted, endpoint, hang, route, status
from tests.proxy.world import World, on_loop, request

GET = b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody"
FAST = Retry(limit=1, statuses=((500, 599),), backoff=0.001, max_backoff=0.002)


def failing(times: int, code: int = 503) -> App:
    return App(lambda n: status(code, b"no") if n <= times else status(200, b"yes"))


@pytest.mark.parametrize("meshed", [True, False])
@on_loop
async def test_a_status_that_the_route_names_is_tried_again(tmp_path: Path, meshed: bool) -> None:
    async with World(tmp_path) as world:
        app = failing(1)
        await world.serve(app)
        route(world, policy=Policy(retry=FAST), meshed=meshed)

        code, _, body = await request(world.client, GET)

        assert (code, body, len(app.heads)) == (200, b"yes", 2)


@on_loop
async def test_without_a_word_of_its_route_nothing_is_sent_twice(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        app = failing(1)
        await world.serve(app)
        route(world)

        assert (await request(world.client, GET))[0] == 503
        assert (await request(world.client, POST))[0] == 200
        assert len(app.heads) == 2


@on_loop
async def test_a_post_is_sent_again_with_its_body_where_its_route_says_so(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        app = failing(1)
        await world.serve(app)
        route(world, policy=Policy(retry=FAST))

        code, _, _ = await request(world.client, POST)

        assert (code, app.bodies) == (200, [b"body", b"body"])


@on_loop
async def test_a_body_beyond_64_kib_is_sent_once(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        app = failing(1)
        await world.serve(app)
        route(world, policy=Policy(retry=FAST))
        head = b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 70000\r\nConnection: close\r\n\r\n"

        code, _, _ = await request(world.client, head + b"x" * 70_000)

        assert (code, len(app.heads)) == (503, 1)


@on_loop
async def test_the_number_of_retries_is_the_routes(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        app = failing(9)
        await world.serve(app)
        rule = Retry(limit=2, statuses=((503, 503),), backoff=0.001, max_backoff=0.001)
        route(world, policy=Policy(retry=rule))

        code, headers, body = await request(world.client, GET)

        assert (code, body, len(app.heads)) == (503, b"no", 3)
        assert "mesh-reason" not in headers


@on_loop
async def test_the_next_proxy_is_told_which_try_it_is_and_the_application_is_not(
    tmp_path: Path,
) -> None:
    async with World(tmp_path) as world:
        app = failing(1)
        await world.serve(app)
        route(world, policy=Policy(retry=FAST, request=5.0))

        await request(world.client, GET)

        assert b"mesh-attempt" not in app.heads[1]
        assert b"mesh-deadline" not in app.heads[1]


@on_loop
async def test_another_endpoint_is_asked_the_second_time(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        bad = App(lambda n: status(503))
        good = App(lambda n: status(200))
        ports = [await world.serve(bad), await world.serve(good)]
        ends = tuple(endpoint(world, port=port, pod=f"web-{port}", meshed=False) for port in ports)
        route(world, policy=Policy(retry=FAST), endpoints=ends)

        codes = [(await request(world.client, GET))[0] for _ in range(10)]

        assert codes == [200] * 10


@on_loop
async def test_another_backend_may_be_drawn_the_second_time(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        ports = [await world.serve(failing(99)), await world.serve(failing(0))]
        names = ["v1.shop.svc:80", "v2.shop.svc:80"]
        services = tuple(
            Service(name, "shop", name[:2], 80, (endpoint(world, port=port, meshed=False),))
            for name, port in zip(names, ports, strict=True)
        )
        retry = Retry(limit=5, statuses=((503, 503),), backoff=0.001, max_backoff=0.001)
        rule = Rule(
            tuple(Backend(name) for name in names), source=SOURCE, policy=Policy(retry=retry)
        )
        route(world, rules=(rule,), services=services)

        codes = [(await request(world.client, GET))[0] for _ in range(10)]

        assert codes == [200] * 10


@on_loop
async def test_a_server_that_hangs_up_is_asked_again_where_the_route_says_so(
    tmp_path: Path,
) -> None:
    async with World(tmp_path) as world:
        app = App(lambda n: None if n == 1 else status(200))
        await world.serve(app)
        route(world, policy=Policy(retry=Retry(on_reset=True, backoff=0.001)), meshed=False)

        assert (await request(world.client, POST))[0] == 200
        assert len(app.heads) == 2


@on_loop
async def test_a_try_that_takes_too_long_is_given_up_for_another(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        ports = [await world.serve(hang), await world.serve(failing(0))]
        ends = tuple(endpoint(world, port=port, pod=f"web-{port}", meshed=False) for port in ports)
        rule = Retry(limit=1, on_timeout=True, backoff=0.001)
        route(world, policy=Policy(retry=rule, attempt=0.3), endpoints=ends)

        codes = [(await request(world.client, GET))[0] for _ in range(4)]

        assert codes == [200] * 4


@on_loop
async def test_a_retryable_class_of_a_profile_is_tried_again(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        app = failing(3, code=500)
        await world.serve(app)
        source = Source("ServiceProfile", "shop", "web.shop.svc.cluster.local")
        routes = (RouteClass("all", Condition(path_regex="/.*"), retryable=True),)
        route(world, profile=Profile(source, routes))

        assert (await request(world.client, GET))[0] == 200
        assert len(app.heads) == 4


@on_loop
async def test_the_budget_is_always_on(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        app = failing(999)
        await world.serve(app)
        route(world, policy=Policy(retry=FAST), budget=Budget(0.2, 1.0, 10.0))

        for _ in range(20):
            assert (await request(world.client, GET))[0] == 503

        assert 20 < len(app.heads) <= 24
        assert counted(world, "outbound_http_retry_overflow_total") >= 16


@on_loop
async def test_retries_end_with_the_deadline_of_the_request(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        app = failing(999)
        await world.serve(app)
        rule = Retry(limit=99, statuses=((503, 503),), backoff=0.05, max_backoff=0.05)
        route(world, policy=Policy(retry=rule, request=0.5))
        began = asyncio.get_running_loop().time()

        code, _, _ = await request(world.client, GET)

        assert code in (503, 504)
        assert asyncio.get_running_loop().time() - began < 2.0
        assert 2 <= len(app.heads) <= 11


@on_loop
async def test_an_endpoint_that_refuses_connections_costs_no_request(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        app = failing(0)
        await world.serve(app)
        route(world, endpoints=(NOBODY, endpoint(world)))

        codes = [(await request(world.client, POST))[0] for _ in range(10)]

        assert codes == [200] * 10
        assert len(app.heads) == 10


@on_loop
async def test_tries_are_counted_beside_requests(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(failing(1))
        route(world, policy=Policy(retry=FAST))

        await request(world.client, GET)

        series = list(world.client.server.telemetry.http.values())
        assert sum(one.requests for one in series) == 1
        assert sum(one.retried for one in series) == 1


@on_loop
async def test_an_endpoint_without_a_proxy_gets_no_field_of_ours(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        bad, good = failing(9), failing(0)
        plain = await world.serve(good)
        await world.serve(bad)
        ends = (endpoint(world), endpoint(world, port=plain, pod="plain", meshed=False))
        route(world, policy=Policy(retry=FAST, request=5.0), endpoints=ends)

        codes = [(await request(world.client, b"GET / HTTP/1.0\r\n\r\n"))[0] for _ in range(12)]

        assert codes == [200] * 12
        assert all(b"l5d-" not in head and b"mesh-" not in head for head in good.heads)
        assert all(head.lower().count(b"host: 10.96.0.10:80") == 1 for head in good.heads)
