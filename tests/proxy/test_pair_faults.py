"""What goes wrong between two proxies, and what the client sees of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from mesh.core.model import Backend, Endpoint, Protocol, Rule, Service, Source, Target
from proxy.client_streams import ClientStreams
from proxy.http2_frames import NO_ERROR
from tests.proxy.apps import Reader, Writer, answering, hello, read_head
from tests.proxy.fakes import CLUSTER_IP, WEB
from tests.proxy.world import World, free_port, make_pod, on_loop, request
from tests.support.authority import TrustChain, workload

over_both = pytest.mark.parametrize("http2", [True, False], ids=["h2", "h1"])  # between them
CLOSE = b"Connection: close\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
GET_CLOSE = b"GET / HTTP/1.1\r\nHost: web\r\n" + CLOSE
TLS_ENDS = {"tls-closed", "connect-failed"}  # closed, or reset with our hello unread
SPLIT = Source("TrafficSplit", "shop", "web")


def split(world: World, *backends: tuple[str, int, Endpoint | None]) -> None:
    """A split of the Service; a backend without endpoint has none ready."""
    rule = Rule(tuple(Backend(name, weight) for name, weight, _ in backends), source=SPLIT)
    world.client.discovery.update(
        Target(CLUSTER_IP, authority=WEB, rules=(rule,)),
        services=[
            Service(name, "shop", name.split(".")[0], 80, (endpoint,) if endpoint else ())
            for name, _, endpoint in backends
        ],
    )


@on_loop
async def test_an_endpoint_that_is_gone_is_tried_elsewhere(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(hello)
        good = world.route()
        bad = replace(good, port=free_port(), pod="web-2")
        world.client.discovery.update(
            services=[Service(WEB, "shop", "web", 80, (good, bad))],
        )

        for _ in range(10):
            status, _, _ = await request(world.client, GET_CLOSE)
            assert status == 200

        reasons = {(a, r) for a, _, r in world.client.discovery.failures}
        assert reasons == {(f"127.0.0.1:{bad.port}", "connect-failed")}


@on_loop
async def test_an_endpoint_that_closes_in_the_handshake_is_known_at_once(tmp_path: Path) -> None:
    async def close(reader: Reader, writer: Writer) -> None:
        await reader.read(1)
        writer.close()

    async with World(tmp_path, connect_timeout=20.0) as world:
        await world.serve(hello)
        server = await asyncio.start_server(close, "127.0.0.1", 0)
        world.route(port=server.sockets[0].getsockname()[1])
        async with asyncio.timeout(10):
            status, _, _ = await request(world.client, GET_CLOSE)
        server.close()

        assert status == 502
        assert {reason for _, _, reason in world.client.discovery.failures} <= TLS_ENDS
        assert world.client.server.path.errors == 0


@on_loop
async def test_no_endpoint_that_answers_is_a_bad_gateway(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(hello)
        world.route(port=free_port())

        status, headers, body = await request(world.client, GET)

        assert (status, body) == (502, b"")
        assert headers["mesh-reason"] == "connect-failed; Service/shop/web#0"
        assert headers["l5d-proxy-error"] == "connect failed"
        assert headers["connection"] == "close"


@on_loop
async def test_an_application_that_does_not_listen_is_named(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        world.server.application = ("127.0.0.1", free_port())
        world.route()

        status, headers, _ = await request(world.client, GET_CLOSE)

        assert status == 502
        assert headers["mesh-reason"] == "connect-failed; Service/shop/web#0"


@on_loop
async def test_a_peer_that_proves_another_identity_gets_nothing(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(hello)
        endpoint = world.route()
        impostor = replace(endpoint, identity=workload("other").dns())
        world.client.discovery.update(
            services=[Service(WEB, "shop", "web", 80, (impostor,))],
        )
        world.server.server.inbound.server_name = impostor.identity

        status, headers, _ = await request(world.client, GET)

        assert (status, headers["mesh-reason"]) == (502, "wrong-identity; Service/shop/web#0")
        assert world.client.discovery.failures[0][2] == "wrong-identity"


@on_loop
async def test_a_name_that_nobody_has_reaches_no_plaintext(tmp_path: Path) -> None:
    seen: list[bytes] = []

    async def records(reader: Reader, writer: Writer) -> None:
        seen.append(await reader.read(1000))
        writer.close()

    async with World(tmp_path) as world:
        await world.serve(records)
        endpoint = replace(world.route(), identity=workload("other").dns())
        world.client.discovery.update(services=[Service(WEB, "shop", "web", 80, (endpoint,))])

        status, _, _ = await request(world.client, GET)

        assert status == 502
        assert all(data.startswith(b"\x16\x03") for data in seen)


@on_loop
async def test_a_peer_of_another_authority_is_refused(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(hello)
        world.route()
        world.server.credentials.renew(TrustChain(), workload("web"), tmp_path)

        status, headers, _ = await request(world.client, GET)

        assert status == 502
        assert headers["mesh-reason"] == "unknown-authority; Service/shop/web#0"


@on_loop
async def test_a_client_of_another_authority_is_refused(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(hello)
        world.route()
        foreign = TrustChain()
        world.client.credentials.renew(foreign, workload("client"), tmp_path)
        world.client.credentials.bundle = world.chain.bundle

        status, headers, _ = await request(world.client, GET)

        assert status == 502
        assert headers["mesh-reason"].split(";")[0] in ("tls-failed", "server-closed")


@over_both
@on_loop
async def test_an_endpoint_that_refuses_our_certificate_is_tried_elsewhere(
    tmp_path: Path, http2: bool
) -> None:
    async with World(tmp_path, http2=http2) as world:
        await world.serve(hello)
        good = world.route()
        stale = make_pod(world.chain, tmp_path, "web")
        stale.credentials.bundle = TrustChain().bundle
        if not http2:
            stale.server.inbound.alpn = world.server.server.inbound.alpn
        await stale.start()
        bad = replace(good, port=stale.inbound, pod="web-2")
        world.client.discovery.update(
            services=[Service(WEB, "shop", "web", 80, (good, bad))],
        )

        for _ in range(10):
            status, _, _ = await request(world.client, GET_CLOSE)
            assert status == 200

        assert ("tls-failed",) in {failure[2:] for failure in world.client.discovery.failures}
        await stale.stop()


@over_both
@on_loop
async def test_renewed_credentials_cut_no_request(tmp_path: Path, http2: bool) -> None:
    begun, released = asyncio.Event(), asyncio.Event()

    async def slow(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        begun.set()
        await released.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with World(tmp_path, http2=http2) as world:
        await world.serve(slow)
        world.route()
        reader, writer = await world.client.connect()
        writer.write(GET)
        await begun.wait()

        world.client.credentials.renew(world.chain, workload("client"), tmp_path)
        world.server.credentials.renew(world.chain, workload("web"), tmp_path)
        released.set()

        assert b"200 OK" in await read_head(reader)
        assert await reader.readexactly(2) == b"ok"
        writer.close()


@pytest.mark.parametrize(
    ("backends", "status", "reason"),
    [
        ([], 503, "no-weight"),
        ([("gone.shop.svc:80", 1)], 503, "no-endpoints"),
        ([("web.shop.svc:80", 0)], 503, "no-weight"),
    ],
)
@on_loop
async def test_a_split_without_a_backend_fails_and_names_itself(
    tmp_path: Path, backends: list[tuple[str, int]], status: int, reason: str
) -> None:
    async with World(tmp_path) as world:
        split(world, *[(name, weight, None) for name, weight in backends])

        got, headers, _ = await request(world.client, GET_CLOSE)

        assert got == status
        assert headers["mesh-reason"].split(";")[0] == reason
        if backends and backends[0][1]:
            assert headers["mesh-reason"].endswith("TrafficSplit/shop/web#0")


@on_loop
async def test_a_missing_leaf_fails_its_share_and_no_more(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(hello)
        endpoint = world.route()
        split(world, ("web.shop.svc:80", 9, endpoint), ("gone.shop.svc:80", 1, None))

        statuses = [(await request(world.client, GET_CLOSE))[0] for _ in range(30)]

        assert set(statuses) == {200, 503}
        assert 2 <= statuses.count(503) <= 4


@over_both
@on_loop
async def test_a_request_that_takes_too_long_is_answered_for(tmp_path: Path, http2: bool) -> None:
    cut = asyncio.Event()

    async def silent(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        await reader.read()
        cut.set()
        writer.close()

    async with World(tmp_path, http2=http2) as world:
        await world.serve(silent)
        world.route(timeout=0.5)

        status, headers, _ = await request(world.client, GET_CLOSE)

        assert status == 504
        assert headers["mesh-reason"] == "timeout; Service/shop/web#0"
        await cut.wait()  # the server need not work for nobody


@over_both
@on_loop
async def test_a_client_that_leaves_stops_the_server_too(tmp_path: Path, http2: bool) -> None:
    begun, cut = asyncio.Event(), asyncio.Event()

    async def slow(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        begun.set()
        await reader.read()
        cut.set()
        writer.close()

    async with World(tmp_path, http2=http2) as world:
        await world.serve(slow)
        world.route()
        _, writer = await world.client.connect()
        writer.write(GET)
        await begun.wait()

        writer.close()

        await cut.wait()


@over_both
@on_loop
async def test_half_a_response_is_not_passed_as_a_whole_one(tmp_path: Path, http2: bool) -> None:
    async with World(tmp_path, http2=http2) as world:
        half = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
        await world.serve(answering(half, close=True))
        world.route()
        reader, writer = await world.client.connect()
        writer.write(GET)
        await read_head(reader)

        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readuntil(b"0\r\n\r\n")
        writer.close()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n", "bad-response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na", "bad-response"),
        (b"", "server-closed"),
        (b"HTTP/1.1 200", "server-closed"),
    ],
)
@on_loop
async def test_what_is_no_response_is_a_bad_gateway(
    tmp_path: Path, answer: bytes, reason: str
) -> None:
    async with World(tmp_path) as world:
        await world.serve(answering(answer, close=True))
        world.route(protocol=Protocol.HTTP1)

        status, headers, _ = await request(world.client, GET_CLOSE)

        assert status == 502
        assert headers["mesh-reason"] == f"{reason}; Pod/shop/web-1"


@over_both
@on_loop
async def test_a_connection_that_died_idle_costs_no_request(tmp_path: Path, http2: bool) -> None:
    served = 0

    async def once(reader: Reader, writer: Writer) -> None:
        """Answers one request, then hangs up on the next."""
        nonlocal served
        await read_head(reader)
        served += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await read_head(reader)
        writer.transport.abort()

    async with World(tmp_path, http2=http2) as world:
        await world.serve(once)
        world.route()
        reader, writer = await world.client.connect()

        for _ in range(4):
            writer.write(GET)
            assert b"200 OK" in await read_head(reader)
        writer.close()

        assert served == 4


@pytest.mark.parametrize("meshed", [True, False])
@on_loop
async def test_a_request_that_kills_a_new_connection_is_not_sent_twice(
    tmp_path: Path, meshed: bool
) -> None:
    came = 0

    async def dies(reader: Reader, writer: Writer) -> None:
        nonlocal came
        await read_head(reader)
        came += 1
        writer.close()

    async with World(tmp_path) as world:
        await world.serve(dies)
        world.route(meshed=meshed)
        status, _, _ = await request(world.client, GET_CLOSE)

    assert (status, came) == (502, 1)


@on_loop
async def test_an_endpoint_that_changes_while_it_is_dialled_costs_no_request(
    tmp_path: Path,
) -> None:
    async with World(tmp_path) as world:
        await world.serve(hello)
        endpoint = world.route()
        waiting = asyncio.ensure_future(request(world.client, GET_CLOSE))
        while not world.client.server.targets.hops():  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0)

        moved = replace(endpoint, workload="deployment/other")
        world.client.discovery.update(services=[Service(WEB, "shop", "web", 80, (moved,))])

        assert (await waiting)[0] == 200
        assert (await request(world.client, GET_CLOSE))[0] == 200


@on_loop
async def test_a_stream_that_the_peer_never_looked_at_goes_out_again(tmp_path: Path) -> None:
    served = 0

    async with World(tmp_path) as world:

        async def drained_first(reader: Reader, writer: Writer) -> None:
            nonlocal served
            await read_head(reader)
            served += 1
            if served == 1:  # the peer says now that it looked at no stream
                for client in list(world.server.server.keeper.clients):
                    assert isinstance(client, ClientStreams)
                    client.send_goaway(NO_ERROR, 0)
                return
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        await world.serve(drained_first)
        world.route()
        world.client.server.outbound.attempts.at_once = 30.0  # however busy this machine is

        post = b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n" + CLOSE
        assert (await request(world.client, post))[0] == 200
        assert served == 2


@over_both
@on_loop
async def test_a_post_is_not_sent_twice(tmp_path: Path, http2: bool) -> None:
    served = 0

    async def once(reader: Reader, writer: Writer) -> None:
        nonlocal served
        while True:
            head = await read_head(reader)
            served += 1
            if head.startswith(b"POST"):
                writer.transport.abort()
                return
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with World(tmp_path, http2=http2) as world:
        await world.serve(once)
        world.route()
        reader, writer = await world.client.connect()
        writer.write(GET)
        await read_head(reader)

        writer.write(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n")

        assert b"502 Bad Gateway" in await read_head(reader)
        assert served == 2
        writer.close()


@on_loop
async def test_an_unknown_address_goes_where_it_was_meant(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        port = await world.serve(hello)
        world.client.meant_for = ("127.0.0.1", port)
        world.client.discovery.is_away = True

        status, _, _ = await request(world.client, GET_CLOSE)

        assert status == 200
        assert (
            'outbound_plaintext_total{reason="destination-unavailable"} 1'
            in world.client.server.metrics()
        )


@on_loop
async def test_where_tls_is_required_nothing_goes_out_in_plaintext(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        port = await world.serve(hello)
        world.client.meant_for = ("127.0.0.1", port)
        world.client.discovery.update(
            inbound=replace(world.client.discovery.view.inbound, require_tls=True)
        )

        status, headers, _ = await request(world.client, GET_CLOSE)

        assert status == 502
        assert headers["mesh-reason"].startswith("unmeshed-target")


@on_loop
async def test_where_tls_is_required_only_probes_come_in_without(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        port = await world.serve(hello)
        object.__setattr__(
            world.server.server.inbound.settings, "probes", frozenset({(port, "/healthz")})
        )
        object.__setattr__(world.server.server.inbound.settings, "require_tls", True)
        world.route()

        probe = b"GET /healthz?x HTTP/1.1\r\nHost: web\r\n" + CLOSE
        assert (await request(world.server, probe, inbound=True))[0] == 200
        status, headers, _ = await request(world.server, GET_CLOSE, inbound=True)
        assert (status, headers["mesh-reason"]) == (403, "tls-required; Pod/shop/web-1")
        assert (await request(world.client, GET_CLOSE))[0] == 200


@on_loop
async def test_our_own_ports_are_never_dialled(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        object.__setattr__(world.client.server._settings, "inbound_port", 4143)
        world.client.server.outbound.own_ports = frozenset({4143})
        world.client.meant_for = ("10.0.0.1", 4143)

        status, _, _ = await request(world.client, GET_CLOSE)

        assert status == 0
        assert 'error="loop"' in world.client.server.metrics()
