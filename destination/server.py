"""The shell around snapshots and sessions: accepts streams, and tells each what concerns it.

`publish` takes a new snapshot with its reach; sessions that depend on something in it catch
up in rounds. A round begins at once after a quiet time, and no sooner than the last one took
after a busy one, so that a storm of changes coalesces instead of queueing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from typing import Final, TypeVar

from destination.admit import check_pod
from destination.facts import Key, Pod
from destination.metrics import Metrics
from destination.session import Session, SessionTiming, State
from destination.snapshot import Reach, Snapshot
from destination.store import Index, Store
from destination.view import Sight
from mesh.core import labels
from mesh.core.errors import ApiError
from mesh.core.names import WorkloadId, split_authority
from mesh.core.report import ProxyAnswer, ProxyStatus, Report
from mesh.core.wire import Ask, ConnectFailure, Hello, Told
from mesh.runtime.credentials import Credentials
from mesh.runtime.listen import open_listeners
from mesh.runtime.tls import rotating_server_context

log = logging.getLogger(__name__)

_HANDSHAKE_SECONDS: Final = 5.0
_SHUTDOWN_SECONDS: Final = 1.0
_ROUND: Final = 64  # sessions per turn of the loop
_SHORTEST_GAP: Final = 0.002  # seconds between two rounds
ASK_SECONDS: Final = 2.0  # that a proxy has to answer a person
MOST_ASKED: Final = 500  # proxies asked for one question
_RECHECK_GAP: Final = 5.0  # seconds between two checks of one failing address


# Reads one pod from the API into the store, or its absence. Raises ApiError.
ReadPod = Callable[[Key], Awaitable[None]]
KeepReport = Callable[[Key, str, Report], None]  # pod, workload, report
H = TypeVar("H", bound=Hashable)


class StreamServer:
    """All streams of this replica. Methods belong to the event loop's thread."""

    def __init__(
        self,
        *,
        store: Store,
        snapshot: Snapshot,
        credentials: Credentials,
        metrics: Metrics,
        read_pod: ReadPod,
        keep_report: KeepReport,
        trust_domain: str = labels.TRUST_DOMAIN,
        timing: SessionTiming | None = None,
        host: str = "",
        port: int = labels.DESTINATION_PORT,
    ) -> None:
        self.snapshot = snapshot
        self.timing = timing or SessionTiming()
        self.trust_domain = trust_domain
        self.port = port  # the real one after start
        self.sessions: set[Session] = set()  # admitted
        self._connections: set[Session] = set()  # all
        self._emptied = asyncio.Event()
        self._store = store
        self._credentials = credentials
        self._metrics = metrics
        self._read_pod = read_pod
        self._keep_report = keep_report
        self._host = host
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._by_service: Index[Key, Session] = Index()
        self._by_address: Index[str, Session] = Index()
        self._by_pod: Index[Key, Session] = Index()
        self._dirty: dict[Session, None] = {}
        self._queue: deque[Session] = deque()
        self._round: asyncio.Handle | None = None
        self._round_began = 0.0
        self._next_round = 0.0
        self._changed_at: float | None = None
        self._checked: dict[str, float] = {}
        self._asked: dict[int, tuple[Session, asyncio.Future[str]]] = {}
        self._asks = 0

    # -- life -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen. Raises ConfigError when the port cannot be had."""
        listeners = open_listeners(self._host, self.port)
        self.port = listeners[0].getsockname()[1]
        context = rotating_server_context(
            lambda: self._credentials.server_context((labels.ALPN_STREAM,))
        )
        loop = asyncio.get_running_loop()
        for listener in listeners:
            server = await loop.create_server(
                lambda: Session(self),
                sock=listener,
                ssl=context,
                ssl_handshake_timeout=_HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
            )
            self._servers.append(server)

    async def drain(self) -> None:
        """Take no new stream, and send the proxies to another replica."""
        for server in self._servers:
            server.close()
        for session in list(self.sessions):
            session.disconnect("shutdown", "this replica ends; another one answers")

    async def stop(self) -> None:
        """Free what is left."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self._servers:
            server.close()
        if self._round is not None:
            self._round.cancel()
        for session in self._connections:
            session.abort()
        while self._connections:
            self._emptied.clear()
            await self._emptied.wait()

    # -- snapshots --------------------------------------------------------------------------

    def publish(self, snapshot: Snapshot, reach: Reach) -> None:
        """Put a new snapshot in force and let those whom it concerns catch up."""
        self.snapshot = snapshot
        concerned: set[Session] = set()
        for service in reach.services:
            concerned |= self._by_service.get(service, set())
        for address in reach.addresses:
            concerned |= self._by_address.get(address, set())
        for pod in reach.pods:
            sessions = self._by_pod.get(pod, set())
            concerned |= sessions
            for session in list(sessions):
                self._check_again(session)
        if reach.bundle:
            concerned |= self.sessions
        if concerned and self._changed_at is None:
            self._changed_at = asyncio.get_running_loop().time()
        self._dirty.update(dict.fromkeys(concerned))
        self._plan_round()

    def wants(self, session: Session) -> None:
        """A session has something to catch up with."""
        self._dirty[session] = None
        self._plan_round()

    def depends(self, session: Session, old: Sight | None, new: Sight) -> None:
        """Keep who depends on what."""
        if old is None or old.services != new.services:
            _move(self._by_service, session, old.services if old else (), new.services)
        if old is None or old.addresses != new.addresses:
            _move(self._by_address, session, old.addresses if old else (), new.addresses)

    def _plan_round(self) -> None:
        if self._round is not None or not self._dirty:
            return
        loop = asyncio.get_running_loop()
        wait = self._next_round - loop.time()
        self._round = (
            loop.call_later(wait, self._begin) if wait > 0 else loop.call_soon(self._begin)
        )

    def _begin(self) -> None:
        self._round_began = asyncio.get_running_loop().time()
        self._queue.extend(self._dirty)
        self._dirty.clear()
        self._turn()

    def _turn(self) -> None:
        """Let some sessions catch up, then let the loop do other things."""
        for _ in range(min(_ROUND, len(self._queue))):
            session = self._queue.popleft()
            try:
                if session.catch_up():
                    self._metrics.updates.inc()
            except Exception:
                log.exception("no update for pod %s/%s", *session.key)
                self._metrics.bugs.inc()
        loop = asyncio.get_running_loop()
        if self._queue:
            self._round = loop.call_soon(self._turn)
            return
        self._round = None
        now = loop.time()
        self._next_round = now + max(_SHORTEST_GAP, now - self._round_began)
        if self._changed_at is not None and not self._dirty:
            self._metrics.push_seconds.observe(now - self._changed_at)
            self._changed_at = None
        self._plan_round()

    # -- sessions ---------------------------------------------------------------------------

    def connected(self, session: Session) -> None:
        self._connections.add(session)

    def disconnected(self, session: Session) -> None:
        self._connections.discard(session)
        if not self._connections:
            self._emptied.set()

    def check_hello(self, session: Session, hello: Hello, peer: WorkloadId) -> None:
        refused = check_pod(hello, peer, session.address, self._pod(hello))
        if refused is None:
            session.admit(self._node(hello))
        elif refused.stale:
            self._spawn(self._ask_api(session, hello, peer))
        else:
            session.refuse(refused)

    def joined(self, session: Session) -> None:
        self.sessions.add(session)
        self._by_pod.link(session.key, session)
        self._metrics.streams.set(len(self.sessions))
        log.info("proxy joined pod=%s/%s address=%s", *session.key, session.address)

    def left(self, session: Session, reason: str) -> None:
        if session not in self.sessions:
            self._metrics.refused.labels(reason).inc()
            log.warning("stream refused reason=%s address=%s", reason, session.address)
            return
        self.sessions.discard(session)
        self._dirty.pop(session, None)
        self._by_pod.unlink(session.key, session)
        if session.sight is not None:
            _move(self._by_service, session, session.sight.services, ())
            _move(self._by_address, session, session.sight.addresses, ())
        self._metrics.streams.set(len(self.sessions))
        log.info("proxy left pod=%s/%s reason=%s", *session.key, reason)

    def reported(self, session: Session, report: Report) -> None:
        pod = self.snapshot.pods.get(session.key)
        self._keep_report(session.key, pod.workload if pod is not None else "", report)

    def failed(self, session: Session, failure: ConnectFailure) -> None:
        """An endpoint that one proxy cannot reach is looked up again in the API, since our
        watch may have missed its end."""
        self._metrics.count_failure(failure.reason)
        host, _ = split_authority(failure.address)
        key = self.snapshot.pod_ips.get(host)
        now = asyncio.get_running_loop().time()
        if key is None or now - self._checked.get(host, -_RECHECK_GAP) < _RECHECK_GAP:
            return
        if len(self._checked) > 4096:
            self._checked.clear()
        self._checked[host] = now
        self._spawn(self._recheck(key))

    def proxy_statuses(self) -> tuple[ProxyStatus, ...]:
        """All connected proxies, for `mesh check --proxy`."""
        now = asyncio.get_running_loop().time()
        return tuple(session.status(now) for session in sorted(self.sessions, key=_by_name))

    async def ask(
        self,
        what: str,
        query: Mapping[str, str],
        *,
        namespace: str = "",
        pod: str = "",
        most: int = MOST_ASKED,
    ) -> tuple[ProxyAnswer, ...]:
        """Ask at most so many of the connected proxies something; those that answer in time,
        by name."""
        chosen = [
            session
            for session in sorted(self.sessions, key=_by_name)
            if session.state is State.OPEN
            and namespace in ("", session.key[0])
            and pod in ("", session.key[1])
        ][: max(0, min(most, MOST_ASKED))]
        waiting = {self._ask(session, what, query): session for session in chosen}
        try:
            if waiting:
                await asyncio.wait(waiting, timeout=ASK_SECONDS)
            return tuple(
                ProxyAnswer(*session.key, future.result())
                for future, session in waiting.items()
                if future.done()
            )
        finally:
            for future in waiting:
                future.cancel()
            self._asked = {key: asked for key, asked in self._asked.items() if not asked[1].done()}

    def _ask(self, session: Session, what: str, query: Mapping[str, str]) -> asyncio.Future[str]:
        self._asks += 1
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._asked[self._asks] = session, future
        session.ask(Ask(self._asks, what, dict(query)))
        return future

    def told(self, session: Session, told: Told) -> None:
        """A proxy has answered."""
        asked, future = self._asked.get(told.id, (None, None))
        if asked is session and future is not None and not future.done():
            future.set_result(told.body)

    async def _ask_api(self, session: Session, hello: Hello, peer: WorkloadId) -> None:
        try:
            await self._read_pod((hello.namespace, hello.pod))
        except ApiError as error:
            log.warning("pod not read pod=%s/%s: %s", hello.namespace, hello.pod, error)
        refused = check_pod(hello, peer, session.address, self._pod(hello))
        if refused is None:
            session.admit(self._node(hello))
        else:
            session.refuse(refused)

    async def _recheck(self, key: Key) -> None:
        try:
            await self._read_pod(key)
        except ApiError as error:
            log.debug("pod not read pod=%s/%s: %s", *key, error)

    def _check_again(self, session: Session) -> None:
        """A pod that is gone, or has become another one, has no stream."""
        assert session.hello is not None
        assert session.peer is not None
        refused = check_pod(session.hello, session.peer, session.address, self._pod(session.hello))
        if refused is not None and session.state is not State.CLOSED:
            session.refuse(refused)

    def _pod(self, hello: Hello) -> Pod | None:
        return self._store.pods.get((hello.namespace, hello.pod))

    def _node(self, hello: Hello) -> str:
        pod = self._pod(hello)
        return pod.node if pod is not None else ""

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("task failed", exc_info=task.exception())


def _by_name(session: Session) -> Key:
    return session.key


def _move(index: Index[H, Session], session: Session, old: Iterable[H], new: Iterable[H]) -> None:
    before, after = set(old), set(new)
    for key in before - after:
        index.unlink(key, session)
    for key in after - before:
        index.link(key, session)
