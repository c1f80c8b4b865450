"""Two proxies with mutual TLS between them: HTTP/1.1 from end to end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.proxy.apps import Reader, Writer, answering, echo_body, hello, read_chunked, read_head
from tests.proxy.world import World, on_loop, request

over_both = pytest.mark.parametrize("http2", [True, False], ids=["h2", "h1"])  # between them
GET = b"GET /a?b HTTP/1.1\r\nHost: web\r\nX-Case: Kept\r\n\r\n"
CLOSE = b"Connection: close\r\n\r\n"
GET_CLOSE = b"GET /a?b HTTP/1.1\r\nHost: web\r\n" + CLOSE


@over_both
@on_loop
async def test_a_request_passes_both_proxies(tmp_path: Path, http2: bool) -> None:
    async with World(tmp_path, http2=http2) as world:
        await world.serve(hello)
        world.route()

        status, headers, body = await request(world.client, GET_CLOSE)

        assert status == 200
        assert headers["connection"] == "close"
        assert b"GET /a?b HTTP/1.1\r\nHost: web\r\n" in body
        assert b"l5d-client-id: client.shop.serviceaccount.identity.mesh.cluster.local" in body
        assert b"canonical" not in body
        assert world.client.discovery.failures == []


@over_both
@on_loop
async def test_connections_are_kept_on_every_hop(tmp_path: Path, http2: bool) -> None:
    async with World(tmp_path, http2=http2) as world:
        await world.serve(hello)
        world.route()
        reader, writer = await world.client.connect()

        for _ in range(3):
            writer.write(GET)
            head = await read_head(reader)
            size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            body = await reader.readexactly(size)
            assert b"X-Case: Kept" in body
        writer.close()

        hop = world.client.server.targets.hops()[0]
        assert hop.tcp.opened == 1
        assert hop.mesh is not None


@over_both
@on_loop
async def test_an_unmeshed_endpoint_gets_plaintext(tmp_path: Path, http2: bool) -> None:
    async with World(tmp_path, http2=http2) as world:
        await world.serve(hello)
        world.route(meshed=False)

        status, _, body = await request(world.client, GET_CLOSE)

        assert status == 200
        assert b"l5d-client-id" not in body


@over_both
@on_loop
async def test_an_unmeshed_client_cannot_forge_an_identity(tmp_path: Path, http2: bool) -> None:
    async with World(tmp_path, http2=http2) as world:
        await world.serve(hello)

        status, _, body = await request(
            world.server,
            b"GET / HTTP/1.1\r\nHost: web\r\nl5d-client-id: boss\r\nL5D_CLIENT_ID: boss\r\n"
            + CLOSE,
            inbound=True,
        )

        assert status == 200
        assert b"boss" not in body


@over_both
@on_loop
async def test_bodies_stream_both_ways_at_once(tmp_path: Path, http2: bool) -> None:
    async with World(tmp_path, http2=http2) as world:
        await world.serve(echo_body)
        world.route()
        reader, writer = await world.client.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n")

        head = await read_head(reader)
        for piece in (b"one", b"two", b"x" * 100_000):
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            got = b""
            while len(got) < len(piece):
                size = int(await reader.readuntil(b"\r\n"), 16)
                got += await reader.readexactly(size)
                await reader.readexactly(2)
            assert got == piece
        writer.write(b"0\r\n\r\n")

        assert b"200 OK" in head
        assert await reader.readexactly(5) == b"0\r\n\r\n"
        writer.close()


@over_both
@on_loop
async def test_a_large_body_arrives_byte_for_byte(tmp_path: Path, http2: bool) -> None:
    async with World(tmp_path, http2=http2) as world:
        await world.serve(echo_body)
        world.route()
        reader, writer = await world.client.connect()
        body = bytes(range(256)) * 16_000
        writer.write(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n" % len(body))
        writer.write(body)

        await read_head(reader)
        got, _ = await read_chunked(reader)

        assert got == body
        writer.close()


@over_both
@on_loop
async def test_a_client_that_does_not_read_holds_the_server_back(
    tmp_path: Path, http2: bool
) -> None:
    sent = 0
    stalled = asyncio.Event()

    async def flood(reader: Reader, writer: Writer) -> None:
        nonlocal sent
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 65536)
                await asyncio.wait_for(writer.drain(), 0.5)
                sent += 65536
        except (TimeoutError, ConnectionError):
            stalled.set()

    async with World(tmp_path, http2=http2) as world:
        await world.serve(flood)
        world.route()
        _, writer = await world.client.connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(GET)

        await stalled.wait()

        assert sent < 60_000_000  # kernel buffers of six sockets, not the whole gigabyte
        writer.transport.abort()


@over_both
@on_loop
async def test_head_and_no_content_have_no_body(tmp_path: Path, http2: bool) -> None:
    async with World(tmp_path, http2=http2) as world:
        await world.serve(
            answering(
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                b"HTTP/1.1 204 No Content\r\n\r\n",
                b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nETag: x\r\n\r\n",
            )
        )
        world.route()
        reader, writer = await world.client.connect()

        writer.write(b"HEAD / HTTP/1.1\r\nHost: web\r\n\r\n")
        assert b"Content-Length: 5" in await read_head(reader)
        writer.write(GET)
        assert b"204 No Content" in await read_head(reader)
        writer.write(GET)
        assert b"ETag: x" in await read_head(reader)
        writer.close()

        assert world.client.server.targets.hops()[0].tcp.opened == 1


@over_both
@on_loop
async def test_continue_passes_before_the_body(tmp_path: Path, http2: bool) -> None:
    async def careful(reader: Reader, writer: Writer) -> None:
        assert b"Expect: 100-continue" in await read_head(reader)
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(4)
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\n" + body)

    async with World(tmp_path, http2=http2) as world:
        await world.serve(careful)
        world.route()
        reader, writer = await world.client.connect()
        writer.write(
            b"PUT / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
        )

        assert await read_head(reader) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"body")
        assert b"201 Created" in await read_head(reader)
        assert await reader.readexactly(4) == b"body"
        writer.close()


@over_both
@on_loop
async def test_an_answer_before_the_body_is_complete_passes_at_once(
    tmp_path: Path, http2: bool
) -> None:
    async def refuses(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with World(tmp_path, http2=http2) as world:
        await world.serve(refuses)
        world.route()
        reader, writer = await world.client.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 100000000\r\n\r\nstart")

        assert b"413" in await read_head(reader)
        writer.close()


@over_both
@on_loop
async def test_a_response_until_the_end_becomes_chunked(tmp_path: Path, http2: bool) -> None:
    async with World(tmp_path, http2=http2) as world:
        await world.serve(answering(b"HTTP/1.0 200 OK\r\n\r\nall of it", close=True))
        world.route()
        reader, writer = await world.client.connect()
        writer.write(GET)

        head = await read_head(reader)
        body, _ = await read_chunked(reader)

        assert b"Transfer-Encoding: chunked" in head
        assert body == b"all of it"
        writer.close()


@over_both
@on_loop
async def test_a_client_of_http_1_0_gets_no_chunks(tmp_path: Path, http2: bool) -> None:
    async with World(tmp_path, http2=http2) as world:
        await world.serve(
            answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
        )
        world.route()

        status, headers, body = await request(world.client, b"GET / HTTP/1.0\r\n\r\n")

        assert (status, body) == (200, b"hi")
        assert "transfer-encoding" not in headers


@over_both
@on_loop
async def test_a_client_of_http_1_0_may_keep_its_connection(tmp_path: Path, http2: bool) -> None:
    async with World(tmp_path, http2=http2) as world:
        await world.serve(hello)
        world.route()
        reader, writer = await world.client.connect()

        for _ in range(2):
            writer.write(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            head = await read_head(reader)
            assert b"Connection: keep-alive" in head
            body = await reader.readexactly(int(head.split(b"Length: ")[1].split(b"\r\n")[0]))
            assert b"Host: 10.96.0.10:80" in body
        writer.close()


@over_both
@on_loop
async def test_pipelined_requests_are_answered_in_order(tmp_path: Path, http2: bool) -> None:
    async with World(tmp_path, http2=http2) as world:
        await world.serve(hello)
        world.route()
        reader, writer = await world.client.connect()
        for i in range(20):
            writer.write(b"GET /%d HTTP/1.1\r\nHost: web\r\n\r\n" % i)

        for i in range(20):
            head = await read_head(reader)
            size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            assert (await reader.readexactly(size)).startswith(b"GET /%d " % i)
        writer.close()


@over_both
@on_loop
async def test_trailers_pass(tmp_path: Path, http2: bool) -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"1\r\na\r\n0\r\nX-Sum: 97\r\n\r\n"
    )
    async with World(tmp_path, http2=http2) as world:
        await world.serve(answering(answer))
        world.route()
        reader, writer = await world.client.connect()
        writer.write(GET)

        await read_head(reader)

        assert await read_chunked(reader) == (b"a", b"X-Sum: 97\r\n")
        writer.close()


@over_both
@on_loop
async def test_a_websocket_becomes_a_tunnel(tmp_path: Path, http2: bool) -> None:
    async def socket(reader: Reader, writer: Writer) -> None:
        head = await read_head(reader)
        assert b"Upgrade: websocket" in head
        assert b"Sec-WebSocket-Key: abc" in head
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        while data := await reader.read(100):
            writer.write(data.upper())
        writer.write(b"BYE")
        writer.close()

    async with World(tmp_path, http2=http2) as world:
        await world.serve(socket)
        world.route()
        reader, writer = await world.client.connect()
        writer.write(
            b"GET /ws HTTP/1.1\r\nHost: web\r\nConnection: keep-alive, Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Key: abc\r\n\r\n"
        )

        assert b"101 Switching" in await read_head(reader)
        writer.write(b"ping")
        assert await reader.readexactly(4) == b"PING"
        writer.write_eof()
        assert await reader.read() == b"BYE"
        writer.close()


@over_both
@on_loop
async def test_an_upgrade_that_nobody_asked_for_opens_no_tunnel(
    tmp_path: Path, http2: bool
) -> None:
    switches = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"

    async with World(tmp_path, http2=http2) as world:
        await world.serve(answering(switches))
        world.route()
        status, headers, _ = await request(world.client, GET_CLOSE)

    assert (status, headers["mesh-reason"].partition(";")[0]) == (502, "bad-response")


@over_both
@on_loop
async def test_bytes_sent_ahead_of_a_refused_upgrade_are_no_request(
    tmp_path: Path, http2: bool
) -> None:
    seen: list[bytes] = []

    async def refuses(reader: Reader, writer: Writer) -> None:
        try:
            while True:
                seen.append(await read_head(reader))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        except asyncio.IncompleteReadError:
            writer.close()

    async with World(tmp_path, http2=http2) as world:
        await world.serve(refuses)
        world.route()

        raw = b"GET / HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        status, _, rest = await request(
            world.client, raw + b"GET /two HTTP/1.1\r\nHost: web\r\n\r\n"
        )

        assert (status, rest) == (200, b"")
        assert len(seen) == 1


@over_both
@on_loop
async def test_connect_tunnels_to_the_application(tmp_path: Path, http2: bool) -> None:
    async def tunnel(reader: Reader, writer: Writer) -> None:
        assert (await read_head(reader)).startswith(b"CONNECT db:5432 HTTP/1.1\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.write(await reader.readexactly(3))

    async with World(tmp_path, http2=http2) as world:
        await world.serve(tunnel)
        world.route()
        reader, writer = await world.client.connect()
        writer.write(b"CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n")

        assert await read_head(reader) == b"HTTP/1.1 200 OK\r\n\r\n"
        writer.write(b"sql")
        assert await reader.readexactly(3) == b"sql"
        writer.close()


@over_both
@on_loop
async def test_a_refused_request_says_why(tmp_path: Path, http2: bool) -> None:
    async with World(tmp_path, http2=http2) as world:
        await world.serve(hello)
        world.route()

        status, headers, body = await request(
            world.client, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"
        )

        assert (status, body) == (400, b"")
        assert headers["mesh-reason"] == "two-hosts"
        assert headers["connection"] == "close"
