"""The shell of the proxy: listeners, the order of starting and stopping, the clock.

Sockets listen from the start, but data-path connections are taken only once there is a leaf
and a first view, so that nothing goes out in plaintext for want of waiting; a control plane
that stays away does not hold a pod up for more than HOLD seconds. When to end is decided in
`proxy.stopping`; while draining everything goes on, and answers say `Connection: close`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Mapping
from time import monotonic
from typing import Any, Final

from mesh.core import labels
from mesh.core.names import WorkloadId
from mesh.core.report import REPORT_INTERVAL
from mesh.runtime.credentials import Credentials as TrustedCredentials
from mesh.runtime.credentials import TrustSettings
from mesh.runtime.listen import open_listeners
from mesh.runtime.settings import load
from proxy.access import AccessLog
from proxy.admin import Admin
from proxy.client_connection import Keeper
from proxy.dial import Dialler, set_options
from proxy.discovery import Discovery as DestinationStream
from proxy.discovery import make_hello
from proxy.exposition import write_metrics
from proxy.hop import Hop
from proxy.inbound import Inbound
from proxy.inspect import Inspector
from proxy.lineage import Lineage
from proxy.original import FindOriginal, find_original
from proxy.outbound import Outbound
from proxy.pace import Watermark
from proxy.patterns import compile_pattern
from proxy.seams import Credentials, Discovery, Transport, plain_address
from proxy.settings import Settings
from proxy.stopping import Phase, Stopping
from proxy.targets import Targets
from proxy.telemetry import Telemetry
from proxy.tls import Flusher

log = logging.getLogger(__name__)

HOLD: Final = 5.0  # seconds to wait for leaf and view before taking connections all the same
TELL: Final = 0.8  # seconds until the log says what the proxy waits for
SPARE_FDS: Final = 32  # kept for admin, discovery and identity

Accept = Callable[[Transport, str, int], None]


class Accepted:
    """The first receiver of a redirected connection: finds out where it was meant to go."""

    __slots__ = ("_accept", "_server")

    def __init__(self, server: Server, accept: Accept) -> None:
        self._server = server
        self._accept = accept

    def connection_made(self, transport: Any) -> None:
        sock = transport.get_extra_info("socket")
        server = self._server
        if sock.fileno() >= server.fd_limit:
            server.telemetry.count("connections_refused_total", reason="too-many-files")
            transport.abort()
            return
        set_options(transport)
        try:
            host, port = server.find_original(sock)
        except OSError as error:
            server.telemetry.count("connections_refused_total", reason="no-original-destination")
            log.warning("connection refused: no original destination: %s", error)
            transport.abort()
            return
        self._accept(transport, plain_address(host), port)

    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> bool | None: ...
    def connection_lost(self, error: BaseException | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class Server:
    """One proxy. `start` listens, `run` serves until SIGTERM has been honoured."""

    def __init__(
        self,
        settings: Settings,
        *,
        discovery: Discovery,
        credentials: Credentials,
        find_original: FindOriginal = find_original,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._settings = settings
        self._discovery = discovery
        self._credentials = credentials
        self.find_original = find_original
        most = raise_fd_limit() - SPARE_FDS
        self.fd_limit = most - most // 4  # those who are in may still need connections of ours
        self.telemetry = Telemetry(time.time())
        self.keeper = Keeper(loop)
        self._watermark = Watermark(memory_limit())
        self._access = AccessLog(loop, settings.access_log)
        flusher = Flusher(loop)
        dialler = Dialler(
            loop,
            credentials,
            flusher,
            timeout=settings.connect_timeout,
            mesh_namespace=settings.mesh_namespace,
        )
        dialler.fd_limit = most
        self._dialler = dialler
        self.targets = Targets(
            discovery=discovery,
            dialler=dialler,
            telemetry=self.telemetry,
            pattern=compile_pattern,
            own_addresses=frozenset(settings.pod_ips),
        )
        lineage = Lineage()
        self.outbound = Outbound(
            loop=loop,
            settings=settings,
            discovery=discovery,
            credentials=credentials,
            targets=self.targets,
            telemetry=self.telemetry,
            keeper=self.keeper,
            access=self._access,
            lineage=lineage,
        )
        self.inbound = Inbound(
            loop=loop,
            settings=settings,
            discovery=discovery,
            credentials=credentials,
            dialler=dialler,
            flusher=flusher,
            telemetry=self.telemetry,
            keeper=self.keeper,
            access=self._access,
            lineage=lineage,
            pattern=compile_pattern,
        )
        self.admin = Admin(
            loop=loop,
            waiting_for=self.waiting_for,
            metrics=self.metrics,
            view=lambda: discovery.view,
            dial=lambda host, port, opened, failed: dialler.dial(host, port, None, opened, failed),
            pod_ips=settings.pod_ips,
        )
        self.inspector = Inspector(self.outbound)
        discovery.on_ask(self.inspector.answer)
        self._servers: list[asyncio.AbstractServer] = []
        self._stopping = Stopping(
            is_native=settings.native_sidecar, hard_stop=settings.drain_timeout
        )
        self._asked = asyncio.Event()
        self._errors = 0
        loop.set_exception_handler(self._on_error)

    # -- starting ----------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind all sockets. Raises ConfigError when one is taken."""
        settings = self._settings
        outbound = open_listeners("127.0.0.1", settings.outbound_port)
        with contextlib.suppress(Exception):
            outbound += open_listeners("::1", settings.outbound_port)
        inbound = open_listeners("", settings.inbound_port)
        admin = open_listeners("", settings.admin_port)
        self._admin_servers = [await self._serve(sock, self.admin.accept) for sock in admin]
        for server in self._admin_servers:
            await server.start_serving()
        for sockets, accept in ((outbound, self.outbound.accept), (inbound, self.inbound.accept)):
            for sock in sockets:
                self._servers.append(await self._serve(sock, self._acceptor(accept)))
        log.info("listening outbound=%s inbound=%s admin=%s", *self.ports())

    def ports(self) -> tuple[int, int, int]:
        """The ports in use: outbound, inbound, admin."""
        first: list[Any] = [self._servers[0], self._servers[-1], self._admin_servers[0]]
        numbers = [server.sockets[0].getsockname()[1] for server in first]
        return numbers[0], numbers[1], numbers[2]

    async def _serve(self, sock: socket.socket, factory: Callable[[], Any]) -> Any:
        return await self._loop.create_server(factory, sock=sock, start_serving=False, backlog=1024)

    def _acceptor(self, accept: Accept) -> Callable[[], Accepted]:
        return lambda: Accepted(self, accept)

    def is_ready(self) -> bool:
        """Leaf and first view are there, and the end has not begun."""
        return not self.waiting_for()

    def waiting_for(self) -> list[str]:
        """What keeps this proxy from being ready, for people; empty when it is."""
        if self._stopping.phase is not Phase.SERVING:
            return ["nothing: stopping"]
        waits, settings = [], self._settings
        if not self._credentials.ready:
            reason = self._credentials.last_reason or "no answer yet"
            waits.append(f"a certificate from {_place(settings.identity_address)} ({reason})")
        if not self._discovery.ready:
            reason = self._discovery.last_reason or "no answer yet"
            waits.append(f"the first view from {_place(settings.destination_address)} ({reason})")
        return waits

    # -- running -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until asked to end, or until the application has ended; then drain."""
        await self._hold()
        for server in self._servers:
            await server.start_serving()
        log.info("serving ready=%s", self.is_ready())
        gc.collect()
        gc.freeze()
        reported = monotonic()
        while self._step() is Phase.SERVING:
            await self._sleep(1.0)
            reported = self._tick(reported)
        self._drain()
        while self._step() is Phase.DRAINING:
            await asyncio.sleep(0.1)
            reported = self._tick(reported)
        self._report()
        log.info("stopping open=%d", self._open())
        await self.close()

    def end(self) -> None:
        """Ask to drain and stop, as SIGTERM does."""
        self._stopping.ask(monotonic())
        self._asked.set()

    def _step(self) -> Phase:
        done = self._discovery.view.app_done
        return self._stopping.step(monotonic(), opened=self._open(), app_done=done)

    async def _hold(self) -> None:
        """Wait for leaf and view, but not for ever."""
        began, is_told = monotonic(), False
        while (waits := self.waiting_for()) and not self._asked.is_set():
            waited = monotonic() - began
            if waited >= HOLD:
                log.warning("serving before being ready: waiting for %s", ", ".join(waits))
                return
            if waited >= TELL and not is_told:
                is_told = True
                log.warning("not ready: waiting for %s", ", ".join(waits))
            await self._sleep(0.01)

    def _tick(self, reported: float) -> float:
        now = monotonic()
        self.targets.sweep(now)
        self.inbound.sweep(now)
        self._watch_memory()
        for client in list(self.keeper.clients):
            client.check(now)
        for tunnel in list(self.keeper.tunnels):
            tunnel.check()
        if now - reported >= REPORT_INTERVAL:
            self._report()
            return now
        return reported

    def _watch_memory(self) -> None:
        """Refuse requests before the kernel ends the process, and everything in it."""
        if self._watermark.observe(resident_bytes()):
            self.keeper.is_shedding = self._watermark.is_high
            log.warning("memory short shedding=%s", self._watermark.is_high)

    def _report(self) -> None:
        now = monotonic()
        self._discovery.send_report(self.telemetry.report(now, self._discovery, self._credentials))

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._asked.wait()

    # -- stopping ----------------------------------------------------------------------------

    def _drain(self) -> None:
        """Go on for the application's sake, but let whoever is idle go elsewhere."""
        log.info("draining open=%d", self._open())
        self.keeper.is_draining = True
        for client in list(self.keeper.clients):
            client.end()

    async def close(self) -> None:
        """Close everything at once."""
        for server in (*self._servers, *self._admin_servers):
            server.close()
        for tunnel in list(self.keeper.tunnels):
            tunnel.abort()
        for client in list(self.keeper.clients):
            client.abort()
        for hop in self.hops():
            hop.abort()
        self._access.flush()
        await asyncio.sleep(0)

    def hops(self) -> list[Hop]:
        return [*self.targets.hops(), *self.inbound.hops()]

    def _open(self) -> int:
        return len(self.keeper.clients) + len(self.keeper.tunnels)

    # -- telling -----------------------------------------------------------------------------

    def metrics(self) -> str:
        """The text that /metrics answers."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        gauges = {
            "process_start_time_seconds": self.telemetry.started,
            "process_cpu_seconds_total": usage.ru_utime + usage.ru_stime,
            "process_resident_memory_bytes": float(resident_bytes()),
            "mesh_view_version": float(self._discovery.view.version),
            "mesh_ready": float(self.is_ready()),
            "control_identity_cert_expiration_timestamp_seconds": self._credentials.not_after,
            "mesh_broken_endpoints": float(self.targets.broken()),
            "mesh_internal_errors_total": float(self._errors),
            "mesh_access_log_lost_total": float(self._access.lost),
        }
        return write_metrics(self.telemetry, gauges)

    def _on_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A bug in one connection: uvloop has closed it; say so and go on."""
        self._errors += 1
        log.error(
            "connection ended by a bug: %s",
            context.get("message"),
            exc_info=context.get("exception"),
        )


async def run(settings: Settings, environ: Mapping[str, str]) -> int:
    """Live from start to stop with real discovery and credentials. The exit code."""
    loop = asyncio.get_running_loop()
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
    server = Server(settings, discovery=discovery, credentials=credentials)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.end)
    await server.start()
    tasks = [_start(credentials.run()), _start(discovery.run())]
    try:
        await server.run()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=1.0)
        await server.close()  # the loop would wait for open sockets for ever
    return 0


def _place(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


def _start(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(work)


def raise_fd_limit() -> int:
    """Raise the soft limit of open files to the hard one, and give it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return soft


def memory_limit() -> int:
    """Bytes that the container may use, 0 where nobody says."""
    for path in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError), open(f"/sys/fs/cgroup/{path}") as file:
            limit = int(file.read())
            return limit if limit < 1 << 60 else 0
    return 0


def resident_bytes() -> int:
    """Memory of this process that is in RAM, now."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    except OSError:
        return 0
