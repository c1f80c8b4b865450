"""Bytes that nobody parses, through two proxies and through one."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from time import monotonic

import pytest
from msgspec.structs import replace

from mesh.core.model import Protocol
from mesh.runtime import tls
from tests.proxy.apps import Reader, Writer, read_head
from tests.proxy.world import World, on_loop, request
from tests.support.authority import workload

BANNER = b"220 mail ESMTP\r\n"
ODD = b"\x00\x01binary\xff"


async def echo(reader: Reader, writer: Writer) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    if not writer.is_closing():
        writer.write(b"END")
    writer.close()


async def until_cut(reader: Reader) -> bytes:
    """All bytes up to the end of a connection, whether it was closed or reset."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def mail(reader: Reader, writer: Writer) -> None:
    """A server that speaks first, as SMTP, MySQL and SSH do."""
    writer.write(BANNER)
    line = await reader.readline()
    writer.write(b"250 " + line)


@pytest.mark.parametrize("meshed", [True, False])
@pytest.mark.parametrize("protocol", [Protocol.OPAQUE, Protocol.DETECT, Protocol.TLS])
@on_loop
async def test_half_close_is_kept(tmp_path: Path, meshed: bool, protocol: Protocol) -> None:
    async with World(tmp_path) as world:
        await world.serve(echo)
        world.route(meshed=meshed, protocol=protocol)
        reader, writer = await world.client.connect()

        writer.write(ODD)
        assert await reader.readexactly(len(ODD)) == ODD
        writer.write_eof()

        assert await reader.read() == b"END"
        writer.close()


@on_loop
async def test_a_server_that_ends_first_can_still_be_written_to(tmp_path: Path) -> None:
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def ends_first(reader: Reader, writer: Writer) -> None:
        await reader.readexactly(1)
        writer.write(b"bye")
        writer.write_eof()
        got.set_result(await reader.read())
        writer.close()

    async with World(tmp_path) as world:
        await world.serve(ends_first)
        world.route(protocol=Protocol.OPAQUE)
        reader, writer = await world.client.connect()
        writer.write(b"x")

        assert await reader.read() == b"bye"
        writer.write(b"late")
        writer.write_eof()

        assert await got == b"late"
        writer.close()


@pytest.mark.parametrize("meshed", [True, False])
@on_loop
async def test_bulk_arrives_byte_for_byte(tmp_path: Path, meshed: bool) -> None:
    async with World(tmp_path) as world:
        await world.serve(echo)
        world.route(meshed=meshed, protocol=Protocol.OPAQUE)
        reader, writer = await world.client.connect()
        data = bytes(range(256)) * 20_000

        async def send() -> None:
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        sending = asyncio.ensure_future(send())
        assert await reader.read(-1) == data + b"END"
        await sending
        writer.close()


@pytest.mark.parametrize("meshed", [True, False])
@on_loop
async def test_a_server_that_speaks_first_is_heard_soon(tmp_path: Path, meshed: bool) -> None:
    async with World(tmp_path) as world:
        await world.serve(mail)
        world.route(meshed=meshed)

        for most in (0.5, 0.2):  # bars are 100 ms and 20 ms on a quiet machine
            began = monotonic()
            reader, writer = await world.client.connect()
            assert await reader.readline() == BANNER
            assert monotonic() - began < most
            writer.write(b"HELO\r\n")
            assert await reader.readline() == b"250 HELO\r\n"
            writer.close()

        assert world.client.server.outbound.verdicts.is_opaque("web.shop.svc.cluster.local:80")


@on_loop
async def test_a_server_that_speaks_first_is_heard_by_unmeshed_clients(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(mail)

        for _ in range(2):
            reader, writer = await world.server.connect_inbound()
            assert await reader.readline() == BANNER
            writer.write(b"HELO\r\n")
            assert await reader.readline() == b"250 HELO\r\n"
            writer.close()


@on_loop
async def test_a_client_that_thinks_before_it_speaks_http_is_still_parsed(tmp_path: Path) -> None:
    async def hello(reader: Reader, writer: Writer) -> None:
        head = await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head))

    async with World(tmp_path) as world:
        await world.serve(hello)
        world.route()
        reader, writer = await world.client.connect()
        await asyncio.sleep(0.1)  # the silence itself is under test

        writer.write(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")

        assert b"200 OK" in await read_head(reader)
        assert b"l5d-client-id" in await read_head(reader)
        writer.close()


@on_loop
async def test_a_short_first_segment_is_completed(tmp_path: Path) -> None:
    async def hello(reader: Reader, writer: Writer) -> None:
        head = await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head))

    async with World(tmp_path) as world:
        await world.serve(hello)
        world.route()
        reader, writer = await world.client.connect()
        for byte in b"GET / HTTP/1.1\r\nHost: web\r\n\r\n":
            writer.write(bytes([byte]))
            await asyncio.sleep(0)

        assert b"200 OK" in await read_head(reader)
        assert b"l5d-client-id" in await read_head(reader)
        writer.close()


@on_loop
async def test_the_applications_own_tls_passes_untouched(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        leaf = world.chain.leaf_file(tmp_path, workload("app"))
        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        serving.load_cert_chain(leaf)
        application = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=serving)
        world.server.application = application.sockets[0].getsockname()
        world.route()
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.load_verify_locations(cadata=world.chain.bundle)

        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            world.client.outbound,
            ssl=trusting,
            server_hostname=workload("app").dns(),
        )
        writer.write(b"secret")

        assert await reader.readexactly(6) == b"secret"
        writer.close()
        application.close()


@on_loop
async def test_an_unmeshed_tls_client_reaches_the_application(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        leaf = world.chain.leaf_file(tmp_path, workload("app"))
        context = tls.server_context(world.chain.bundle, leaf, require_client=False)
        application = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context)
        world.server.application = application.sockets[0].getsockname()
        trusting = tls.client_context(world.chain.bundle, None)

        # even when it asks for the proxy's own name, without an ALPN of ours
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            world.server.inbound,
            ssl=trusting,
            server_hostname=world.server.credentials.identity,
        )
        writer.write(b"hi")

        assert await reader.readexactly(2) == b"hi"
        writer.close()
        application.close()


@on_loop
async def test_an_opaque_port_of_a_meshed_peer_is_not_parsed_there(tmp_path: Path) -> None:
    async def raw(reader: Reader, writer: Writer) -> None:
        head = await read_head(reader)
        assert b"l5d-client-id" not in head
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with World(tmp_path) as world:
        await world.serve(raw)
        world.route(opaque=True)

        status, _, _ = await request(
            world.client, b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"
        )

        assert status == 200


@on_loop
async def test_a_reset_passes_through(tmp_path: Path) -> None:
    async def resets(reader: Reader, writer: Writer) -> None:
        await reader.readexactly(1)
        writer.transport.abort()

    async with World(tmp_path) as world:
        await world.serve(resets)
        world.route(protocol=Protocol.OPAQUE)
        reader, writer = await world.client.connect()
        writer.write(b"x")

        assert await until_cut(reader) == b""
        writer.close()


@on_loop
async def test_where_tls_is_required_strangers_are_hung_up_on(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(echo)
        inbound = world.server.discovery.view.inbound
        world.server.discovery.update(inbound=replace(inbound, require_tls=True))
        reader, writer = await world.server.connect_inbound()
        writer.write(ODD)

        assert await until_cut(reader) == b""
        writer.close()
        assert 'error="tls-required"' in world.server.server.metrics()


@on_loop
async def test_a_banner_does_not_answer_a_handshake_that_is_a_little_late(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(mail)

        reader, writer = await world.server.connect_inbound()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)

        assert await reader.readline() == BANNER  # the client was no proxy of ours after all
        writer.close()
