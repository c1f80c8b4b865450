"""A client's connection and one to an endpoint, on their way to become a tunnel.

While the endpoint is dialled the client's bytes wait in its `Opening`. With `server_first` the
two are joined as soon as the server has said something; `join` joins them in any case.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable
from time import monotonic

from proxy.dial import Dial
from proxy.hop import Hop
from proxy.opaque import Tunnel
from proxy.opening import Opening
from proxy.seams import Transport
from proxy.telemetry import TcpSeries


class Joining:
    """See the module. `failed` may call `start` again with another endpoint."""

    __slots__ = (
        "_attempt",
        "_failed",
        "_is_over",
        "_loop",
        "_opening",
        "_server",
        "_server_spoke",
        "_src",
        "_started",
        "_tunnels",
        "_wanted",
        "hop",
        "tried",
    )

    def __init__(
        self,
        loop: AbstractEventLoop,
        opening: Opening,
        hop: Hop,
        *,
        src: TcpSeries,
        failed: Callable[[Joining, str], None],
        tunnels: set[Tunnel],
    ) -> None:
        self._loop = loop
        self._opening = opening
        self._src = src
        self._failed = failed
        self._tunnels = tunnels
        self._server: Opening | None = None
        self._server_spoke: Callable[[], None] | None = None
        self._wanted = False
        self._is_over = False
        self._attempt: Dial | None = None
        self.tried: tuple[Hop, ...] = ()
        opening.on_lost = self.cancel
        self.start(hop)

    def start(self, hop: Hop) -> None:
        """Dial an endpoint."""
        self.hop = hop
        self._started = monotonic()
        hop.load.begin()
        self._attempt = hop.dial_opaque(self._opened, self._dial_failed)

    def server_first(self, spoke: Callable[[], None]) -> None:
        """Join when the server says something; then call `spoke`."""
        self._server_spoke = spoke

    def join(self) -> None:
        """The client's bytes are for this server: join as soon as there is a connection."""
        self._wanted = True
        if self._server is not None:
            self._make_tunnel()

    def cancel(self) -> None:
        """The connection is not wanted: drop it, whatever its state."""
        if self._is_over:
            return
        self._is_over = True
        self.hop.load.pending -= 1
        if self._attempt is not None:
            self._attempt.cancel()
        if self._server is not None:
            self._server.close()

    def _opened(self, transport: Transport) -> None:
        self._attempt = None
        now = monotonic()
        self.hop.load.observe(now - self._started, now)
        self._server = Opening(transport, self._loop, self._server_lost)
        transport.set_protocol(self._server)
        if self._wanted:
            self._make_tunnel()
        else:
            self._server.decide(lambda data: True if data else None, self._heard, otherwise=True)

    def _heard(self, _: bool) -> None:
        if self._server_spoke is not None and self._server is not None and self._server.data:
            self._server_spoke()
        self._make_tunnel()

    def _dial_failed(self, reason: str) -> None:
        self._attempt = None
        self.hop.load.pending -= 1
        self.tried = (*self.tried, self.hop)
        if not self._is_over:
            self._failed(self, reason)

    def _server_lost(self) -> None:
        if not self._is_over:
            self._is_over = True
            self.hop.load.pending -= 1
            self._opening.close()

    def _make_tunnel(self) -> None:
        if self._is_over or self._server is None:
            return
        self._is_over = True
        tunnel = Tunnel(
            self._loop, self._opening.transport, self._server.transport, self._tunnel_over
        )
        self._tunnels.add(tunnel)
        self._src.add(tunnel.client)
        self.hop.tcp.add(tunnel.server)
        self._server.take(tunnel.server)
        self._opening.take(tunnel.client)

    def _tunnel_over(self, tunnel: Tunnel, error: BaseException | None) -> None:
        self._tunnels.discard(tunnel)
        self.hop.load.pending -= 1
        self._src.remove(tunnel.client, error)
        self.hop.tcp.remove(tunnel.server, error)
