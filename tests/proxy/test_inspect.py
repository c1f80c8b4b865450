"""What a person hears from a proxy, and that it is what the proxy does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mesh.core.model import (
    Backend,
    BackendPolicy,
    Balancing,
    Breaker,
    Filters,
    Match,
    Redirect,
    Rule,
    Service,
)
from tests.proxy.fakes import CLUSTER_IP, WEB
from tests.proxy.routing import NOBODY, SOURCE, App, endpoint, route, status
from tests.proxy.world import World, on_loop, request

GET = b"GET /a?secret=1 HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"


def asked(world: World, what: str, **query: str) -> dict[str, Any]:
    answers: list[str] = []
    world.client.discovery.ask(what, query, answers.append)
    found: dict[str, Any] = json.loads(answers[0])
    return found


def explained(world: World, **query: str) -> dict[str, Any]:
    found: dict[str, Any] = asked(world, "explain", address=CLUSTER_IP, host="web", **query)
    return found


@on_loop
async def test_the_way_of_a_request_is_told_by_the_proxys_own_view(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(App(lambda n: status(200)))
        rules = (
            Rule((Backend("v2.shop.svc:80"),), (Match(path="/v2"),), source=SOURCE),
            Rule((Backend(WEB),), source=SOURCE, index=1),
        )
        route(world, rules=rules, services=(Service("v2.shop.svc:80", "shop", "v2", 80),))

        first = explained(world, target="/v2")["decision"]
        second = explained(world, target="/other")["decision"]

        assert (first["rule"], first["status"], first["reason"]) == (
            "HTTPRoute/shop/web#0",
            503,
            "no-endpoints",
        )
        assert (second["rule"], second["backend"], second["reason"]) == (
            "HTTPRoute/shop/web#1",
            WEB,
            "",
        )


@on_loop
async def test_target_and_services_come_whole(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(App(lambda n: status(200)))
        route(world, use=BackendPolicy(Balancing.RANDOM))

        found = explained(world)

        assert found["target"]["authority"] == WEB
        assert found["services"][WEB]["policy"]["balancing"] == "random"
        assert found["version"] == world.client.discovery.view.version
        assert found["budget"]["ratio"] == 0.2


@on_loop
async def test_a_redirect_is_foreseen(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        rule = Rule((), source=SOURCE, filters=Filters(redirect=Redirect(hostname="a.org")))
        route(world, rules=(rule,))

        decision = explained(world, target="/x")["decision"]

        assert (decision["status"], decision["location"]) == (302, "http://a.org/x")


@on_loop
async def test_a_draw_decides_between_backends(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        rule = Rule((Backend("a.s.svc:80", 1), Backend("b.s.svc:80", 1)), source=SOURCE)
        route(world, rules=(rule,))

        drawn = [explained(world, draw=draw)["decision"] for draw in ("0.2", "0.7")]

        assert [one["backend"] for one in drawn] == ["a.s.svc:80", "b.s.svc:80"]
        assert not explained(world)["decision"]["isDrawn"]


@on_loop
async def test_broken_endpoints_are_told(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        breaker = Breaker(max_failures=1, min_penalty=60.0)
        route(world, use=BackendPolicy(breaker=breaker), endpoints=(NOBODY,))
        await request(world.client, GET)

        (told,) = asked(world, "endpoints", authority=WEB)["backends"][WEB]["endpoints"]

        assert told["isBroken"]
        assert 50 < told["probeInSeconds"] <= 60 * 1.5
        assert told["pending"] == 0


@on_loop
async def test_a_failed_request_is_found_by_the_id_in_its_response(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(App(lambda n: status(500)))
        route(world)

        _, headers, _ = await request(world.client, GET)
        found = asked(world, "request", id=headers["mesh-request-id"])["request"]

        assert (found["status"], found["rule"]) == (500, "HTTPRoute/shop/web#0")
        assert (found["method"], found["path"], found["pod"]) == ("GET", "/a", "web-1")
        assert "secret" not in json.dumps(found)


@on_loop
async def test_an_answer_of_the_proxy_has_an_id_too_and_keeps_the_clients(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        route(world, endpoints=())

        _, headers, _ = await request(
            world.client, GET.replace(b"Host: web", b"Host: web\r\nX-Request-Id: order-7")
        )
        found = asked(world, "request", id="order-7")["request"]

        assert headers["mesh-request-id"] == "order-7"
        assert (found["status"], found["reason"]) == (503, "no-endpoints")


@on_loop
async def test_requests_that_end_well_are_not_kept(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(App(lambda n: status(200)))
        route(world)

        _, headers, _ = await request(
            world.client, GET.replace(b"Host: web", b"Host: web\r\nX-Request-Id: order-8")
        )

        assert "mesh-request-id" not in headers
        assert asked(world, "request", id="order-8")["request"] is None


@on_loop
async def test_nonsense_is_answered_with_an_error(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        assert "expected one of" in asked(world, "secrets")["error"]
        assert "error" in explained(world, target="no path")
        assert "error" in explained(world, draw="x")
        assert "error" in explained(world, headers="{")


@on_loop
async def test_the_view_comes_without_trust_anchors(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(App(lambda n: status(200)))
        route(world, endpoints=(endpoint(world),))

        view = asked(world, "view")

        assert WEB in view["services"]
        assert "bundle" not in view


@on_loop
async def test_with_the_access_log_on_every_request_has_an_id_that_travels(tmp_path: Path) -> None:
    async with World(tmp_path, access_log="json") as world:
        app = App(lambda n: status(200))
        await world.serve(app)
        route(world)

        await request(world.client, GET)
        line = app.heads[0].lower().split(b"x-request-id: ")[1].split(b"\r\n")[0]
        found = asked(world, "request", id=line.decode())["request"]

        assert (found["status"], found["path"]) == (200, "/a")


@on_loop
async def test_an_answer_of_the_proxy_is_logged_with_its_id(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with World(tmp_path, access_log="json") as world:
        route(world, endpoints=())

        _, headers, _ = await request(world.client, GET)
        world.client.server.outbound.access.flush()

        assert headers["mesh-request-id"] in capfd.readouterr().err


@on_loop
async def test_both_ends_tell_what_kinds_of_requests_went_by(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        port = await world.serve(App(lambda n: status(200)))
        route(world)

        await request(world.client, GET)
        await request(world.client, GET.replace(b"/a?secret=1", b"/a/77"))

        kinds = [("GET", "/a", 1), ("GET", "/a/{id}", 1)]
        sent = asked(world, "observed", places=WEB, window="60")["kinds"]
        assert [(kind["method"], kind["path"], kind["count"]) for kind in sent] == kinds
        answers: list[str] = []
        query = {"places": str(port), "window": "60"}
        world.server.discovery.ask("observed", query, answers.append)
        came = json.loads(answers[0])["kinds"]
        assert [(kind["method"], kind["path"], kind["count"]) for kind in came] == kinds
        assert asked(world, "observed", places="other.shop.svc:80")["kinds"] == []
        assert "error" in asked(world, "observed", window="long")
