"""The way to one endpoint: its load, its connections, and how a request gets one.

A hop hands an exchange an idle connection at once, or dials. The pool decides; this shell
opens, closes and reports what went wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from mesh.core.labels import ALPN_HTTP1, ALPN_OPAQUE
from mesh.core.model import Endpoint
from mesh.core.names import join_address
from proxy.balance import Load
from proxy.dial import Dial, Dialler, Mesh
from proxy.exchange import Exchange
from proxy.http1 import KEEP, STRIP
from proxy.pool import APPLICATION_IDLE, PEER_IDLE, Pool
from proxy.seams import Transport
from proxy.server_connection import ServerConnection
from proxy.telemetry import TcpSeries


class Hop:
    """One endpoint as this proxy sees it. `tcp` counts the connections made to it."""

    __slots__ = (
        "_dialler",
        "address",
        "endpoint",
        "is_local",
        "is_retired",
        "load",
        "mesh",
        "pool",
        "references",
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
            alpn = ALPN_OPAQUE if endpoint.opaque else ALPN_HTTP1
            self.mesh = Mesh(endpoint.identity, (alpn,))
        # A proxy's answers may carry our fields; an application's may not.
        self.trust = KEEP if self.mesh is not None and not endpoint.opaque else STRIP
        self.pool: Pool[ServerConnection] = Pool(
            APPLICATION_IDLE if self.mesh is None else PEER_IDLE
        )

    def send_fresh(self, exchange: Exchange, failed: Callable[[Exchange, str], None]) -> None:
        """Give the exchange a connection of its own, newly opened."""

        def opened(transport: Transport) -> None:
            exchange.attach(self._adopt(transport))

        exchange.attempt = self.dial(opened, lambda reason: failed(exchange, reason), self.mesh)

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
        self.pool.drop(connection)

    def connection_lost(self, connection: ServerConnection, error: BaseException | None) -> None:
        self.pool.open -= 1
        self.pool.drop(connection)
        self.tcp.remove(connection, error)

    # -- the owner calls -----------------------------------------------------------------------

    def expire(self, now: float) -> None:
        """Close what has been idle for too long; let the load of long ago fade."""
        self.load.fade(now)
        for connection in self.pool.expire(now):
            connection.close()

    def renew(self) -> None:
        """Credentials have changed: idle connections end, new ones use the new leaf."""
        for connection in self.pool.empty():
            connection.close()

    def retire(self) -> None:
        """The endpoint is gone: finish what runs, keep nothing."""
        self.is_retired = True
        self.renew()
