"""One proxy's stream: what it was told, what it has yet to be told, and what it says.

A session holds no queue of updates. It remembers the view that it sent last; when something
that view depends on changes, the hub asks it to catch up, and it sends the one step from then
to now. A slow proxy so costs one view, however much changes meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Protocol, TypeVar, cast

from msgspec import structs

from destination.admit import Refused, check_certificate
from destination.facts import Key
from destination.snapshot import Snapshot
from destination.view import Client, Sight, difference, look, whole
from mesh.core import labels, wire
from mesh.core.errors import PeerError
from mesh.core.model import Update
from mesh.core.names import WorkloadId, split_authority
from mesh.core.older import for_wire
from mesh.core.report import ProxyStatus, Report
from mesh.runtime import tls

log = logging.getLogger(__name__)

MAX_SUBSCRIPTIONS: Final = 25_000
_LONGEST_ADDRESS: Final = 260  # characters of `[v6]:port`, or of a name and its port
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SessionTiming:
    """All times in seconds."""

    hello: float = 5.0  # from the handshake to hello and subscriptions
    ping: float = 10.0  # three silent intervals end the stream
    stuck: float = 30.0  # how long a proxy may leave its stream unread


class State(Enum):
    HELLO = "hello"  # nothing said yet
    CHECKING = "checking"  # hello is being checked; what comes meanwhile waits
    SUBSCRIBING = "subscribing"  # admitted; the first subscriptions make the first view
    OPEN = "open"
    CLOSED = "closed"


class Hub(Protocol):
    """What a session needs of the server."""

    timing: SessionTiming
    trust_domain: str

    @property
    def snapshot(self) -> Snapshot: ...
    def connected(self, session: Session) -> None: ...
    def disconnected(self, session: Session) -> None: ...
    def check_hello(self, session: Session, hello: wire.Hello, peer: WorkloadId) -> None: ...
    def joined(self, session: Session) -> None: ...
    def left(self, session: Session, reason: str) -> None: ...
    def depends(self, session: Session, old: Sight | None, new: Sight) -> None: ...
    def wants(self, session: Session) -> None: ...
    def failed(self, session: Session, failure: wire.ConnectFailure) -> None: ...
    def reported(self, session: Session, report: Report) -> None: ...
    def told(self, session: Session, told: wire.Told) -> None: ...


class Session(asyncio.Protocol):
    """The server side of one stream."""

    def __init__(self, hub: Hub) -> None:
        self.state = State.HELLO
        self.client = Client("", "")
        self.hello: wire.Hello | None = None
        self.peer: WorkloadId | None = None
        self.address = ""
        self.opened = 0.0  # loop time
        self.sent = 0  # version of the newest view sent
        self.acked = 0
        self.bundle_hash = ""
        self.leaf_not_after = 0.0
        self.sight: Sight | None = None
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._reader = wire.FrameReader()
        self._transport: asyncio.Transport | None = None
        self._subscribed: dict[str, None] = {}
        self._waiting: list[wire.Message] = []
        self._timer: asyncio.TimerHandle | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._heard = 0.0
        self._due = 0.0  # when the next tick should be
        self._paused_at: float | None = None
        self._reason = "closed-by-proxy"

    @property
    def key(self) -> Key:
        return self.client.key

    # -- from the hub -----------------------------------------------------------------------

    def admit(self, node: str) -> None:
        """The hello holds: go on with what came after it."""
        if self.state is not State.CHECKING:
            return
        assert self.hello is not None
        self.client = Client(self.hello.namespace, self.hello.pod, node)
        self.state = State.SUBSCRIBING
        self._hub.joined(self)
        waiting, self._waiting = self._waiting, []
        for message in waiting:
            self._handle(message)

    def refuse(self, refused: Refused) -> None:
        """Say why and close."""
        if self.state is State.CLOSED:
            return
        self._write(wire.Refusal(refused.reason, refused.message))
        self._close(refused.reason, gracefully=True)

    def catch_up(self) -> bool:
        """Send the step from the view sent last to the snapshot's. False: nothing to send, or
        the proxy reads too slowly, in which case it asks again when it has caught up."""
        if self.state is not State.OPEN or self._paused_at is not None:
            return False
        sight = look(self._hub.snapshot, self.client, self._subscribed, version=self.sent + 1)
        old = self.sight
        update = whole(sight.view) if old is None else difference(old.view, sight.view)
        if update is None:
            assert old is not None
            sight = replace(sight, view=old.view)
        self.sight = sight
        self._hub.depends(self, old, sight)
        if update is None:
            return False
        self.sent = update.version
        spoken = self.hello.wire if self.hello is not None else wire.WIRE_VERSION
        for frame in frames_of(for_wire(update, spoken), first=old is None):
            self._send(frame)
        return True

    def ask(self, ask: wire.Ask) -> None:
        """Pass a person's question on."""
        self._write(ask)

    def disconnect(self, reason: str, message: str) -> None:
        """End the stream on our side."""
        self.refuse(Refused(reason, message))

    def abort(self) -> None:
        """End the connection in the middle of whatever it does."""
        if self._transport is not None:
            self._transport.abort()

    def status(self, now: float) -> ProxyStatus:
        """What is known of this proxy; `now` in the loop's time."""
        return ProxyStatus(
            namespace=self.client.namespace,
            pod=self.client.pod,
            version=self.hello.proxy_version[:64] if self.hello is not None else "",
            sent=self.sent,
            acked=self.acked,
            bundle_hash=self.bundle_hash,
            leaf_not_after=self.leaf_not_after,
            connected=now - self.opened,
        )

    # -- asyncio.Protocol -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's, so this is a cast, not a test.
        self._transport = cast(asyncio.Transport, transport)
        self._hub.connected(self)
        self.opened = self._heard = self._loop.time()
        peer = transport.get_extra_info("ssl_object")
        self.peer = tls.peer_workload(peer)
        self.address = str((transport.get_extra_info("peername") or ("",))[0])
        self._due = self.opened + self._hub.timing.hello
        self._timer = self._loop.call_later(self._hub.timing.hello, self._tick)
        if peer.selected_alpn_protocol() != labels.ALPN_STREAM:
            self.refuse(Refused("wrong-protocol", f"expected ALPN {labels.ALPN_STREAM}"))
        self._end_with_leaf(peer)

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        try:
            messages = self._reader.feed(data)
            for message in messages:
                if self.state is State.CLOSED:
                    return
                if self.state is State.CHECKING:
                    self._hold(message)
                else:
                    self._handle(message)
        except PeerError as error:
            self.refuse(Refused(error.reason, str(error)))
        except Exception:
            log.exception("session failed pod=%s/%s", *self.key)
            self._close("bug")

    def pause_writing(self) -> None:
        self._paused_at = self._loop.time()

    def resume_writing(self) -> None:
        self._paused_at = None
        if self.state is State.OPEN:
            self._hub.wants(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._close(self._reason)
        self._hub.disconnected(self)

    # -- messages ---------------------------------------------------------------------------

    def _hold(self, message: wire.Message) -> None:
        """A proxy pipelines its subscriptions behind its hello, and little else."""
        if len(self._waiting) >= 64:
            raise PeerError("too-early", "expected to wait for the hello's answer")
        self._waiting.append(message)

    def _handle(self, message: wire.Message) -> None:
        match message:
            case wire.Ping(id):
                self._write(wire.Pong(id))
            case wire.Pong():
                pass
            case wire.Hello() if self.state is State.HELLO:
                self._on_hello(message)
            case wire.Subscribe(add, remove) if self.state in (State.SUBSCRIBING, State.OPEN):
                self._on_subscribe(add, remove)
            case wire.Ack(version, bundle_hash) if self.state is State.OPEN:
                self.acked, self.bundle_hash = version, bundle_hash[:64]
            case wire.ConnectFailure() if self.state is State.OPEN:
                self._hub.failed(self, message)
            case wire.Told() if self.state is State.OPEN:
                self._hub.told(self, message)
            case wire.ReportMessage(report) if self.state in (State.SUBSCRIBING, State.OPEN):
                self.leaf_not_after = report.leaf_not_after
                self._hub.reported(self, report)
            case _:
                what = type(message).__name__
                raise PeerError("out-of-order", f"{what} not expected in state {self.state.value}")

    def _on_hello(self, hello: wire.Hello) -> None:
        refused = check_certificate(hello, self.peer, self._hub.trust_domain)
        if refused is not None:
            self.refuse(refused)
            return
        assert self.peer is not None
        self.hello, self.state = hello, State.CHECKING
        self._hub.check_hello(self, hello, self.peer)

    def _on_subscribe(self, add: list[str], remove: list[str]) -> None:
        for address in add:
            host, port = split_authority(address)
            if port is None or not host or len(address) > _LONGEST_ADDRESS:
                raise PeerError("bad-address", f"expected ip:port, got {address[:80]!r}")
            self._subscribed[address] = None
        for address in remove:
            self._subscribed.pop(address, None)
        if len(self._subscribed) > MAX_SUBSCRIPTIONS:
            raise PeerError("too-many", f"at most {MAX_SUBSCRIPTIONS} subscriptions")
        if self.state is State.SUBSCRIBING:
            self.state = State.OPEN
            self.catch_up()
        else:
            self._hub.wants(self)

    # -- the connection ---------------------------------------------------------------------

    def _write(self, message: wire.Message) -> None:
        self._send(wire.encode(message))

    def _send(self, frame: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)

    def _tick(self) -> None:
        now, timing = self._loop.time(), self._hub.timing
        if now - self._due > timing.ping:  # it is us who were held up: what came is unread yet
            self._heard = now
        if self.state is not State.OPEN and now - self.opened >= timing.hello:
            self._close("no-hello")
        elif now - self._heard > 3 * timing.ping:
            self._close("silent")
        elif self._paused_at is not None and now - self._paused_at > timing.stuck:
            self._close("stuck")
        else:
            self._write(wire.Ping())
            self._due = now + timing.ping
            self._timer = self._loop.call_later(timing.ping, self._tick)

    def _end_with_leaf(self, peer: ssl.SSLObject) -> None:
        """No stream outlives the leaf that opened it; the proxy comes back with its new one."""
        certificate = peer.getpeercert()
        if not certificate:
            return
        left = ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()
        if left < 7 * 86400:  # a timer has its limits, and a leaf lives a day
            self._expiry = self._loop.call_later(
                max(0.0, left), self.disconnect, "leaf-ended", "come back with a valid leaf"
            )

    def _close(self, reason: str, *, gracefully: bool = False) -> None:
        if self.state is State.CLOSED:
            return
        self.state, self._reason = State.CLOSED, reason
        for timer in (self._timer, self._expiry):
            if timer is not None:
                timer.cancel()
        if self._transport is not None:
            if gracefully:
                self._transport.close()
            else:
                self._transport.abort()
        self._hub.left(self, reason)


def frames_of(update: Update, *, first: bool) -> list[bytes]:
    """An update as frames: one, unless it is larger than a frame may be. Then Services go
    before the targets whose rules name them, so that each step can be put in force."""
    try:
        return [wire.encode(wire.UpdateMessage(update, first))]
    except ValueError:
        log.warning("view too large for one frame version=%d", update.version)
    frames = [
        wire.encode(wire.UpdateMessage(structs.replace(update, services={}, targets={}), first))
    ]
    frames += _parts(list(update.services.items()), lambda part: Update(update.version, {}, part))
    frames += _parts(list(update.targets.items()), lambda part: Update(update.version, part))
    return frames


def _parts(items: list[tuple[str, T]], step: Callable[[dict[str, T]], Update]) -> Iterator[bytes]:
    """Frames that together hold all items, each as many as fit."""
    try:
        yield wire.encode(wire.UpdateMessage(step(dict(items))))
    except ValueError:
        if len(items) < 2:
            log.error("entry too large for a frame, left out key=%s", items[0][0])
            return
        middle = len(items) // 2
        yield from _parts(items[:middle], step)
        yield from _parts(items[middle:], step)
