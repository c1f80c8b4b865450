"""All that serves traffic in one process: both pipelines, what they share, and its housekeeping.

Where connections come from, when they may come and when it all ends is `proxy.life`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import time
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Final

from mesh.core.report import REPORT_INTERVAL, Report
from mesh.runtime.listen import BACKLOG
from proxy.access import AccessLog
from proxy.client_connection import Keeper
from proxy.dial import Dialler, set_options
from proxy.hop import Hop
from proxy.inbound import Inbound
from proxy.inspect import Inspector
from proxy.lineage import Lineage
from proxy.memory import give_back, memory_limit, resident_bytes
from proxy.original import FindOriginal
from proxy.outbound import Outbound
from proxy.pace import Watermark
from proxy.patterns import compile_pattern
from proxy.seams import Credentials, Discovery, Transport, plain_address
from proxy.settings import Settings
from proxy.targets import Targets
from proxy.telemetry import Telemetry
from proxy.tls import Flusher

log = logging.getLogger(__name__)

SPARE_FDS: Final = 32  # kept for admin, discovery and identity
GIVE_BACK_INTERVAL: Final = 60.0  # seconds

Accept = Callable[[Transport, str, int], None]


class Accepted:
    """The first receiver of a redirected connection: finds out where it was meant to go."""

    __slots__ = ("_accept", "_path")

    def __init__(self, path: DataPath, accept: Accept) -> None:
        self._path = path
        self._accept = accept

    def connection_made(self, transport: Any) -> None:
        sock = transport.get_extra_info("socket")
        path = self._path
        if sock.fileno() >= path.fd_limit:
            path.telemetry.count("connections_refused_total", reason="too-many-files")
            transport.abort()
            return
        set_options(transport)
        try:
            host, port = path.find_original(sock)
        except OSError as error:
            path.telemetry.count("connections_refused_total", reason="no-original-destination")
            log.warning("connection refused: no original destination: %s", error)
            transport.abort()
            return
        self._accept(transport, plain_address(host), port)

    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> bool | None: ...
    def connection_lost(self, error: BaseException | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class DataPath:
    """The traffic of one process. Belongs to the loop that runs when it is made."""

    def __init__(
        self,
        settings: Settings,
        *,
        discovery: Discovery,
        credentials: Credentials,
        find_original: FindOriginal,
    ) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._settings = settings
        self._discovery = discovery
        self._credentials = credentials
        self.find_original = find_original
        most = raise_fd_limit() - SPARE_FDS
        self.fd_limit = most - most // 4  # those who are in may still need connections of ours
        self.telemetry = Telemetry(time.time())
        self.keeper = Keeper(loop)
        self.errors = 0
        self._watermark = Watermark(memory_limit() // settings.workers)
        self._access = AccessLog(loop, settings.access_log)
        self._servers: list[Any] = []
        self._reported = monotonic()
        self._give_back_at = 0.0  # soon after the start, which leaves a peak of its own
        flusher = Flusher(loop)
        self.dialler = self._make_dialler(flusher, most)
        self.targets = Targets(
            discovery=discovery,
            dialler=self.dialler,
            telemetry=self.telemetry,
            pattern=compile_pattern,
            own_addresses=frozenset(settings.pod_ips),
        )
        self._make_pipelines(flusher, Lineage())
        self.inspector = Inspector(self.outbound)
        loop.set_exception_handler(self._on_error)

    def _make_dialler(self, flusher: Flusher, most: int) -> Dialler:
        dialler = Dialler(
            self._loop,
            self._credentials,
            flusher,
            timeout=self._settings.connect_timeout,
            mesh_namespace=self._settings.mesh_namespace,
        )
        dialler.fd_limit = most
        return dialler

    def _make_pipelines(self, flusher: Flusher, lineage: Lineage) -> None:
        self.outbound = Outbound(
            loop=self._loop,
            settings=self._settings,
            discovery=self._discovery,
            credentials=self._credentials,
            targets=self.targets,
            telemetry=self.telemetry,
            keeper=self.keeper,
            access=self._access,
            lineage=lineage,
        )
        self.inbound = Inbound(
            loop=self._loop,
            settings=self._settings,
            discovery=self._discovery,
            credentials=self._credentials,
            dialler=self.dialler,
            flusher=flusher,
            telemetry=self.telemetry,
            keeper=self.keeper,
            access=self._access,
            lineage=lineage,
            pattern=compile_pattern,
        )

    # -- connections -------------------------------------------------------------------------

    async def bind(
        self, outbound: Sequence[socket.socket], inbound: Sequence[socket.socket]
    ) -> None:
        """Be ready to take connections from listening sockets, once told to `serve`."""
        for sockets, accept in ((outbound, self.outbound.accept), (inbound, self.inbound.accept)):
            for sock in sockets:
                self._servers.append(await self._bind(sock, accept))

    async def _bind(self, sock: socket.socket, accept: Accept) -> Any:
        receiver: Callable[[], Any] = lambda: Accepted(self, accept)  # noqa: E731
        return await self._loop.create_server(
            receiver, sock=sock, start_serving=False, backlog=BACKLOG
        )

    def ports(self) -> tuple[int, int]:
        """The ports in use: outbound, inbound."""
        first, last = (self._servers[at].sockets[0].getsockname()[1] for at in (0, -1))
        return first, last

    async def serve(self) -> None:
        """Take connections from now on."""
        for server in self._servers:
            await server.start_serving()

    def opened(self) -> int:
        """How many connections of clients there are."""
        return len(self.keeper.clients) + len(self.keeper.tunnels)

    def hops(self) -> list[Hop]:
        return [*self.targets.hops(), *self.inbound.hops()]

    def drain(self) -> None:
        """Go on for the application's sake, but let whoever is idle go elsewhere."""
        self.keeper.is_draining = True
        for client in list(self.keeper.clients):
            client.end()

    def close(self) -> None:
        """End everything at once."""
        for server in self._servers:
            server.close()
        for tunnel in list(self.keeper.tunnels):
            tunnel.abort()
        for client in list(self.keeper.clients):
            client.abort()
        for hop in self.hops():
            hop.abort()
        self._access.flush()

    # -- housekeeping ------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Called about every second."""
        self.targets.sweep(now)
        self.inbound.sweep(now)
        if now >= self._give_back_at:
            self._give_back_at = now + GIVE_BACK_INTERVAL
            give_back()
        self._watch_memory()
        for client in list(self.keeper.clients):
            client.check(now)
        for tunnel in list(self.keeper.tunnels):
            tunnel.check()
        if now - self._reported >= REPORT_INTERVAL:
            self._reported = now
            self._discovery.send_report(self.report(now))

    def _watch_memory(self) -> None:
        """Refuse requests before the kernel ends the process, and everything in it."""
        if self._watermark.observe(resident_bytes()):
            self.keeper.is_shedding = self._watermark.is_high
            log.warning("memory short shedding=%s", self._watermark.is_high)

    def report(self, now: float) -> Report:
        return self.telemetry.report(now, self._discovery, self._credentials)

    def figures(self) -> dict[str, float]:
        """Single values of this process, for /metrics; those of several processes add up."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "process_cpu_seconds_total": usage.ru_utime + usage.ru_stime,
            "process_resident_memory_bytes": float(resident_bytes()),
            "mesh_broken_endpoints": float(self.targets.broken()),
            "mesh_internal_errors_total": float(self.errors),
            "mesh_access_log_lost_total": float(self._access.lost),
        }

    def _on_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A bug in one connection: uvloop has closed it; say so and go on."""
        self.errors += 1
        log.error(
            "connection ended by a bug: %s",
            context.get("message"),
            exc_info=context.get("exception"),
        )


def raise_fd_limit() -> int:
    """Raise the soft limit of open files to the hard one, and give it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return soft
