"""What rules do to requests on the wire: timeouts, breakers, filters, mirrors, refusals."""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path

import pytest

from mesh.core.model import (
    Backend,
    BackendPolicy,
    Balancing,
    Breaker,
    ConnectionPool,
    Cors,
    Filters,
    HashKey,
    HeaderEdit,
    Mirror,
    PathChange,
    Policy,
    Redirect,
    Retry,
    Rewrite,
    Rule,
    Service,
)
from tests.proxy.apps import Reader, Writer, read_head
from tests.proxy.fakes import WEB
from tests.proxy.routing import (
    NOBODY,
    SOURCE,
    App,
    counted,
    endpoint,
    hang,
    route,
    status,
    until,
)
from tests.proxy.world import World, on_loop, request

GET = b"GET /a/b?c=1 HTTP/1.1\r\nHost: web\r\nX-Old: 1\r\nConnection: close\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody"
ORIGIN = "HTTPRoute/shop/web#0"


async def drip(reader: Reader, writer: Writer) -> None:
    """Answers a byte now and then, for ever."""
    await read_head(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"x")
        await asyncio.sleep(0.01)


async def begun(world: World) -> tuple[Reader, Writer]:
    """A response whose head came in time; a machine that is slow may need more than one."""
    while True:
        reader, writer = await world.client.connect()
        writer.write(GET)
        head = await read_head(reader)
        if b"200 OK" in head:
            return reader, writer
        assert b"504 " in head
        writer.close()


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (Policy(request=0.05), "timeout"),
        (Policy(attempt=0.05), "try-timeout"),
        (Policy(headers=0.05), "try-timeout"),
        (Policy(response=0.05), "response-timeout"),
        (Policy(idle=0.05), "idle-timeout"),
    ],
)
@on_loop
async def test_a_silent_server_is_given_up(tmp_path: Path, policy: Policy, reason: str) -> None:
    async with World(tmp_path) as world:
        await world.serve(hang)
        route(world, policy=policy)

        code, headers, _ = await request(world.client, POST)

        assert (code, headers["mesh-reason"]) == (504, f"{reason}; {ORIGIN}")


@pytest.mark.parametrize(
    "policy", [Policy(request=0.5), Policy(attempt=0.5), Policy(response=0.5), Policy(stream=0.1)]
)
@on_loop
async def test_a_response_that_does_not_end_is_cut(tmp_path: Path, policy: Policy) -> None:
    async with World(tmp_path) as world:
        await world.serve(drip)
        route(world, policy=policy)
        reader, writer = await begun(world)

        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1_000_000)
        writer.close()


@pytest.mark.parametrize("policy", [Policy(headers=0.5), Policy(idle=0.5)])
@on_loop
async def test_a_response_that_moves_is_left_alone(tmp_path: Path, policy: Policy) -> None:
    async with World(tmp_path) as world:
        await world.serve(drip)
        route(world, policy=policy)
        reader, writer = await begun(world)

        assert await reader.readexactly(70) == b"x" * 70
        writer.close()


ONE = BackendPolicy(breaker=Breaker(max_failures=2, min_penalty=0.1, max_penalty=0.1, jitter=0.0))


@on_loop
async def test_a_failing_endpoint_is_left_alone_and_probed_with_one_request(
    tmp_path: Path,
) -> None:
    async with World(tmp_path) as world:
        app = App(lambda n: status(500 if n <= 2 else 200))
        await world.serve(app)
        route(world, use=ONE)
        first = [(await request(world.client, GET))[0] for _ in range(2)]

        code, headers, _ = await request(world.client, GET)
        refused = (code, headers["mesh-reason"], len(app.heads))
        backend = world.client.server.targets.backend(WEB)
        await until(lambda: backend.has_probe)
        probed = (await request(world.client, GET))[0]

        assert first == [500, 500]
        assert refused == (503, f"all-broken; {ORIGIN}", 2)
        assert (probed, len(app.heads)) == (200, 3)
        assert (await request(world.client, GET))[0] == 200


@on_loop
async def test_a_broken_endpoint_leaves_its_traffic_to_the_others(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        bad, good = App(lambda n: status(500)), App(lambda n: status(200))
        ports = [await world.serve(bad), await world.serve(good)]
        ends = tuple(endpoint(world, port=port, pod=f"p{port}", meshed=False) for port in ports)
        use = BackendPolicy(Balancing.ROUND_ROBIN, breaker=Breaker(2, min_penalty=60.0))
        route(world, use=use, endpoints=ends)

        codes = [(await request(world.client, GET))[0] for _ in range(40)]

        assert codes.count(500) == len(bad.heads) == 2
        assert len(good.heads) == 38


@on_loop
async def test_endpoints_that_refuse_connections_break_too(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        route(world, use=ONE, endpoints=(NOBODY,))
        for _ in range(2):
            assert (await request(world.client, GET))[0] == 502

        code, headers, _ = await request(world.client, GET)

        assert (code, headers["mesh-reason"]) == (503, f"all-broken; {ORIGIN}")


@on_loop
async def test_more_requests_than_the_pool_allows_are_refused_at_once(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(hang)
        route(world, use=BackendPolicy(pool=ConnectionPool(max_requests=1)))
        _, writer = await world.client.connect()
        writer.write(GET)
        await until(lambda: any(h.load.pending for h in world.client.server.targets.hops()))

        code, headers, _ = await request(world.client, GET)

        assert (code, headers["mesh-reason"]) == (503, f"queue-full; {ORIGIN}")
        writer.close()


@pytest.mark.parametrize(
    ("rules", "services", "answer"),
    [
        ((), (), (503, f"no-endpoints; {ORIGIN}")),
        (
            (Rule((), source=SOURCE, failure=500),),
            (),
            (500, f"no-weight; {ORIGIN}"),
        ),
        (
            (Rule((Backend("gone.shop.svc.cluster.local:80"),), source=SOURCE, failure=500),),
            (),
            (500, f"no-service; {ORIGIN}"),
        ),
        (
            (Rule((Backend(WEB, refused="not-permitted"),), source=SOURCE, failure=500),),
            (),
            (500, f"invalid-backend; {ORIGIN}"),
        ),
    ],
)
@on_loop
async def test_nowhere_to_go_is_said_at_once(
    tmp_path: Path,
    rules: tuple[Rule, ...],
    services: tuple[Service, ...],
    answer: tuple[int, str],
) -> None:
    async with World(tmp_path) as world:
        route(world, rules=rules, services=services, endpoints=())

        code, headers, _ = await request(world.client, GET)

        assert (code, headers["mesh-reason"]) == answer
        assert headers["l5d-proxy-error"]


@on_loop
async def test_filters_of_rule_and_backend_change_request_and_response(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        app = App(lambda n: status(200, b"", b"X-Gone: 1"))
        await world.serve(app)
        backend = Backend(WEB, filters=Filters(request=HeaderEdit(add=(("x-new", "2"),))))
        rule = Rule(
            (backend,),
            source=SOURCE,
            filters=Filters(
                request=HeaderEdit(set=(("x-old", "2"),), add=(("x-new", "1"),)),
                response=HeaderEdit(set=(("x-seen", "yes"),), remove=("x-gone",)),
                rewrite=Rewrite("other", PathChange(prefix="/z", matched="/a")),
            ),
        )
        route(world, rules=(rule,))

        code, headers, _ = await request(world.client, GET)

        head = app.heads[0].lower()
        assert head.startswith(b"get /z/b?c=1 http/1.1\r\n")
        assert all(text in head for text in (b"host: other\r\n", b"x-old: 2", b"x-new: 1,2"))
        assert (code, headers["x-seen"], headers.get("x-gone")) == (200, "yes", None)


@on_loop
async def test_a_redirect_is_answered_without_a_server(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        rule = Rule((), source=SOURCE, filters=Filters(redirect=Redirect(hostname="example.org")))
        route(world, rules=(rule,), endpoints=())

        code, headers, _ = await request(world.client, GET)

        assert (code, headers["location"]) == (302, "http://example.org/a/b?c=1")
        assert headers["mesh-reason"] == f"redirect; {ORIGIN}"
        assert "l5d-proxy-error" not in headers


@on_loop
async def test_cross_origin_requests_are_answered_by_the_rule(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        app = App(lambda n: status(200))
        await world.serve(app)
        route(world, filters=Filters(cors=Cors(("https://a.org",), ("GET",))))
        fields = b"Origin: https://a.org\r\nAccess-Control-Request-Method: GET\r\n"
        preflight = b"OPTIONS / HTTP/1.1\r\nHost: web\r\n" + fields + b"Connection: close\r\n\r\n"

        before = await request(world.client, preflight)
        after = await request(world.client, GET.replace(b"X-Old: 1", b"Origin: https://a.org"))

        assert (before[0], len(app.heads)) == (204, 1)
        assert before[1]["access-control-allow-methods"] == "GET"
        assert after[1]["access-control-allow-origin"] == "https://a.org"


MIRROR = "shadow.shop.svc.cluster.local:80"


def mirrored(world: World, port: int, share: float = 1.0) -> None:
    shadow = Service(
        MIRROR, "shop", "shadow", 80, (endpoint(world, port=port, pod="s", meshed=False),)
    )
    route(world, filters=Filters(mirrors=(Mirror(MIRROR, share),)), services=(shadow,))


@on_loop
async def test_a_mirror_gets_a_copy_and_its_answer_is_thrown_away(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        got = asyncio.Event()
        shadow = App(lambda n: got.set() or status(500, b"shadow"))  # type: ignore[func-returns-value]
        app = App(lambda n: status(200, b"real"))
        port = await world.serve(shadow)
        await world.serve(app)
        mirrored(world, port)

        code, _, body = await request(world.client, POST)
        await asyncio.wait_for(got.wait(), 5)

        assert (code, body) == (200, b"real")
        assert shadow.bodies == app.bodies == [b"body"]


@on_loop
async def test_a_mirror_that_is_not_there_harms_nobody(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(App(lambda n: status(200)))
        mirrored(world, 1)

        assert (await request(world.client, POST))[0] == 200
        await until(lambda: counted(world, "outbound_mirror_dropped_total"))
        assert world.client.server.outbound.mirrors.active == 0


@on_loop
async def test_a_mirror_that_resets_is_counted_under_a_reason_of_the_table(tmp_path: Path) -> None:
    async def slam(reader: Reader, writer: Writer) -> None:
        await reader.read(1)
        at_once = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        writer.transport.abort()

    async with World(tmp_path) as world:
        port = await world.serve(slam)
        await world.serve(App(lambda n: status(200)))
        mirrored(world, port)

        assert (await request(world.client, POST))[0] == 200
        await until(lambda: counted(world, "outbound_mirror_dropped_total"))
        assert counted(world, "outbound_mirror_dropped_total", error="server-closed") == 1


@on_loop
async def test_a_mirror_that_does_not_keep_up_is_dropped(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        port = await world.serve(hang)
        app = App(lambda n: status(200))
        await world.serve(app)
        mirrored(world, port)
        head = (
            b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 8000000\r\nConnection: close\r\n\r\n"
        )

        code, _, _ = await request(world.client, head + b"x" * 8_000_000)

        assert (code, len(app.bodies[0])) == (200, 8_000_000)
        assert counted(world, "outbound_mirror_dropped_total", error="too-slow") == 1


@on_loop
async def test_a_share_of_requests_is_mirrored(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        shadow = App(lambda n: status(200))
        port = await world.serve(shadow)
        await world.serve(App(lambda n: status(200)))
        mirrored(world, port, share=0.0)

        for _ in range(5):
            await request(world.client, GET)

        assert shadow.heads == []


@on_loop
async def test_metrics_tell_of_tries_and_broken_endpoints(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(App(lambda n: status(503)))
        policy = Policy(retry=Retry(limit=5, statuses=((503, 503),), backoff=0.001))
        route(world, policy=policy, use=BackendPolicy(breaker=Breaker(2, min_penalty=60.0)))

        await request(world.client, GET)
        text = world.client.server.metrics()

        labels = f'direction="outbound",dst="{WEB}",rt_route=""'
        assert f"route_request_total{{{labels}}} 1\n" in text
        assert f"route_actual_request_total{{{labels}}} 2\n" in text
        assert "mesh_broken_endpoints 1\n" in text


def speaker(number: int) -> App:
    return App(lambda n: status(200, b"%d" % number))


@on_loop
async def test_the_same_key_stays_with_the_same_endpoint(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        ports = [await world.serve(speaker(at)) for at in range(4)]
        ends = tuple(endpoint(world, port=port, pod=f"p{port}", meshed=False) for port in ports)
        use = BackendPolicy(Balancing.HASH, HashKey(header="x-old"))
        route(world, use=use, endpoints=ends)

        async def who(user: int) -> bytes:
            head = GET.replace(b"X-Old: 1", b"X-Old: %d" % user)
            return (await request(world.client, head))[2]

        first = [await who(user) for user in range(20)]
        second = [await who(user) for user in range(20)]
        without = await request(world.client, GET.replace(b"X-Old: 1\r\n", b""))

        assert first == second
        assert len(set(first)) > 1
        assert without[0] == 200
