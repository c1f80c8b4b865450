"""The way to one endpoint: its load, its connections, and how a request gets one.

A hop hands an exchange an idle connection at once, or dials. The pool decides; this shell
opens, closes and reports what went wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from mesh.core.errors import PeerError
from mesh.core.labels import ALPN_HTTP1, ALPN_HTTP2, ALPN_OPAQUE
from mesh.core.model import Endpoint
from mesh.core.names import join_address
from proxy.balance import Load, Loaded
from proxy.batching import Batching
from proxy.dial import Dial, Dialler, Mesh, limit_silence
from proxy.exchange import Exchange, ServerSide
from proxy.http1 import KEEP, STRIP
from proxy.http2_frames import PEER, STRANGER
from proxy.pool import APPLICATION_IDLE, PEER_IDLE, Pool
from proxy.seams import Transport
from proxy.server_connection import ServerConnection
from proxy.server_streams import ServerStreams
from proxy.telemetry import TcpSeries

log = logging.getLogger(__name__)

PEER_SILENCE: Final = 10.0  # seconds; a proxy of ours always reads, and acknowledges at once
SERVER_SILENCE: Final = 60.0  # seconds; an application may take its time with a body
HEARD: Final = 0.1  # seconds for which it is known that somebody listens; asking takes a port

Failed = Callable[[Exchange, str], None]


class Hop(Loaded):
    """One endpoint as this proxy sees it. `tcp` counts the connections made to it.

    To a peer's proxy requests share a few HTTP/2 connections; upgrades, and peers that do not
    speak it, get HTTP/1 connections of their own. An application gets HTTP/2 for requests that
    came as HTTP/2, on connections that they share, and HTTP/1 for all others.
    """

    __slots__ = (
        "_dialler",
        "_heard_at",
        "_knocking",
        "_links",
        "_waiting",
        "address",
        "endpoint",
        "is_local",
        "is_retired",
        "limits",
        "load",
        "mesh",
        "pool",
        "references",
        "take",
        "tcp",
        "trust",
        "used",
    )

    tcp: TcpSeries

    def __init__(self, endpoint: Endpoint, dialler: Dialler, *, local: bool) -> None:
        self._dialler = dialler
        self.is_local = local
        self.is_retired = False
        self.used = now = monotonic()
        self.endpoint = endpoint
        self.address = join_address(endpoint.address, endpoint.port)
        self.load = Load(now)
        self.references = 0
        self.mesh: Mesh | None = None
        if endpoint.identity and not local:
            alpn = (ALPN_OPAQUE,) if endpoint.opaque else (ALPN_HTTP2, ALPN_HTTP1)
            self.mesh = Mesh(endpoint.identity, alpn)
        # A proxy's answers may carry our fields; an application's may not.
        self.trust = KEEP if self.mesh is not None and not endpoint.opaque else STRIP
        self.pool: Pool[ServerConnection] = Pool(
            APPLICATION_IDLE if self.mesh is None else PEER_IDLE
        )
        self._links: list[ServerStreams] = []
        self._waiting: list[tuple[Exchange, Failed]] | None = None  # for a link being dialled
        self._knocking: list[tuple[Exchange, Callable[[Exchange], None], Failed]] | None = None
        self._heard_at = 0.0
        # What serves the next request at once, or None: `send_fresh` then.
        self.take: Callable[[], ServerSide | None] = self.pool.take
        self.limits = STRANGER
        if self.mesh is not None and not endpoint.opaque:
            self.take = self._take_any
            self.limits = PEER

    def take_stream(self) -> ServerSide | None:
        """What serves the next HTTP/2 request at once, or None."""
        for link in self._links:
            if link.has_room:
                return link.open_stream()
        return None

    def take_shared(self) -> ServerSide | None:
        """What serves a request at once that another endpoint did not take: a stream of a link
        that peers have anyway. A connection of its own for each would cost a handshake each."""
        return self.take_stream() if self.limits is PEER else None

    def _take_any(self) -> ServerSide | None:
        return self.take_stream() or self.pool.take()

    @property
    def connections(self) -> int:
        """How many connections there are, idle or not."""
        return self.pool.open + len(self._links)

    @property
    def is_in_use(self) -> bool:
        """Whether there is a connection."""
        return self.pool.open > 0 or bool(self._links)

    def send_fresh(self, exchange: Exchange, failed: Failed) -> None:
        """Give the exchange a connection that is newly opened, its own where it has to be."""
        mesh, request = self.mesh, exchange.request
        if self.limits is STRANGER:
            if not request.is_http2 or request.upgrade:
                self._send_alone(exchange, failed, mesh)
                return
        elif request.upgrade:
            assert mesh is not None
            self._send_alone(exchange, failed, Mesh(mesh.identity, (ALPN_HTTP1,)))
            return
        if self._waiting is not None:
            self._wait(exchange, failed)
        else:
            self._waiting = []
            self._wait(exchange, failed)
            self.dial(self._link_opened, self._link_failed, mesh)

    def _send_alone(self, exchange: Exchange, failed: Failed, mesh: Mesh | None) -> None:
        def opened(transport: Transport) -> None:
            if not exchange.request.upgrade:  # a tunnel may rest as long as it likes
                self._limit_silence(transport, SERVER_SILENCE)
            exchange.sent = monotonic()
            exchange.attach(self._adopt(transport))

        exchange.attempt = self.dial(opened, lambda reason: failed(exchange, reason), mesh)

    def knock(self, exchange: Exchange, opened: Callable[[Exchange], None], failed: Failed) -> None:
        """Find out for an exchange whether anybody is there, and send nothing. One connection
        tells all that ask meanwhile, and soon after."""
        if monotonic() - self._heard_at < HEARD:
            opened(exchange)
            return
        if self._knocking is None:
            self._knocking = []
            self.dial(self._heard, self._unheard, self.mesh)
        entry = (exchange, opened, failed)
        self._knocking.append(entry)
        exchange.attempt = _Waiter(self._knocking, entry)

    def _heard(self, transport: Transport) -> None:
        transport.abort()
        self._heard_at = monotonic()
        asked, self._knocking = self._knocking or [], None
        for exchange, opened, _ in asked:
            exchange.attempt = None
            opened(exchange)

    def _unheard(self, reason: str) -> None:
        asked, self._knocking = self._knocking or [], None
        for exchange, _, failed in asked:
            failed(exchange, reason)

    def _wait(self, exchange: Exchange, failed: Failed) -> None:
        """Several exchanges wait for one link."""
        assert self._waiting is not None
        entry = (exchange, failed)
        self._waiting.append(entry)
        exchange.attempt = _Waiter(self._waiting, entry)

    def _link_opened(self, transport: Transport) -> None:
        waiting, self._waiting = self._waiting or [], None
        if self.limits is PEER:
            chosen = transport.get_extra_info("ssl_object").selected_alpn_protocol()
            if chosen != ALPN_HTTP2:
                self._fall_back(transport, waiting)
                return
        self._limit_silence(transport, PEER_SILENCE if self.limits is PEER else SERVER_SILENCE)
        if self.limits is STRANGER:
            transport = Batching(transport, self._dialler.loop.call_soon)
        now = monotonic()
        link = ServerStreams(transport, self, now, self.limits)
        transport.set_protocol(link)
        self._links.insert(0, link)
        self.tcp.add(link)
        for exchange, failed in waiting:
            if link.has_room:
                exchange.sent = now
                exchange.attach(link.open_stream())
            else:
                self.send_fresh(exchange, failed)  # more than one connection may carry
        if self.is_retired:  # while we dialled: serve who waited, take nobody else
            link.close()

    def _fall_back(self, transport: Transport, waiting: list[tuple[Exchange, Failed]]) -> None:
        """The peer speaks HTTP/1 only: one connection each."""
        self._limit_silence(transport, SERVER_SILENCE)
        connection = self._adopt(transport)
        if not waiting:
            connection.close()
            return
        mesh = self.mesh and Mesh(self.mesh.identity, (ALPN_HTTP1,))
        for exchange, failed in waiting[1:]:
            self._send_alone(exchange, failed, mesh)
        waiting[0][0].sent = monotonic()
        waiting[0][0].attach(connection)

    def _link_failed(self, reason: str) -> None:
        waiting, self._waiting = self._waiting or [], None
        for exchange, failed in waiting:
            failed(exchange, reason)

    def dial(
        self, opened: Callable[[Transport], None], failed: Callable[[str], None], mesh: Mesh | None
    ) -> Dial:
        return self._dialler.dial(self.endpoint.address, self.endpoint.port, mesh, opened, failed)

    def dial_opaque(
        self, opened: Callable[[Transport], None], failed: Callable[[str], None]
    ) -> Dial:
        """Connect for bytes that nobody will parse."""
        mesh = self.mesh and Mesh(self.mesh.identity, (ALPN_OPAQUE,))
        return self.dial(opened, failed, mesh)

    def _adopt(self, transport: Transport) -> ServerConnection:
        connection = ServerConnection(transport, self, trust=self.trust)
        transport.set_protocol(connection)
        self.pool.open += 1
        self.tcp.add(connection)
        return connection

    def _limit_silence(self, transport: Transport, seconds: float) -> None:
        """What is asked of a machine that is gone goes to another before long."""
        if not self.is_local:
            limit_silence(transport, seconds)

    # -- connections call --------------------------------------------------------------------

    def give(self, connection: ServerConnection, now: float) -> None:
        """An exchange is over and its connection can serve another."""
        self.used = now
        if self.is_retired:
            connection.close()
            return
        extra = self.pool.give(connection, now)
        if extra is not None:
            extra.close()

    def forget(self, connection: ServerConnection) -> None:
        """A connection that will soon be gone must not be given out."""
        self.pool.drop(connection, monotonic())

    def connection_lost(self, connection: ServerConnection, error: BaseException | None) -> None:
        self.pool.open -= 1
        self.pool.drop(connection, monotonic())
        self.tcp.remove(connection, error)

    def streams_lost(self, streams: ServerStreams, error: BaseException | None) -> None:
        if streams in self._links:
            self._links.remove(streams)
        self.tcp.remove(streams, error)

    def streams_refused(self, streams: ServerStreams, error: PeerError) -> None:
        """A server broke HTTP/2's rules: what it is asked from now on goes elsewhere."""
        log.warning("server broke HTTP/2 at=%s reason=%s: %s", self.address, error.reason, error)

    # -- the owner calls -----------------------------------------------------------------------

    def expire(self, now: float) -> None:
        """Close what has been idle for too long; let the load of long ago fade."""
        self.load.fade(now)
        for connection in self.pool.expire(now):
            connection.close()
        for link in list(self._links):
            link.refill()
            if not link.streams and now - link.idle_since >= PEER_IDLE:
                link.close()

    def renew(self) -> None:
        """Credentials have changed: what is idle ends, new connections use the new leaf."""
        for connection in self.pool.empty():
            connection.close()
        for link in list(self._links):
            link.close()

    def retire(self) -> None:
        """The endpoint is gone: finish what runs, keep nothing."""
        self.is_retired = True
        self.renew()

    def abort(self) -> None:
        """End all connections at once."""
        self.retire()
        for link in list(self._links):
            link.abort()


class _Waiter:
    """An exchange's place among those that wait for one link."""

    __slots__ = ("_entry", "_waiting")

    def __init__(self, waiting: list[Any], entry: Any) -> None:
        self._waiting = waiting
        self._entry = entry

    def cancel(self) -> None:
        if self._entry in self._waiting:
            self._waiting.remove(self._entry)
