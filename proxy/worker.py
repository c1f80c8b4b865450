"""A worker: serves traffic, and hears and tells everything else through the first child.

To its workers the first child is destination: the same stream, without TLS since it is a
socket pair. What destination has no word for, it asks: to serve, to drain, to end, for metrics.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from time import monotonic

from mesh.core.errors import IdentityError
from mesh.core.names import WorkloadId
from mesh.runtime import tls
from mesh.runtime.tls import FilePath
from proxy.datapath import DataPath
from proxy.discovery import Discovery, Stream, make_hello
from proxy.exposition import write_metrics
from proxy.original import FindOriginal, find_original
from proxy.settings import Settings

log = logging.getLogger(__name__)

LEAF = "credentials.pem"  # in the key folder, which is memory; the first child replaces it


class SharedCredentials:
    """The leaf that the first child keeps, read anew whenever it says so."""

    def __init__(self, identity: str, leaf: FilePath) -> None:
        self.identity = identity
        self.bundle = ""
        self.not_after = 0.0
        self.last_reason = ""
        self._leaf = leaf
        self._callbacks: list[Callable[[], None]] = []
        self._contexts: dict[tuple[bool, tuple[str, ...]], ssl.SSLContext] = {}

    @property
    def ready(self) -> bool:
        return self.not_after > time.time()

    def client_context(self, alpn: Sequence[str]) -> ssl.SSLContext:
        return self._context(False, tuple(alpn))

    def server_context(self, alpn: Sequence[str]) -> ssl.SSLContext:
        return self._context(True, tuple(alpn))

    def on_change(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def set_bundle(self, pem: str) -> None:
        """The first child decides which bundle is in force, and tells."""

    def change(self, bundle: str, not_after: float) -> None:
        """Another leaf or bundle is in force."""
        self.bundle, self.not_after = bundle, not_after
        self._contexts.clear()
        for callback in self._callbacks:
            callback()

    def _context(self, is_server: bool, alpn: tuple[str, ...]) -> ssl.SSLContext:
        context = self._contexts.get((is_server, alpn))
        if context is None:
            if not self.not_after:
                raise IdentityError("no-leaf", f"{self.identity} has no leaf yet")
            make = tls.server_context if is_server else tls.client_context
            context = self._contexts[is_server, alpn] = make(self.bundle, self._leaf, alpn)
        return context


class Relayed(Discovery):
    """What the first child knows of the cluster, over a socket pair."""

    def __init__(
        self, settings: Settings, link: socket.socket, credentials: SharedCredentials
    ) -> None:
        super().__init__(
            host="",
            port=0,
            hello=make_hello(
                namespace=settings.pod_namespace, pod=settings.pod_name, uid=settings.pod_uid
            ),
            server=WorkloadId(settings.trust_domain, settings.mesh_namespace, "worker"),
            credentials=credentials,
        )
        self._link = link
        self.ended = asyncio.Event()

    async def _keep_connected(self) -> None:
        """One stream, as long as it lasts."""
        loop = asyncio.get_running_loop()
        stream = Stream(self._on_message, self._timing)
        await loop.create_unix_connection(lambda: stream, sock=self._link)
        self._begin(stream)
        await stream.ended.wait()
        self.ended.set()


class Worker:
    """One process that serves traffic until it is told to end, or nobody is there to tell."""

    def __init__(
        self, settings: Settings, link: socket.socket, find_original: FindOriginal
    ) -> None:
        workload = WorkloadId(
            settings.trust_domain, settings.pod_namespace, settings.service_account
        )
        self._credentials = SharedCredentials(
            workload.dns(settings.mesh_namespace), os.path.join(settings.key_dir, LEAF)
        )
        self.discovery = Relayed(settings, link, self._credentials)
        self.path = DataPath(
            settings,
            discovery=self.discovery,
            credentials=self._credentials,
            find_original=find_original,
        )
        self.discovery.on_ask(self._asked)
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_told = False  # to end

    async def run(self) -> bool:
        """Until the first child says `end`: True; or until it is gone: False."""
        loop = asyncio.get_running_loop()
        relay = loop.create_task(self.discovery.run())
        ended = self.discovery.ended
        while not ended.is_set():
            try:
                async with asyncio.timeout(1.0):
                    await ended.wait()
            except TimeoutError:
                self.path.tick(monotonic())
        relay.cancel()
        self.path.close()
        await asyncio.sleep(0)
        return self._is_told

    def _asked(self, what: str, query: Mapping[str, str], reply: Callable[[str], None]) -> None:
        """Do or tell what the first child asks; what people ask goes on to the inspector."""
        if what == "credentials":
            self._credentials.change(query["bundle"], float(query["not_after"]))
        elif what == "serve":
            task = asyncio.get_running_loop().create_task(self.path.serve())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif what == "drain":
            self.path.drain()
        elif what == "end":
            self.discovery.send_report(self.path.report(monotonic()))
            self._is_told = True
            self.discovery.ended.set()
        elif what == "open":
            reply(str(self.path.opened()))
        elif what == "metrics":
            text = write_metrics(self.path.telemetry, {})
            reply(json.dumps({"text": text, "figures": self.path.figures()}))
        elif what == "log-level":
            logging.getLogger().setLevel(int(query["level"]))
        else:
            self.path.inspector.answer(what, query, reply)


async def run(
    settings: Settings,
    link: socket.socket,
    outbound: Sequence[socket.socket],
    inbound: Sequence[socket.socket],
    *,
    find_original: FindOriginal = find_original,
) -> int:
    """Live from fork to end. The exit code."""
    worker = Worker(settings, link, find_original)
    await worker.path.bind(outbound, inbound)
    return 0 if await worker.run() else 1
