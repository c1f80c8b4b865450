"""Who fails handshakes again and again waits; nobody else does."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from mesh.core import labels
from mesh.runtime import tls
from proxy.strikes import MAX_ADDRESSES, MOST, SECONDS, Strikes
from tests.proxy.apps import hello
from tests.proxy.test_overload import counted
from tests.proxy.world import World, on_loop, read_response


def test_an_address_is_out_for_a_while_after_too_many_failures() -> None:
    strikes = Strikes()
    for _ in range(MOST - 1):
        strikes.failed("10.0.0.1", now=1.0)
    assert not strikes.is_out("10.0.0.1", now=1.0)

    strikes.failed("10.0.0.1", now=2.0)

    assert strikes.is_out("10.0.0.1", now=2.0)
    assert strikes.is_out("10.0.0.1", now=2.0 + SECONDS - 0.1)
    assert not strikes.is_out("10.0.0.1", now=2.0 + SECONDS)
    assert not strikes.is_out("10.0.0.2", now=2.0)


def test_failures_now_and_then_are_forgiven() -> None:
    strikes = Strikes()

    for second in range(1000):
        strikes.failed("10.0.0.1", now=float(second))

        assert not strikes.is_out("10.0.0.1", now=float(second))


def test_addresses_that_are_remembered_are_bounded() -> None:
    strikes = Strikes()

    for number in range(3 * MAX_ADDRESSES):
        strikes.failed(str(number), now=0.0)

    assert len(strikes._failed) <= MAX_ADDRESSES


@on_loop
async def test_a_flood_of_handshakes_without_a_certificate_is_not_answered(tmp_path: Path) -> None:
    context = ssl.create_default_context(cafile=None)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([labels.ALPN_HTTP2])

    async with World(tmp_path) as world:
        await world.serve(hello)
        world.route()
        reader, writer = await world.client.connect()
        for number in range(MOST + 5):
            try:
                stranger = await asyncio.open_connection(
                    "127.0.0.1",
                    world.server.inbound,
                    ssl=context,
                    server_hostname=tls.server_name(world.server.credentials.identity),
                )
                await stranger[0].read()
                stranger[1].transport.abort()
            except (ConnectionError, ssl.SSLError):
                pass
            if number == 0:  # who is in goes on
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert (await read_response(reader))[0] == 200
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        status, _, _ = await read_response(reader)
        writer.close()

    assert status == 200
    assert counted(world.server, "handshake-flood") == 5
