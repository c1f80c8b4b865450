"""A proxy in one process: listeners, data path and admin port, from start to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Coroutine, Mapping
from time import monotonic
from typing import Any

from mesh.core import labels
from mesh.core.names import WorkloadId
from mesh.runtime.credentials import Credentials as TrustedCredentials
from mesh.runtime.credentials import TrustSettings
from mesh.runtime.listen import open_listeners
from mesh.runtime.settings import load
from proxy.admin import Admin
from proxy.datapath import DataPath
from proxy.discovery import Discovery as DestinationStream
from proxy.discovery import make_hello
from proxy.exposition import write_metrics
from proxy.hop import Hop
from proxy.life import Life
from proxy.original import FindOriginal, find_original
from proxy.seams import Credentials, Discovery
from proxy.settings import Settings

log = logging.getLogger(__name__)


class Server(Life):
    """One proxy. `start` listens, `run` serves until SIGTERM has been honoured."""

    def __init__(
        self,
        settings: Settings,
        *,
        discovery: Discovery,
        credentials: Credentials,
        find_original: FindOriginal = find_original,
    ) -> None:
        super().__init__(settings, discovery=discovery, credentials=credentials)
        self.path = path = DataPath(
            settings, discovery=discovery, credentials=credentials, find_original=find_original
        )
        self.telemetry = path.telemetry
        self.keeper = path.keeper
        self.targets = path.targets
        self.outbound = path.outbound
        self.inbound = path.inbound
        self.inspector = path.inspector
        self.admin = Admin(
            loop=asyncio.get_running_loop(),
            waiting_for=self.waiting_for,
            metrics=lambda reply: reply(self.metrics()),
            view=lambda: discovery.view,
            dial=lambda host, port, opened, failed: path.dialler.dial(
                host, port, None, opened, failed
            ),
            pod_ips=settings.pod_ips,
        )
        discovery.on_ask(self.inspector.answer)
        self._admin_servers: list[Any] = []
        self._kept = 0.0  # when there was housekeeping

    # -- starting ----------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind all sockets. Raises ConfigError when one is taken."""
        settings = self._settings
        outbound = open_listeners("127.0.0.1", settings.outbound_port)
        with contextlib.suppress(Exception):
            outbound += open_listeners("::1", settings.outbound_port)
        inbound = open_listeners("", settings.inbound_port)
        self._admin_servers = await self.admin.listen(settings.admin_port)
        await self.path.bind(outbound, inbound)
        log.info("listening outbound=%s inbound=%s admin=%s", *self.ports())

    def ports(self) -> tuple[int, int, int]:
        """The ports in use: outbound, inbound, admin."""
        return (*self.path.ports(), self._admin_servers[0].sockets[0].getsockname()[1])

    # -- running -----------------------------------------------------------------------------

    async def serve(self) -> None:
        await self.path.serve()

    def tick(self, now: float) -> None:
        if now - self._kept >= 0.9:  # paces and limits count its calls as seconds
            self._kept = now
            self.path.tick(now)

    def opened(self) -> int:
        return self.path.opened()

    def drain(self) -> None:
        self.path.drain()

    def report(self) -> None:
        self._discovery.send_report(self.path.report(monotonic()))

    async def close(self) -> None:
        for server in self._admin_servers:
            server.close()
        self.path.close()
        await asyncio.sleep(0)

    def hops(self) -> list[Hop]:
        return self.path.hops()

    def metrics(self) -> str:
        """The text that /metrics answers."""
        gauges = {
            "process_start_time_seconds": self.telemetry.started,
            "mesh_view_version": float(self._discovery.view.version),
            "mesh_ready": float(self.is_ready()),
            "control_identity_cert_expiration_timestamp_seconds": self._credentials.not_after,
            **self.path.figures(),
        }
        return write_metrics(self.telemetry, gauges)


def connect_control(
    settings: Settings, environ: Mapping[str, str]
) -> tuple[DestinationStream, TrustedCredentials]:
    """What the control plane gives this pod, not yet running."""
    credentials = TrustedCredentials.from_settings(load(TrustSettings, environ))
    host, port = settings.destination_address
    discovery = DestinationStream(
        host=host,
        port=port,
        hello=make_hello(
            namespace=settings.pod_namespace,
            pod=settings.pod_name,
            uid=settings.pod_uid,
            node=settings.node_name,
        ),
        server=WorkloadId(settings.trust_domain, settings.mesh_namespace, labels.DESTINATION),
        credentials=credentials,
        mesh_namespace=settings.mesh_namespace,
    )
    return discovery, credentials


async def run(settings: Settings, environ: Mapping[str, str]) -> int:
    """Live from start to stop with real discovery and credentials. The exit code."""
    discovery, credentials = connect_control(settings, environ)
    server = Server(settings, discovery=discovery, credentials=credentials)
    await server.start()
    await live(server, credentials.run(), discovery.run())
    return 0


async def live(life: Life, *works: Coroutine[Any, Any, None]) -> None:
    """Run a proxy until a signal has ended it, with all that has to go on meanwhile."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, life.end)
    tasks = [loop.create_task(work) for work in works]
    try:
        await life.run()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=1.0)
        await life.close()  # the loop would wait for open sockets for ever
