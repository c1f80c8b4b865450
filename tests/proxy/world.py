"""Two pods on loopback: proxies with fake discovery, real certificates and real sockets.

There is no redirect here. Instead each server is told where its connections were meant to go:
outbound to an address that discovery knows, inbound to the application behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, ParamSpec

import uvloop

from mesh.core import labels
from mesh.core.model import (
    Backend,
    Endpoint,
    Policy,
    Protocol,
    Rule,
    Service,
    Source,
    Target,
)
from mesh.core.names import WorkloadId
from proxy.server import Server
from tests.proxy.fakes import CLUSTER_IP, WEB, FakeDiscovery, StaticCredentials, settings
from tests.support.authority import TrustChain, workload

P = ParamSpec("P")


def on_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a coroutine test on uvloop, as the proxy runs, for half a minute at most."""
    return on_loop_for(30)(test)


def on_loop_for(
    seconds: float,
) -> Callable[[Callable[P, Coroutine[Any, Any, None]]], Callable[P, None]]:
    """The same for longer tests."""

    def decorate(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
        @functools.wraps(test)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
            try:
                runner.run(asyncio.wait_for(test(*args, **kwargs), seconds))
            finally:
                # What a failed test left open warns as the loop closes it. Were that an error,
                # uvloop would leave it open and wait for it for ever.
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ResourceWarning)
                    runner.close()

        return run

    return decorate


class FakeCredentials(StaticCredentials):
    """A leaf made by a chain of the test."""

    def __init__(self, chain: TrustChain, whose: WorkloadId, folder: Path) -> None:
        leaf = chain.leaf_file(folder, whose)
        super().__init__(whose.dns(), chain.bundle, leaf, chain.now + 3600)

    def renew(self, chain: TrustChain, whose: WorkloadId, folder: Path) -> None:
        self.replace(chain.leaf_file(folder, whose))


class Pod:
    """One proxy of the test, with what it sees."""

    def __init__(self, server: Server, discovery: FakeDiscovery, credentials: Any) -> None:
        self.server = server
        self.discovery = discovery
        self.credentials = credentials
        self.meant_for: tuple[str, int] = ("10.96.0.10", 80)  # outbound connections
        self.application: tuple[str, int] = ("127.0.0.1", 1)  # inbound ones
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.server.start()
        self.outbound, self.inbound, self.admin = self.server.ports()
        self.task = asyncio.ensure_future(self.server.run())
        await asyncio.sleep(0)

    async def stop(self) -> None:
        if self.task is None:
            return
        self.server.end()
        for tunnel in list(self.server.keeper.tunnels):
            tunnel.abort()
        for client in list(self.server.keeper.clients):
            client.abort()
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        await self.server.close()

    def find_original(self, sock: Any) -> tuple[str, int]:
        is_outbound = sock.getsockname()[1] == self.outbound
        return self.meant_for if is_outbound else self.application

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of this pod's application to `meant_for`."""
        return await asyncio.open_connection("127.0.0.1", self.outbound)

    async def connect_inbound(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of an unmeshed client to this pod's application."""
        return await asyncio.open_connection("127.0.0.1", self.inbound)


def make_pod(chain: TrustChain, folder: Path, account: str, **changes: Any) -> Pod:
    """A proxy that has not started yet."""
    discovery = FakeDiscovery()
    credentials = FakeCredentials(chain, workload(account), folder)
    holder: list[Pod] = []
    server = Server(
        settings(service_account=account, **changes),
        discovery=discovery,
        credentials=credentials,
        find_original=lambda sock: holder[0].find_original(sock),
    )
    holder.append(Pod(server, discovery, credentials))
    return holder[0]


class World:
    """A client pod and a server pod; `serve` puts applications behind the server pod."""

    def __init__(
        self,
        folder: Path,
        *,
        http2: bool = True,
        server: Mapping[str, Any] | None = None,
        **client: Any,
    ) -> None:
        """`client` and `server` are settings of the proxies of the two pods."""
        self.folder = folder
        self.chain = TrustChain()
        self.client = make_pod(self.chain, folder, "client", **client)
        self.server = make_pod(self.chain, folder, "web", **(server or {}))
        if not http2:
            self.server.server.inbound.alpn = (labels.ALPN_HTTP1, labels.ALPN_OPAQUE)
        self._applications: list[asyncio.AbstractServer] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> World:
        await self.client.start()
        await self.server.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        for application in self._applications:
            application.close()
        for writer in self._writers:
            writer.transport.abort()
        await self.client.stop()
        await self.server.stop()

    async def serve(self, handler: Callable[..., Awaitable[None]]) -> int:
        """Start an application for the server pod; gives its port."""

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._writers.append(writer)
            try:
                await handler(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        self._applications.append(server)
        port: int = server.sockets[0].getsockname()[1]
        self.server.application = ("127.0.0.1", port)
        return port

    def route(
        self,
        *,
        meshed: bool = True,
        protocol: Protocol = Protocol.DETECT,
        opaque: bool = False,
        port: int | None = None,
        identity: str | None = None,
        timeout: float | None = None,
    ) -> Endpoint:
        """Let the client's discovery know the Service, served by the server pod."""
        name = self.server.credentials.identity if identity is None else identity
        endpoint = Endpoint(
            "127.0.0.1",
            port or (self.server.inbound if meshed else self.server.application[1]),
            identity=name if meshed else "",
            opaque=opaque,
            pod="web-1",
            namespace="shop",
            workload="deployment/web",
        )
        rule = Rule(
            (Backend(WEB),), source=Source("Service", "shop", "web"), policy=Policy(request=timeout)
        )
        self.client.discovery.update(
            Target(CLUSTER_IP, protocol=protocol, authority=WEB, rules=(rule,)),
            services=[Service(WEB, "shop", "web", 80, (endpoint,))],
        )
        return endpoint


async def request(
    pod: Pod, head: bytes, *, inbound: bool = False
) -> tuple[int, dict[str, str], bytes]:
    """One request with Connection: close; gives status, headers, body as they came."""
    reader, writer = await (pod.connect_inbound() if inbound else pod.connect())
    writer.write(head)
    raw = await reader.read()
    writer.close()
    return parse_response(raw)


def parse_response(raw: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers by lower-case name, and everything behind the head."""
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return int(lines[0].split(" ")[1]) if head else 0, headers, body


async def read_head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def read_response(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """One response of known length; the connection goes on."""
    head = await read_head(reader)
    status, headers, _ = parse_response(head)
    return status, headers, await reader.readexactly(int(headers.get("content-length", "0")))


def free_port() -> int:
    """A port on which nobody listens (until somebody does)."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    async with World(folder) as made:
        yield made
