"""A stream server and proxies' ends of streams over real TLS on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from destination.facts import Key
from destination.metrics import Metrics
from destination.server import StreamServer
from destination.session import SessionTiming
from mesh.core import labels
from mesh.core.model import Update, View
from mesh.core.names import WorkloadId
from mesh.core.report import Report
from mesh.core.wire import FrameReader, Hello, Message, Subscribe, UpdateMessage, encode
from mesh.runtime import tls
from proxy.discovery import Discovery, DiscoveryTiming, make_hello
from tests.destination.world import Object, World, pod
from tests.support.authority import TrustChain

DESTINATION = WorkloadId("cluster.local", "mesh", labels.DESTINATION)
WEB = WorkloadId("cluster.local", "shop", "web")
CLIENT: Object = pod("client", "127.0.0.1", account="web")
HELLO = make_hello(namespace="shop", pod="client", uid="uid-client")


class FixedCredentials:
    """Credentials with one leaf; what is pushed to them is put in force as it is."""

    def __init__(self, chain: TrustChain, folder: Path, whose: WorkloadId) -> None:
        self.ready = True
        self.bundle = chain.bundle
        self.identity = whose.dns()
        self.not_after = 0.0
        self._leaf = chain.leaf_file(folder, whose)
        self._callbacks: list[Callable[[], None]] = []

    def client_context(self, alpn: Sequence[str]) -> ssl.SSLContext:
        return tls.client_context(self.bundle, self._leaf, alpn)

    def server_context(self, alpn: Sequence[str]) -> ssl.SSLContext:
        return tls.server_context(self.bundle, self._leaf, alpn)

    def on_change(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def set_bundle(self, pem: str) -> None:
        self.bundle = pem

    def become_ready(self) -> None:
        self.ready = True
        for callback in self._callbacks:
            callback()


@dataclass
class Ground:
    """A world with its stream server; `put` changes both."""

    world: World
    server: StreamServer
    chain: TrustChain
    folder: Path
    reports: list[tuple[Key, str, Report]]
    asked: list[Key]
    metrics: Metrics
    hidden: dict[Key, Object] = field(default_factory=dict)  # pods that only the API knows
    raw: list[RawStream] = field(default_factory=list)

    def put(self, *objects: Object, deleted: bool = False) -> None:
        self.world.put(*objects, deleted=deleted)
        self.server.publish(self.world.snapshot, self.world.reach)

    def discovery(self, hello: Hello = HELLO, whose: WorkloadId = WEB, **options: Any) -> Discovery:
        options.setdefault("credentials", FixedCredentials(self.chain, self.folder, whose))
        options.setdefault("timing", DiscoveryTiming(backoff_first=0.01, backoff_last=0.02))
        options.setdefault("server", DESTINATION)
        return Discovery(host="127.0.0.1", port=self.server.port, hello=hello, **options)

    async def dial(
        self, whose: WorkloadId = WEB, alpn: Sequence[str] = (labels.ALPN_STREAM,)
    ) -> RawStream:
        context = FixedCredentials(self.chain, self.folder, whose).client_context(alpn)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.server.port, ssl=context, server_hostname="x"
        )
        self.raw.append(RawStream(reader, writer))
        return self.raw[-1]


class RawStream:
    """A stream spoken by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self._frames = FrameReader()
        self._messages: list[Message] = []

    def send(self, *messages: Message) -> None:
        self.writer.write(b"".join(encode(message) for message in messages))

    async def receive(self) -> Message:
        """The next message; raises EOFError at the end."""
        while not self._messages:
            data = await self._reader.read(65536)
            if not data:
                raise EOFError
            self._messages += self._frames.feed(data)
        return self._messages.pop(0)

    async def open(self, *addresses: str, hello: Hello = HELLO) -> Update:
        self.send(hello, Subscribe(add=list(addresses)))
        first = await self.receive()
        assert isinstance(first, UpdateMessage)
        assert first.first
        return first.update

    async def close(self) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def ground(
    folder: Path, *objects: Object, timing: SessionTiming | None = None, port: int = 0
) -> AsyncIterator[Ground]:
    chain = TrustChain()
    world = World([CLIENT, *objects])
    reports: list[tuple[Key, str, Report]] = []
    asked: list[Key] = []
    metrics = Metrics(CollectorRegistry())

    async def read_pod(key: Key) -> None:
        asked.append(key)
        if key in here.hidden:
            here.put(here.hidden[key])

    server = StreamServer(
        store=world.store,
        snapshot=world.snapshot,
        credentials=FixedCredentials(chain, folder, DESTINATION),  # type: ignore[arg-type]
        metrics=metrics,
        read_pod=read_pod,
        keep_report=lambda *report: reports.append(report),
        timing=timing,
        host="127.0.0.1",
        port=port,
    )
    here = Ground(world, server, chain, folder, reports, asked, metrics)
    await server.start()
    try:
        async with asyncio.timeout(20):
            yield here
    finally:
        await asyncio.gather(*(stream.close() for stream in here.raw))
        await server.drain()
        await server.stop()


class Changes:
    """The changes of a discovery, awaited instead of slept for."""

    def __init__(self, discovery: Discovery) -> None:
        self.updates: list[Update] = []
        self._discovery = discovery
        self._news = asyncio.Event()
        discovery.on_change(self._changed)

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._news.clear()
            await self._news.wait()

    def _changed(self, view: View, update: Update) -> None:
        assert view is self._discovery.view
        self.updates.append(update)
        self._news.set()


async def turns_until(holds: Callable[[], bool]) -> None:
    """Let the loop turn until something holds that nobody announces."""
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def running(discovery: Discovery) -> AsyncIterator[Changes]:
    """A discovery that runs; entered once its first view is there."""
    changes = Changes(discovery)
    task = asyncio.create_task(discovery.run())
    try:
        await changes.until(lambda: discovery.ready)
        yield changes
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
