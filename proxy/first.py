"""The first child of a proxy with workers: all that a pod has once.

It holds the stream to destination, the credentials, the admin port and the decision when to end.
Workers get its view step by step, subscribe through it and tell it what they counted; to
destination, to Prometheus and to `mesh` the pod looks like one proxy.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final

from msgspec.structs import replace

import mesh
from mesh.core import wire
from mesh.core.errors import PeerError
from mesh.core.model import Target, Update, View
from mesh.core.report import REPORT_INTERVAL, Report, Series
from mesh.runtime.bundle import hash_bundle
from proxy.admin import Admin
from proxy.dial import Dialler
from proxy.exposition import write_metrics
from proxy.life import Life
from proxy.memory import resident_bytes
from proxy.merging import (
    add_figures,
    merge_answers,
    merge_metrics,
    merge_series,
    without_gauges,
)
from proxy.seams import Credentials, Discovery
from proxy.server import connect_control, live
from proxy.settings import Settings
from proxy.telemetry import Telemetry
from proxy.tls import Flusher

log = logging.getLogger(__name__)

ANSWER: Final = 1.0  # seconds that workers have to answer
MOST_FDS: Final = 4  # that come with one message of the parent

Reply = Callable[[str], None]


class WorkerLink:
    """The socket pair to one worker: frames both ways, questions and their answers."""

    def __init__(self, chief: First, number: int) -> None:
        self.number = number
        self.opened = 0
        self.wanted: set[str] = set()  # addresses that it subscribed to
        self.report: Report | None = None
        self.metrics = ""  # as last told
        self._chief = chief
        self._reader = wire.FrameReader()
        self._transport: Any = None
        self._asked: dict[int, Reply] = {}
        self._count = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._reader.feed(data):
                self._on_message(message)
        except PeerError as error:
            log.error("worker sent what does not read number=%d: %s", self.number, error)
            self._transport.abort()

    def eof_received(self) -> bool | None:
        return None

    def connection_lost(self, error: BaseException | None) -> None:
        self._chief.lost(self)

    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...

    def send(self, message: wire.Message) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(wire.encode(message))

    def tell(self, what: str, **query: str) -> None:
        """Say something that has no answer."""
        self.send(wire.Ask(0, what, query))

    def ask(self, what: str, query: Mapping[str, str], reply: Reply) -> None:
        self._count += 1
        self._asked[self._count] = reply
        self.send(wire.Ask(self._count, what, dict(query)))

    def forget(self) -> None:
        """Whoever waits for an answer has given up."""
        self._asked.clear()

    def _on_message(self, message: wire.Message) -> None:
        if isinstance(message, wire.Hello):
            self._chief.greet(self)
        elif isinstance(message, wire.Subscribe):
            self.wanted |= set(message.add)
            self.wanted -= set(message.remove)
            self._chief.subscribe(message.add)
        elif isinstance(message, wire.ReportMessage):
            self.report = message.report
        elif isinstance(message, wire.ConnectFailure):
            self._chief.connect_failed(message)
        elif isinstance(message, wire.Told):
            reply = self._asked.pop(message.id, None)
            if reply is not None:
                reply(message.body)
        elif isinstance(message, wire.Ping):
            self.send(wire.Pong(message.id))


class Gathering:
    """The answers of several workers to one question; `done` is called once, with all that came
    in time."""

    def __init__(self, links: list[WorkerLink], done: Callable[[dict[WorkerLink, str]], None]):
        self._done: Callable[[dict[WorkerLink, str]], None] | None = done
        self._missing = len(links)
        self._answers: dict[WorkerLink, str] = {}
        self._timer = asyncio.get_running_loop().call_later(ANSWER, self._finish)
        if not links:
            self._finish()

    def take(self, link: WorkerLink, answer: str) -> None:
        self._answers[link] = answer
        self._missing -= 1
        if not self._missing:
            self._finish()

    def _finish(self) -> None:
        self._timer.cancel()
        done, self._done = self._done, None
        if done is not None:
            done(self._answers)


class First(Life):
    """See the module. `boss` is the socket on which the parent hands over new workers."""

    def __init__(
        self,
        settings: Settings,
        *,
        discovery: Discovery,
        credentials: Credentials,
        boss: socket.socket,
    ) -> None:
        super().__init__(settings, discovery=discovery, credentials=credentials)
        self._loop = loop = asyncio.get_running_loop()
        self._boss = boss
        self._links: list[WorkerLink] = []
        self._is_serving = self._is_draining = False
        self._retired: list[Series] = []
        self._retired_metrics = ""
        self._incarnation = os.urandom(8).hex()
        self._started = time.time()
        self._reported = monotonic()
        self._tasks: set[asyncio.Task[Any]] = set()
        dialler = Dialler(
            loop,
            credentials,
            Flusher(loop),
            timeout=settings.connect_timeout,
            mesh_namespace=settings.mesh_namespace,
        )
        self.admin = Admin(
            loop=loop,
            waiting_for=self.waiting_for,
            metrics=self.metrics,
            view=lambda: discovery.view,
            dial=lambda host, port, opened, failed: dialler.dial(host, port, None, opened, failed),
            pod_ips=settings.pod_ips,
        )
        self._admin_servers: list[Any] = []
        discovery.on_change(self._changed)
        discovery.on_ask(self.answer)
        discovery.keep(self._is_wanted)
        credentials.on_change(self._tell_credentials)

    async def start(self) -> None:
        """Listen for people, and for what the parent hands over."""
        self._admin_servers = await self.admin.listen(self._settings.admin_port)
        self._boss.setblocking(False)
        self._loop.add_reader(self._boss.fileno(), self._on_boss)

    # -- workers -----------------------------------------------------------------------------

    def _on_boss(self) -> None:
        data, descriptors, _, _ = socket.recv_fds(self._boss, 16, MOST_FDS)
        if not data:
            log.error("the parent is gone")
            os._exit(1)
        for descriptor in descriptors:
            link = WorkerLink(self, int(data))
            task = self._loop.create_task(self._connect(link, socket.socket(fileno=descriptor)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connect(self, link: WorkerLink, sock: socket.socket) -> None:
        receiver: Callable[[], Any] = lambda: link  # noqa: E731
        await self._loop.create_unix_connection(receiver, sock=sock)

    def greet(self, link: WorkerLink) -> None:
        """A worker is there: all that it has to know."""
        self._links.append(link)
        view = self._discovery.view
        whole = Update(
            view.version,
            targets=view.targets,
            services=view.services,
            inbound=view.inbound,
            app_done=view.app_done,
        )
        link.send(wire.UpdateMessage(whole, first=True))
        self._tell_credentials_to(link)
        if self._is_serving:
            link.tell("serve")
        if self._is_draining:
            link.tell("drain")

    def lost(self, link: WorkerLink) -> None:
        """A worker is gone: keep what it counted."""
        if link not in self._links:
            return
        self._links.remove(link)
        link.opened = 0
        if link.report is not None:
            gone = (Series(s.key, replace(s.counts, open=0)) for s in link.report.series)
            self._retired = list(merge_series([*self._retired, *gone]))
        if link.metrics:
            kept = without_gauges(link.metrics)
            self._retired_metrics = merge_metrics([self._retired_metrics, kept])

    def _changed(self, view: View, update: Update) -> None:
        step = replace(update, bundle=None)
        for link in self._links:
            link.send(wire.UpdateMessage(step))

    def _tell_credentials(self) -> None:
        for link in self._links:
            self._tell_credentials_to(link)

    def _tell_credentials_to(self, link: WorkerLink) -> None:
        held = self._credentials
        if held.not_after:
            link.tell("credentials", bundle=held.bundle, not_after=repr(held.not_after))

    def subscribe(self, addresses: list[str]) -> None:
        """A worker wants to know them; the answer is an update that all get."""
        for address in addresses:
            self._discovery.lookup(address, _ignore)

    def _is_wanted(self, address: str) -> bool:
        return any(address in link.wanted for link in self._links)

    def connect_failed(self, failure: wire.ConnectFailure) -> None:
        self._discovery.connect_failed(failure.address, failure.authority, failure.reason)

    # -- life --------------------------------------------------------------------------------

    async def serve(self) -> None:
        self._is_serving = True
        for link in self._links:
            link.tell("serve")

    def tick(self, now: float) -> None:
        for link in self._links:
            link.ask("open", {}, lambda text, link=link: _note_open(link, text))  # type: ignore[misc]
        if now - self._reported >= REPORT_INTERVAL:
            self._reported = now
            self.report()

    def opened(self) -> int:
        return sum(link.opened for link in self._links)

    def drain(self) -> None:
        self._is_draining = True
        for link in self._links:
            link.tell("drain")

    def report(self) -> None:
        parts = [s for link in self._links if link.report for s in link.report.series]
        self._discovery.send_report(
            Report(
                incarnation=self._incarnation,
                at=monotonic(),
                series=merge_series([*self._retired, *parts]),
                version=mesh.__version__,
                view_version=self._discovery.view.version,
                bundle_hash=hash_bundle(self._credentials.bundle),
                leaf_not_after=self._credentials.not_after,
            )
        )

    async def close(self) -> None:
        for server in self._admin_servers:
            server.close()
        for link in list(self._links):
            link.tell("end")
        await asyncio.sleep(0)

    # -- telling -----------------------------------------------------------------------------

    def answer(self, what: str, query: Mapping[str, str], reply: Reply) -> None:
        """Answer a person's question with what the workers say."""
        links = self._links if what in ("request", "endpoints", "observed") else self._links[:1]
        self._gather(
            what, query, links, lambda told: reply(merge_answers(what, list(told.values())))
        )

    def metrics(self, reply: Reply) -> None:
        """Give `reply` the text that /metrics answers."""
        self._gather("metrics", {}, self._links, lambda told: reply(self._joined(told)))

    def _gather(
        self,
        what: str,
        query: Mapping[str, str],
        links: list[WorkerLink],
        done: Callable[[dict[WorkerLink, str]], None],
    ) -> None:
        gathering = Gathering(list(links), done)
        for link in list(links):
            link.ask(what, query, lambda text, link=link: gathering.take(link, text))  # type: ignore[misc]

    def _joined(self, told: dict[WorkerLink, str]) -> str:
        texts, figures = [self._retired_metrics], []
        for link, answer in told.items():
            parts = json.loads(answer)
            link.metrics = parts["text"]
            texts.append(parts["text"])
            figures.append(parts["figures"])
        own = {
            "process_start_time_seconds": self._started,
            "mesh_view_version": float(self._discovery.view.version),
            "mesh_ready": float(self.is_ready()),
            "control_identity_cert_expiration_timestamp_seconds": self._credentials.not_after,
            "mesh_workers": float(len(self._links)),
        }
        usage = {
            "process_cpu_seconds_total": time.process_time(),
            "process_resident_memory_bytes": float(resident_bytes()),
        }
        gauges = {**own, **add_figures([usage, *figures])}
        counted = merge_metrics([_without_build(text) for text in texts])
        return counted + write_metrics(Telemetry(self._started), gauges)


def _without_build(text: str) -> str:
    """The version is told once, not added."""
    return text.partition("# TYPE proxy_build_info")[0]


def _note_open(link: WorkerLink, text: str) -> None:
    link.opened = int(text)


def _ignore(target: Target | None) -> None:
    """Workers hear of it by the update that all get."""


async def run(settings: Settings, environ: Mapping[str, str], boss: socket.socket) -> int:
    """Live from fork to end. The exit code."""
    discovery, credentials = connect_control(settings, environ)
    first = First(settings, discovery=discovery, credentials=credentials, boss=boss)
    await first.start()
    await live(first, credentials.run(), discovery.run())
    return 0
