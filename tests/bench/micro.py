"""The whole request path in memory: microseconds per request without sockets.

A client's connection, the outbound pipeline with routing, balancing, pool and counters, and a
server's connection, on transports that only remember. Its least of many batches repeats to
1-2 %, on a busy machine too, so CI can hold a bar on it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import uvloop
from httptools import HttpRequestParser, HttpResponseParser

from mesh.core.model import Backend, Endpoint, Rule, Service, Source, Target
from proxy.access import AccessLog
from proxy.client_connection import ClientConnection, Keeper
from proxy.dial import Dialler
from proxy.outbound import Outbound, OutboundConnection
from proxy.patterns import compile_pattern
from proxy.targets import Targets
from proxy.telemetry import Telemetry
from proxy.tls import Flusher
from tests.proxy.fakes import CLUSTER_IP, WEB, FakeDiscovery, settings
from tests.proxy.memory import MemoryTransport

SMALL: Final = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
REALISTIC: Final = (
    b"GET /api/v1/items?page=3&sort=name HTTP/1.1\r\n"
    b"Host: web.shop.svc.cluster.local\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    b"Accept: application/json, text/plain, */*\r\n"
    b"Accept-Language: en-US,en;q=0.5\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\n"
    b"X-Request-Id: 7f9c2ba4-e88f-427d-8f2c-6d9a4b1f3c11\r\n"
    b"Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc\r\n"
    b"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n"
    b"Referer: https://shop.example.com/catalogue\r\n"
    b"Connection: keep-alive\r\n\r\n"
)
SMALL_RESPONSE: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 100
REALISTIC_RESPONSE: Final = (
    b"HTTP/1.1 200 OK\r\n"
    b"Server: nginx/1.22.1\r\n"
    b"Date: Sat, 21 Nov 2026 15:00:00 GMT\r\n"
    b"Content-Type: application/json; charset=utf-8\r\n"
    b"Content-Length: 100\r\n"
    b"Connection: keep-alive\r\n"
    b'ETag: "66f2b0c4-64"\r\n'
    b"Cache-Control: no-cache\r\n"
    b"Vary: Accept-Encoding\r\n\r\n" + b"x" * 100
)


class AnySocket:
    """Takes every option, as the socket of a connection does."""

    def setsockopt(self, level: int, name: int, value: int) -> None: ...


class ServerTransport(MemoryTransport):
    """A connection to an endpoint."""

    def get_extra_info(self, name: str) -> Any:
        return AnySocket() if name == "socket" else None


class MemoryDialler(Dialler):
    """Opens memory transports at once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.opened: list[MemoryTransport] = []

    def dial(self, host: str, port: int, mesh: Any, opened: Any, failed: Any) -> Any:
        transport = ServerTransport()
        self.opened.append(transport)
        self.loop.call_soon(opened, transport)
        return self

    def cancel(self) -> None: ...


def build(loop: asyncio.AbstractEventLoop, credentials: Any) -> tuple[Outbound, MemoryDialler]:
    """An outbound side whose one Service has three endpoints."""
    discovery = FakeDiscovery()
    telemetry = Telemetry(0.0)
    keeper = Keeper(loop)
    dialler = MemoryDialler(loop, credentials, Flusher(loop), timeout=1.0, mesh_namespace="mesh")
    endpoints = tuple(
        Endpoint(f"10.0.0.{i}", 80, pod=f"web-{i}", namespace="shop") for i in (1, 2, 3)
    )
    discovery.update(
        Target(
            CLUSTER_IP,
            authority=WEB,
            rules=(Rule((Backend(WEB),), source=Source("Service", "shop", "web")),),
        ),
        services=[Service(WEB, "shop", "web", 80, endpoints)],
    )
    targets = Targets(
        discovery=discovery,
        dialler=dialler,
        telemetry=telemetry,
        pattern=compile_pattern,
        own_addresses=frozenset(),
    )
    outbound = Outbound(
        loop=loop,
        settings=settings(),
        discovery=discovery,
        credentials=credentials,
        targets=targets,
        telemetry=telemetry,
        keeper=keeper,
        access=AccessLog(loop, "off"),
    )
    return outbound, dialler


class NoCredentials:
    identity = "client.shop"

    def on_change(self, callback: Callable[[], None]) -> None: ...


def yardstick(batches: int = 400, size: int = 20) -> float:
    """Microseconds that llhttp alone needs for the realistic heads, with empty callbacks."""

    class Empty:
        def on_header(self, name: bytes, value: bytes) -> None: ...
        def on_headers_complete(self) -> None: ...
        def on_body(self, data: bytes) -> None: ...
        def on_message_complete(self) -> None: ...

    requests, responses = HttpRequestParser(Empty()), HttpResponseParser(Empty())
    best = 1e9
    for _ in range(batches):
        start = time.perf_counter()
        for _ in range(size):
            requests.feed_data(REALISTIC)
            responses.feed_data(REALISTIC_RESPONSE)
        best = min(best, time.perf_counter() - start)
    return best / size * 1e6


async def measure(head: bytes, answer: bytes, *, batches: int = 1000, size: int = 20) -> float:
    """Microseconds per request: the least of all batches."""
    loop = asyncio.get_running_loop()
    outbound, dialler = build(loop, NoCredentials())
    transport = MemoryTransport()
    host, _, port = CLUSTER_IP.rpartition(":")
    OutboundConnection(outbound, transport, host, int(port)).start()
    transport.protocol.data_received(head)
    for _ in range(3):
        await asyncio.sleep(0)
    client: ClientConnection = transport.protocol
    # until the pools have a connection to each endpoint
    for _ in range(50):
        for server in dialler.opened:
            if server.written:
                server.written.clear()
                server.protocol.data_received(answer)
        client.data_received(head)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    for server in dialler.opened:
        if server.written:
            server.written.clear()
            server.protocol.data_received(answer)
    best = 1e9
    opened = dialler.opened
    out = transport.written
    for _ in range(batches):
        start = time.perf_counter()
        for _ in range(size):
            client.data_received(head)
            for server in opened:
                if server.written:
                    server.written.clear()
                    server.protocol.data_received(answer)
                    break
        best = min(best, time.perf_counter() - start)
        assert b"200 OK" in out[0]
        out.clear()
    return best / size * 1e6


def run(batches: int = 1000) -> dict[str, float]:
    """Both heads."""

    async def main() -> dict[str, float]:
        return {
            "llhttp alone": yardstick(batches),
            "small": await measure(SMALL, SMALL_RESPONSE, batches=batches),
            "realistic": await measure(REALISTIC, REALISTIC_RESPONSE, batches=batches),
        }

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--json"]:
        print(json.dumps(run(int(sys.argv[2]))))
    else:
        for name, value in run().items():
            print(f"{name}: {value:.2f} us per request")
