"""The stream to destination: what this proxy knows of the cluster, and how it learns more.

The last view stays for as long as the process lives; a lost stream costs news, not knowledge.
After a reconnect the first update is complete and takes the old view's place in one step.
asyncio, ssl and msgspec only: every pod pays for what is imported here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, cast

from msgspec.structs import replace

import mesh
from mesh.core import labels
from mesh.core.errors import IdentityError, PeerError
from mesh.core.model import Service, Target, Update, View
from mesh.core.names import WorkloadId, join_address
from mesh.core.report import Report
from mesh.core.wire import (
    Ack,
    Ask,
    ConnectFailure,
    FrameReader,
    Hello,
    Message,
    Ping,
    Pong,
    Refusal,
    ReportMessage,
    Subscribe,
    Told,
    UpdateMessage,
    encode,
)
from mesh.runtime import tls
from mesh.runtime.bundle import hash_bundle

log = logging.getLogger(__name__)

MAX_TARGETS: Final = 20_000  # subscriptions of one proxy; an application may scan a network
_MAX_TRIES: Final = 4  # addresses that one attempt to connect goes through


@dataclass(frozen=True, slots=True)
class DiscoveryTiming:
    """All times in seconds."""

    answer: float = 0.5  # the longest that a look-up waits
    connect: float = 3.0  # TCP and TLS, each address
    first_view: float = 10.0  # from connect to the complete first view
    ping: float = 10.0  # three silent intervals end the stream
    backoff_first: float = 0.05
    backoff_last: float = 3.0
    idle: float = 600.0  # until a target that nobody asks for is no longer subscribed
    failure_gap: float = 1.0  # between two reports of one failing endpoint


class StreamCredentials(Protocol):
    """What the stream needs of `mesh.runtime.credentials.Credentials`."""

    @property
    def bundle(self) -> str: ...
    @property
    def ready(self) -> bool: ...
    def client_context(self, alpn: tuple[str, ...]) -> ssl.SSLContext: ...
    def on_change(self, callback: Callable[[], None]) -> None: ...
    def set_bundle(self, pem: str) -> None: ...


Done = Callable[[Target | None], None]
OnChange = Callable[[View, Update], None]
OnAsk = Callable[[str, Mapping[str, str], Callable[[str], None]], None]


class Discovery:
    """What is known of the cluster, and the stream that keeps it current.

    All methods belong to the event loop's thread. `run` never raises; cancel it to end.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        hello: Hello,
        server: WorkloadId,
        credentials: StreamCredentials,
        mesh_namespace: str = labels.MESH_NAMESPACE,
        timing: DiscoveryTiming | None = None,
    ) -> None:
        self.view = View()
        self.ready = False
        self.connected = False
        self.connects = 0
        self.last_reason = ""  # why the stream is away, a fixed word; "" while it is there
        self._host, self._port = host, port
        self._hello = hello
        self._server = server
        self._server_name = tls.server_name(server.dns(mesh_namespace))
        self._credentials = credentials
        self._timing = timing or DiscoveryTiming()
        self._stream: Stream | None = None
        self._callbacks: list[OnChange] = []
        self._used: dict[str, float] = {}  # subscribed address -> when it was last asked for
        self._waiting: dict[str, list[_Waiter]] = {}
        self._in_use: Callable[[str], bool] = lambda address: True
        self._on_ask: OnAsk | None = None
        self._report: Report | None = None
        self._failures: dict[str, float] = {}
        self._away_since: float | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._woken = asyncio.Event()
        credentials.on_change(self._woken.set)

    # -- for the data path ------------------------------------------------------------------

    def lookup(self, address: str, done: Done) -> None:
        """Call `done` with the target of `ip:port`: at once when it is known, else when it
        comes; with None when nobody knew within half a second, or destination is away."""
        now = self._now()
        if address in self._used:
            self._used[address] = now
        elif len(self._used) < MAX_TARGETS:
            self._used[address] = now
            self._send(Subscribe(add=[address]))
        target = self.view.targets.get(address)
        if target is not None or self._is_away(now) or address not in self._used:
            done(target)
            return
        waiter = _Waiter(done)
        self._waiting.setdefault(address, []).append(waiter)
        loop = asyncio.get_running_loop()
        waiter.timer = loop.call_later(self._timing.answer, self._give_up, address, waiter)

    def service(self, authority: str) -> Service | None:
        """One of the Services that the view's rules name."""
        return self.view.services.get(authority)

    def on_change(self, callback: OnChange) -> None:
        """Call back after each change, with the new view and the step that led to it."""
        self._callbacks.append(callback)

    def keep(self, in_use: Callable[[str], bool]) -> None:
        """Let `in_use` say of an address that was not asked for in a while whether something
        still goes there; if not, it is no longer subscribed. Without it nothing is dropped."""
        self._in_use = in_use

    def on_ask(self, answer: OnAsk) -> None:
        """Let `answer(what, query, reply)` answer what a person asks this proxy."""
        self._on_ask = answer

    def connect_failed(self, address: str, authority: str, reason: str) -> None:
        """Tell destination that an endpoint could not be reached, at most once a second each."""
        now = self._now()
        if now - self._failures.get(address, -1e9) < self._timing.failure_gap:
            return
        if len(self._failures) >= 1024:
            self._failures.clear()
        self._failures[address] = now
        self._send(ConnectFailure(address, authority, reason))

    def send_report(self, report: Report) -> None:
        """Send what was counted. While the stream is away the newest waits for its return:
        counts are cumulative, so a lost report loses nothing."""
        self._report = report
        if self._stream is not None and self._stream.is_open and not self._stream.is_paused:
            self._send(ReportMessage(report))

    # -- the stream -------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep a stream to destination for ever."""
        self._sweep()
        try:
            await self._keep_connected()
        finally:
            if self._sweeper is not None:
                self._sweeper.cancel()
            if self._stream is not None:
                self._stream.close("stopped")

    async def _keep_connected(self) -> None:
        wait = self._timing.backoff_first
        while True:
            if not self._credentials.ready:
                await self._wait_for_leaf()
                continue
            before = self.connects
            try:
                await self._connect()
            except (OSError, IdentityError, TimeoutError) as error:
                self._gone(_reason_of(error), str(error) or "no answer in time")
            except Exception:
                log.exception("stream to destination failed")
                self._gone("bug", "")
            wait = self._timing.backoff_first if self.connects > before else wait * 2
            wait = min(wait, self._timing.backoff_last)
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))

    async def _wait_for_leaf(self) -> None:
        self.last_reason = "no-leaf"
        self._woken.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._woken.wait()

    async def _connect(self) -> None:
        """One stream from connect to its end. Raises when no address gives one."""
        problem: Exception | None = None
        for address in await self._resolve():
            try:
                stream = await self._open(address)
            except (OSError, IdentityError, TimeoutError) as error:
                problem = error
                continue
            await stream.ended.wait()
            self._stream = None
            self._gone(stream.reason, f"stream to {address} ended")
            return
        raise problem or OSError(f"{self._host}: no address")

    async def _resolve(self) -> list[str]:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._timing.connect):
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        random.shuffle(addresses)
        return addresses[:_MAX_TRIES]

    async def _open(self, address: str) -> Stream:
        loop = asyncio.get_running_loop()
        context = self._credentials.client_context((labels.ALPN_STREAM,))
        async with asyncio.timeout(self._timing.connect):
            _, stream = await loop.create_connection(
                lambda: Stream(self._on_message, self._timing),
                address,
                self._port,
                ssl=context,
                server_hostname=self._server_name,
            )
        where = f"destination at {join_address(address, self._port)}"
        try:
            stream.prove(self._server, where)
        except IdentityError:
            stream.close("wrong-identity")
            raise
        self._begin(stream)
        return stream

    def _begin(self, stream: Stream) -> None:
        """The other end is who it should be: say who we are and what we want to know."""
        stream.open()
        self._stream = stream
        stream.send(self._hello)
        stream.send(Subscribe(add=list(self._used)))

    def _send(self, message: Message) -> None:
        if self._stream is not None:
            self._stream.send(message)

    def _gone(self, reason: str, message: str) -> None:
        if self.connected or reason != self.last_reason:
            log.warning("destination away reason=%s message=%s", reason, message)
        if self.connected or self._away_since is None:
            self._away_since = self._now()
        self.connected = False
        self.last_reason = reason

    # -- messages ---------------------------------------------------------------------------

    def _on_message(self, message: Message) -> None:
        match message:
            case UpdateMessage(update, first):
                self._apply(update, first)
            case Ask(id, what, query) if self._on_ask is not None:
                self._on_ask(what, query, lambda body: self._send(Told(id, body)))
            case Refusal(reason, text):
                log.warning("refused by destination reason=%s message=%.200s", reason, text)
                if self._stream is not None:
                    self._stream.close(reason[:64])

    def _apply(self, update: Update, first: bool) -> None:
        """Put one update in force, whole, and say so."""
        if first:
            update = _replacing(self.view, update)
        self.view = self.view.apply(update)
        if update.bundle:
            self._credentials.set_bundle(update.bundle)
        if first:
            self._became_ready()
        self._send(Ack(self.view.version, hash_bundle(self._credentials.bundle)))
        for callback in self._callbacks:
            try:
                callback(self.view, update)
            except Exception:
                log.exception("callback after a change of the view failed")
        for address in update.targets:
            self._answer(address, self.view.targets.get(address))

    def _became_ready(self) -> None:
        if not self.connected:
            log.info("view complete version=%d targets=%d", self.view.version, len(self._used))
        self.ready = self.connected = True
        self.connects += 1
        self.last_reason = ""
        if self._report is not None:
            self._send(ReportMessage(self._report))

    def _answer(self, address: str, target: Target | None) -> None:
        if target is None:
            return
        for waiter in self._waiting.pop(address, ()):
            waiter.call(target)

    def _give_up(self, address: str, waiter: _Waiter) -> None:
        waiters = self._waiting.get(address, [])
        if waiter in waiters:
            waiters.remove(waiter)
            if not waiters:
                del self._waiting[address]
            waiter.call(None)

    def _sweep(self) -> None:
        """Unsubscribe what nobody asked for in a while and nothing goes to."""
        now = self._now()
        dropped = []
        for address, used in list(self._used.items()):
            if now - used < self._timing.idle or address in self._waiting:
                continue
            if self._in_use(address):
                self._used[address] = now
            else:
                del self._used[address]
                dropped.append(address)
        if dropped:
            self._send(Subscribe(remove=dropped))
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(self._timing.idle / 10, self._sweep)

    def _is_away(self, now: float) -> bool:
        """Whether nobody has been there for so long that waiting for an answer is pointless."""
        since = self._away_since
        return not self.connected and since is not None and now - since >= self._timing.answer

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


class _Waiter:
    """One look-up that waits for its answer."""

    __slots__ = ("done", "timer")

    def __init__(self, done: Done) -> None:
        self.done = done
        self.timer: asyncio.TimerHandle | None = None

    def call(self, target: Target | None) -> None:
        if self.timer is not None:
            self.timer.cancel()
        try:
            self.done(target)
        except Exception:
            log.exception("look-up callback failed")


class Stream(asyncio.Protocol):
    """One connection to destination: frames in and out, and pings against silence."""

    def __init__(self, on_message: Callable[[Message], None], timing: DiscoveryTiming) -> None:
        self.ended = asyncio.Event()
        self.reason = "closed"
        self.is_open = False
        self.is_paused = False
        self._on_message = on_message
        self._timing = timing
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard = self._opened = self._loop.time()
        self._due = self._heard  # when the next tick should be
        self._has_view = False

    def prove(self, server: WorkloadId, where: str) -> None:
        """Raise IdentityError unless destination itself is at the other end."""
        assert self._transport is not None
        peer = self._transport.get_extra_info("ssl_object")
        if tls.peer_workload(peer) != server:
            raise IdentityError("wrong-identity", f"{where} is not {server.uri()}")
        if peer.selected_alpn_protocol() != labels.ALPN_STREAM:
            raise IdentityError("wrong-protocol", f"{where} does not speak {labels.ALPN_STREAM}")

    def open(self) -> None:
        """Let messages through, and ping from now on."""
        self.is_open = True
        self._plan_tick(self._loop.time())

    def send(self, message: Message) -> None:
        if self.is_open and self._transport is not None and not self._transport.is_closing():
            try:
                self._transport.write(encode(message))
            except ValueError as error:  # larger than a frame may be
                log.error("message not sent: %s", error)

    def close(self, reason: str) -> None:
        self.reason = reason
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's, so this is a cast, not a test.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        try:
            messages = self._reader.feed(data)
        except PeerError as error:
            log.error("destination sent what does not read: %s", error)
            self.close(error.reason)
            return
        for message in messages:
            if not self.is_open:
                return
            if isinstance(message, Ping):
                self.send(Pong(message.id))
                continue
            self._has_view = self._has_view or isinstance(message, UpdateMessage)
            self._on_message(message)

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        if self._timer is not None:
            self._timer.cancel()
        self.ended.set()

    def _plan_tick(self, now: float) -> None:
        self._due = now + self._timing.ping
        self._timer = self._loop.call_later(self._timing.ping, self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        if now - self._due > self._timing.ping:  # we were held up: what came is unread yet
            self._heard = now
        if now - self._heard > 3 * self._timing.ping:
            self.close("silent")
        elif not self._has_view and now - self._opened > self._timing.first_view:
            self.close("no-view")
        else:
            self.send(Ping())
            self._plan_tick(now)


def _replacing(view: View, update: Update) -> Update:
    """A complete update as a step from `view`: what it does not name is removed."""

    def gone(old: Mapping[str, object], new: Mapping[str, object]) -> dict[str, None]:
        return dict.fromkeys(old.keys() - new.keys())

    return replace(
        update,
        targets={**gone(view.targets, update.targets), **update.targets},
        services={**gone(view.services, update.services), **update.services},
    )


def _reason_of(error: BaseException) -> str:
    if isinstance(error, IdentityError):
        return error.reason
    if isinstance(error, TimeoutError):
        return "timeout"
    return tls.failure_reason(error)


def make_hello(*, namespace: str, pod: str, uid: str, node: str = "") -> Hello:
    """Who this proxy is, as the stream's first message."""
    return Hello(namespace=namespace, pod=pod, uid=uid, node=node, proxy_version=mesh.__version__)
