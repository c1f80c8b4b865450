"""Two pods on loopback: proxies with fake discovery, real certificates and real sockets.

There is no redirect here. Instead each server is told where its connections were meant to go:
outbound to an address that discovery knows, inbound to the application behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, ParamSpec

import uvloop

from mesh.core.model import (
    Backend,
    Endpoint,
    Inbound,
    Protocol,
    Rule,
    Service,
    Source,
    Target,
    Update,
    View,
)
from mesh.core.names import WorkloadId
from mesh.core.report import Report
from mesh.runtime import tls
from proxy.server import Server
from proxy.settings import Settings
from tests.support.authority import TrustChain, workload

P = ParamSpec("P")
CLUSTER_IP = "10.96.0.10:80"
WEB = "web.shop.svc.cluster.local:80"


def on_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a coroutine test on uvloop, as the proxy runs."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(asyncio.wait_for(test(*args, **kwargs), 30))

    return run


class FakeDiscovery:
    """A view that the test writes."""

    def __init__(self) -> None:
        self.view = View()
        self.ready = True
        self.failures: list[tuple[str, str, str]] = []
        self.reports: list[Report] = []
        self.is_away = False  # nobody answers look-ups
        self._callbacks: list[Callable[[View, Update], None]] = []

    def lookup(self, address: str, done: Callable[[Target | None], None]) -> None:
        if self.is_away:
            done(None)
        else:
            done(self.view.targets.get(address, Target(address)))

    def service(self, authority: str) -> Service | None:
        return self.view.services.get(authority)

    def on_change(self, callback: Callable[[View, Update], None]) -> None:
        self._callbacks.append(callback)

    def keep(self, in_use: Callable[[str], bool]) -> None:
        self.in_use = in_use

    def connect_failed(self, address: str, authority: str, reason: str) -> None:
        self.failures.append((address, authority, reason))

    def send_report(self, report: Report) -> None:
        self.reports.append(report)

    def update(
        self,
        *targets: Target,
        services: Sequence[Service] = (),
        inbound: Inbound | None = None,
        app_done: bool | None = None,
    ) -> None:
        """Change the view as destination would."""
        update = Update(
            self.view.version + 1,
            targets={target.address: target for target in targets},
            services={service.authority: service for service in services},
            inbound=inbound,
            app_done=app_done,
        )
        self.view = self.view.apply(update)
        for callback in self._callbacks:
            callback(self.view, update)


class FakeCredentials:
    """A leaf and a bundle that do not change by themselves."""

    def __init__(self, chain: TrustChain, whose: WorkloadId, folder: Path) -> None:
        self.identity = whose.dns()
        self.bundle = chain.bundle
        self.not_after = chain.now + 3600
        self.ready = True
        self._leaf = chain.leaf_file(folder, whose)
        self._callbacks: list[Callable[[], None]] = []
        self._contexts: dict[Any, ssl.SSLContext] = {}

    def client_context(self, alpn: Sequence[str]) -> ssl.SSLContext:
        return self._context(False, tuple(alpn))

    def server_context(self, alpn: Sequence[str]) -> ssl.SSLContext:
        return self._context(True, tuple(alpn))

    def on_change(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def renew(self, chain: TrustChain, whose: WorkloadId, folder: Path) -> None:
        self._leaf = chain.leaf_file(folder, whose)
        self._contexts.clear()
        for callback in self._callbacks:
            callback()

    def _context(self, is_server: bool, alpn: tuple[str, ...]) -> ssl.SSLContext:
        if (is_server, alpn) not in self._contexts:
            make = tls.server_context if is_server else tls.client_context
            self._contexts[is_server, alpn] = make(self.bundle, self._leaf, alpn)
        return self._contexts[is_server, alpn]


def settings(**changes: Any) -> Settings:
    """Settings of a pod on loopback with free ports."""
    values: dict[str, Any] = {
        "pod_name": "web-1",
        "pod_namespace": "shop",
        "pod_uid": "uid-1",
        "pod_ips": (),
        "node_name": "node",
        "service_account": "web",
        "mesh_namespace": "mesh",
        "trust_domain": "cluster.local",
        "cluster_domain": "cluster.local",
        "trust_bundle": "",
        "identity_address": ("127.0.0.1", 1),
        "destination_address": ("127.0.0.1", 1),
        "token_file": "",
        "key_dir": "",
        "state_dir": "",
        "outbound_port": 0,
        "inbound_port": 0,
        "admin_port": 0,
        "opaque_ports": (),
        "require_tls": False,
        "probes": frozenset(),
        "connect_timeout": 1.0,
        "drain_timeout": 5.0,
        "native_sidecar": True,
        "log_level": "info",
        "log_format": "text",
        "access_log": "off",
    }
    return Settings(**{**values, **changes})


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

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.chain = TrustChain()
        self.client = make_pod(self.chain, folder, "client")
        self.server = make_pod(self.chain, folder, "web")
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
        rule = Rule((Backend(WEB),), source=Source("Service", "shop", "web"), timeout=timeout)
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
