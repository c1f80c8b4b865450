"""The inbound pipeline: what happens to a connection that came for this pod, in order.

1. Where was it meant to go? Only ports of this pod, never our own.
2. Is it one of our proxies? A ClientHello with our name and an ALPN of ours is ended here and
   its identity is proven; any other ClientHello is the application's and passes through.
3. What does it speak? The ALPN says it, or the port's declaration, or detection.
4. HTTP: each request goes to the application with the client's proven identity, and is
   counted. Anything else: bytes both ways.
"""

from __future__ import annotations

import logging
from asyncio import AbstractEventLoop
from typing import Any, Final

from mesh.core import labels
from mesh.core.errors import IdentityError, PeerError
from mesh.core.match import CompilePattern
from mesh.core.model import BY_CONNECTION, Endpoint, Protocol, Target, Update, View
from mesh.core.model import Inbound as InboundView
from mesh.core.names import join_address
from mesh.core.quantity import has_port
from mesh.core.report import SeriesKey
from mesh.core.route import CompiledClass, RouteTable
from mesh.runtime import tls as mesh_tls
from proxy import grpc, retry
from proxy.access import AccessLog
from proxy.answer import Outcome, dial_outcome
from proxy.batching import Batching
from proxy.classes import Classes
from proxy.client_connection import ClientConnection, Keeper
from proxy.client_streams import ClientStreams
from proxy.detect import (
    Verdict,
    classify,
    classify_http1,
    classify_http2,
    guess,
    read_hello,
)
from proxy.dial import Dialler
from proxy.exchange import Exchange, Journey, Pipeline
from proxy.guard import Fields
from proxy.handshakes import Handshakes
from proxy.heads import path_of
from proxy.hop import Hop
from proxy.http1 import COLLECT, COLON, CRLF, STRIP, Request, Response
from proxy.http2_frames import PEER, STRANGER, Limits
from proxy.joining import Joining
from proxy.lineage import Lineage
from proxy.opening import MUTE, Opening
from proxy.plan import CANONICAL
from proxy.seams import Credentials, Discovery, Transport, peer_address
from proxy.settings import Settings
from proxy.telemetry import HttpSeries, Labels, TcpSeries, Telemetry
from proxy.tls import Flusher, TlsLink
from proxy.verdicts import Verdicts

log = logging.getLogger(__name__)

ALPN: Final = (labels.ALPN_HTTP2, labels.ALPN_HTTP1, labels.ALPN_OPAQUE)
# How long the inbound side waits for a first byte before it asks the application. A proxy of ours
# sends its ClientHello at once, but on a busy machine that can be late, and an application that
# speaks first would answer it in plaintext: the handshake fails. Only unmeshed clients of such
# applications wait this long.
HELLO_PATIENCE: Final = 0.25
_MESH: Final = "mesh"
_TERMINATED: Final = (_MESH, Verdict.HTTP1.value, Verdict.HTTP2.value)
_CLIENT_FIRST: Final = (Protocol.HTTP1, Protocol.HTTP2, Protocol.GRPC)


class Inbound:
    """What all inbound connections share."""

    def __init__(
        self,
        *,
        loop: AbstractEventLoop,
        settings: Settings,
        discovery: Discovery,
        credentials: Credentials,
        dialler: Dialler,
        flusher: Flusher,
        telemetry: Telemetry,
        keeper: Keeper,
        access: AccessLog,
        lineage: Lineage | None = None,
        pattern: CompilePattern,
    ) -> None:
        self.loop = loop
        self.settings = settings
        self.discovery = discovery
        self.credentials = credentials
        self.telemetry = telemetry
        self.keeper = keeper
        self.access = access
        self.lineage = lineage or Lineage()
        # The object responsible for what this pod answers itself.
        self.origin = f"Pod/{settings.pod_namespace}/{settings.pod_name}"
        self.verdicts = Verdicts()
        self.handshakes = Handshakes(loop, flusher)
        self.own_ports = frozenset((settings.outbound_port, settings.inbound_port))
        self.server_name = mesh_tls.server_name(credentials.identity)
        self.alpn: tuple[str, ...] = ALPN
        self._dialler = dialler
        self._pattern = pattern
        self._hops: dict[tuple[str, int], Hop] = {}
        self._ports: dict[int, Protocol] = {}
        self._profiles: dict[str, Classes] = {}
        self._on_change(discovery.view, Update(0, inbound=discovery.view.inbound))
        discovery.on_change(self._on_change)

    @property
    def requires_tls(self) -> bool:
        return self.settings.require_tls or self.discovery.view.inbound.require_tls

    def accept(self, transport: Transport, host: str, port: int) -> None:
        """Take a connection that was meant for `host:port`."""
        InboundConnection(self, transport, host, port).start()

    def protocol(self, port: int) -> Protocol:
        """What a port of this pod is declared to speak."""
        if has_port(self.settings.opaque_ports, port):
            return Protocol.OPAQUE
        return self._ports.get(port, Protocol.DETECT)

    def hop(self, host: str, port: int) -> Hop:
        """The way to the application."""
        hop = self._hops.get((host, port))
        if hop is None:
            hop = self._hops[host, port] = Hop(Endpoint(host, port), self._dialler, local=True)
            key = SeriesKey(direction="inbound", kind="tcp", port=port)
            hop.tcp = self.telemetry.tcp_series(
                key,
                (("direction", "inbound"), ("tls", "no_identity"), ("no_tls_reason", "loopback")),
                "dst",
            )
        return hop

    def classes(self, authority: str) -> Classes | None:
        """The route classes of a service that this pod serves, where it has a profile."""
        return self._profiles.get(authority)

    def hops(self) -> list[Hop]:
        return list(self._hops.values())

    def sweep(self, now: float) -> None:
        """Close idle connections to the application; forget ports that nobody uses."""
        for key, hop in list(self._hops.items()):
            hop.expire(now)
            if not hop.is_in_use and hop.load.pending == 0 and now - hop.used > 60.0:
                del self._hops[key]

    def _on_change(self, view: View, update: Update) -> None:
        if update.inbound is None:
            return
        inbound: InboundView = view.inbound
        self._ports = {entry.port: entry.protocol for entry in inbound.ports}
        profiles = {}
        for authority, profile in inbound.profiles.items():
            target = Target(authority, profile=profile)
            try:
                profiles[authority] = Classes(authority, RouteTable(target, self._pattern))
            except ValueError as error:
                log.error("profile of %s does not compile: %s", authority, error)
        self._profiles = profiles


class InboundConnection(Pipeline):
    """One connection to this pod, and the pipeline of its requests."""

    __slots__ = (
        "_client_id",
        "_host",
        "_identity",
        "_in",
        "_labels",
        "_opening",
        "_port",
        "_series",
        "_tcp",
        "_transport",
    )

    def __init__(self, inbound: Inbound, transport: Transport, host: str, port: int) -> None:
        self._in = inbound
        self._transport = transport
        self._host = host
        self._port = port
        self._identity = ""
        self._client_id: list[bytes] = []
        self._labels: Labels = ()
        self._series: dict[object, HttpSeries] = {}
        self._opening = Opening(transport, inbound.loop, self._gone)
        self._tcp: TcpSeries

    # -- 1. where to ---------------------------------------------------------------------------

    def start(self) -> None:
        self._transport.set_protocol(self._opening)
        if self._port in self._in.own_ports:
            self._refuse(Outcome.LOOP.value.reason)
        elif self._in.settings.pod_ips and self._host not in self._in.settings.pod_ips:
            self._refuse("not-this-pod")
        else:
            silence, silent = MUTE, self._hang_up
            if not (self._in.requires_tls or self._in.protocol(self._port) in _CLIENT_FIRST):
                silence = self._in.verdicts.patience(self._port, HELLO_PATIENCE)
                silent = self._ask_application
            self._opening.decide(
                self._look,
                self._decided,
                otherwise=Verdict.OPAQUE.value,
                silence=silence,
                silent=silent,
                stalled=self._guess,
            )

    # -- 2 and 3. who it is and what it speaks -----------------------------------------------

    def _look(self, data: bytes) -> str | None:
        if not data:
            return None
        if data[0] == 0x16:
            hello = read_hello(data)
            if hello is None:
                return None
            if hello.server_name == self._in.server_name and any(
                a in self._in.alpn for a in hello.alpn
            ):
                return _MESH
            return Verdict.OPAQUE.value
        protocol = self._in.protocol(self._port)
        if protocol is Protocol.HTTP1:
            return classify_http1(data)
        if protocol is Protocol.HTTP2 or protocol is Protocol.GRPC:
            return classify_http2(data)
        return Verdict.OPAQUE.value if protocol in BY_CONNECTION else classify(data)

    def _guess(self, data: bytes) -> str:
        is_opaque = self._in.protocol(self._port) in BY_CONNECTION
        return Verdict.OPAQUE.value if is_opaque else guess(data).value

    def _decided(self, verdict: str) -> None:
        self._in.telemetry.detected("inbound", verdict, self._opening.age)
        if verdict == _MESH:
            self._terminate()
            return
        self._know_peer("")
        if verdict == Verdict.HTTP1.value:
            self._in.verdicts.client_spoke(self._port, Verdict.HTTP1)
            self._serve_http(self._opening, STRIP)
        elif verdict == Verdict.HTTP2.value:
            self._in.verdicts.client_spoke(self._port, Verdict.HTTP2)
            self._serve_http2(self._opening, STRANGER)
        elif self._in.requires_tls:
            self._refuse(Outcome.TLS_REQUIRED.value.reason)
        else:
            self._serve_opaque(self._opening)

    def _terminate(self) -> None:
        """End the TLS of one of our proxies and prove who it is."""
        try:
            context = self._in.credentials.server_context(self._in.alpn)
        except IdentityError as error:
            self._refuse(error.reason)
            return
        self._in.handshakes.begin(self._opening, context, self._proven, self._refuse)

    def _proven(self, link: TlsLink, error: BaseException | None) -> None:
        if error is not None:
            self._in.telemetry.count(
                "inbound_tcp_errors_total", error=mesh_tls.failure_reason(error)
            )
            return
        identity = mesh_tls.peer_identity(link.ssl, mesh_namespace=self._in.settings.mesh_namespace)
        if identity is None:
            self._in.telemetry.count("inbound_tcp_errors_total", error="no-identity")
            link.abort()
            return
        self._transport = link
        self._know_peer(identity)
        inside = Opening(link, self._in.loop, self._gone)
        link.set_protocol(inside)
        self._opening = inside
        alpn = link.ssl.selected_alpn_protocol()
        if alpn == labels.ALPN_HTTP2:
            self._serve_http2(inside, PEER)
        elif alpn == labels.ALPN_HTTP1:
            self._serve_http(inside, COLLECT)
        else:
            self._serve_opaque(inside)

    def _know_peer(self, identity: str) -> None:
        self._identity = identity
        address = join_address(self._host, self._port)
        tls: Labels = (("tls", "no_identity"), ("no_tls_reason", "no_tls_from_remote"))
        if identity:
            tls = (("tls", "true"), ("client_id", identity))
            self._client_id = [labels.H_CLIENT_ID, COLON, identity.encode(), CRLF]
        self._labels = (
            ("direction", "inbound"),
            ("target_addr", address),
            ("target_ip", self._host),
            ("target_port", str(self._port)),
            *tls,
        )
        key = SeriesKey(
            direction="inbound",
            kind="tcp",
            port=self._port,
            peer_identity=identity,
            tls=bool(identity),
        )
        self._tcp = self._in.telemetry.tcp_series(key, self._labels, "src")
        if self._tcp.labels == self._labels:
            self._labels = self._tcp.labels  # one copy for all connections of this peer

    def _ask_application(self) -> None:
        """The client is silent: connect, and let whoever talks first decide."""
        self._know_peer("")
        joining = self._join(self._opening)
        joining.server_first(self._application_spoke)

        def client_spoke(verdict: str) -> None:
            if verdict in _TERMINATED:
                joining.cancel()
                self._decided(verdict)
            else:
                self._in.telemetry.detected("inbound", verdict, self._opening.age)
                joining.join()

        self._opening.decide(
            self._look, client_spoke, otherwise=Verdict.OPAQUE.value, stalled=self._guess
        )

    def _application_spoke(self) -> None:
        self._in.telemetry.detected("inbound", "server-first", self._opening.age)
        self._in.verdicts.server_spoke(self._port)

    # -- 4a. HTTP --------------------------------------------------------------------------------

    def _serve_http(self, opening: Opening, trust: int) -> None:
        client = ClientConnection(self._transport, self, self._in.keeper, trust=trust)
        self._tcp.add(client)
        opening.take(client)

    def _serve_http2(self, opening: Opening, limits: Limits) -> None:
        transport = self._transport
        if limits is STRANGER:
            transport = Batching(transport, self._in.loop.call_soon)
        client = ClientStreams(transport, self, self._in.keeper, limits)
        self._tcp.add(client)
        opening.take(client)

    def begin(self, exchange: Exchange) -> None:
        """Send one request to the application."""
        request = exchange.request
        if not self._identity and self._in.requires_tls and not self._is_probe(request):
            exchange.answer(Outcome.TLS_REQUIRED, self._in.origin)
            return
        if request.ours is not None:
            came = self._in.lineage.enter(request, exchange.started)
            if came is not None:
                exchange.journey = Journey()
                exchange.journey.came = came
        exchange.extra = self._client_id
        if not request.host:
            address = join_address(self._host, self._port).encode()
            exchange.extra = [*exchange.extra, b"Host", COLON, address, CRLF]
        self._series_of(exchange).requests += 1
        hop = self._in.hop(self._host, self._port)
        exchange.endpoint = hop
        exchange.load = hop.load
        hop.load.begin()
        server = hop.take_stream() if request.is_http2 else hop.take()
        if server is not None:
            exchange.attach(server)
        else:
            hop.send_fresh(exchange, self._dial_failed)

    def _is_probe(self, request: Request) -> bool:
        probes = self._in.settings.probes
        return (
            bool(probes)
            and request.method == b"GET"
            and (self._port, path_of(request.target)) in probes
        )

    def _series_of(self, exchange: Exchange) -> HttpSeries:
        ours = exchange.request.ours
        classes = None
        if ours is not None and self._identity:
            authority = ours.get(CANONICAL, b"").decode("latin-1")
            classes = self._in.classes(authority)
        found = classes.find(exchange.request) if classes is not None else None
        exchange.plan = found
        probe = not self._identity and self._is_probe(exchange.request)
        key = (classes.authority if classes is not None else "", found, probe)
        series = self._series.get(key)
        if series is None:
            apex = classes.authority if classes is not None else ""
            series = self._series[key] = self._in.telemetry.http_series(
                SeriesKey(
                    direction="inbound",
                    kind="http",
                    apex=apex,
                    port=self._port,
                    peer_identity=self._identity,
                    route=found.route.name if found else labels.PROBE_ROUTE if probe else "",
                    profile=classes.profile if classes is not None and found is not None else "",
                    tls=bool(self._identity),
                ),
                self._labels,
            )
        exchange.series = series
        return series

    def _dial_failed(self, exchange: Exchange, reason: str) -> None:
        exchange.attempt = None
        exchange.decline(dial_outcome(reason), reason, self._in.origin)

    def lost(self, exchange: Exchange, reason: str) -> None:
        """The application hung up before answering: once more, or elsewhere, where that is
        safe."""
        if retry.after_dead_connection(exchange, reason):
            exchange.tried = []
            exchange.endpoint.send_fresh(exchange, self._dial_failed)
            return
        if retry.was_unread(exchange, reason):
            exchange.decline(Outcome.SERVER_CLOSED, "server-closed", self._in.origin)
            return
        if retry.may_be_dropped(exchange, reason):
            exchange.endpoint.knock(exchange, self._answer_closed, self._answer_ended)
            return
        bad = reason == "bad-response"
        outcome = Outcome.BAD_RESPONSE if bad else Outcome.SERVER_CLOSED
        exchange.answer(outcome, self._in.origin)

    def _answer_closed(self, exchange: Exchange) -> None:
        """The application goes on: what it closed without an answer has none."""
        exchange.answer(Outcome.SERVER_CLOSED, self._in.origin)

    def _answer_ended(self, exchange: Exchange, reason: str) -> None:
        """Nobody listens any more: a peer may ask elsewhere."""
        exchange.attempt = None
        more: Fields = []
        if self._identity and reason == "connect-failed":
            more = [labels.H_RETRY, COLON, retry.ONCE, CRLF]
        exchange.answer(Outcome.SERVER_CLOSED, self._in.origin, more=more)

    def responded(self, exchange: Exchange, response: Response) -> bool:
        lineage = self._in.lineage
        if response.status >= 500 and self._identity and lineage.pushes_back(exchange.started):
            response.fields = [*response.fields, labels.H_RETRY, COLON, b"no", CRLF]
        return False

    def finished(self, exchange: Exchange, now: float) -> None:
        """Count it, whatever became of it."""
        if exchange.load is not None:
            exchange.load.pending -= 1
        if exchange.journey is not None and exchange.journey.came is not None:
            self._in.lineage.leave(exchange.journey.came)
        status, error = exchange.status, exchange.error
        series: HttpSeries | None = exchange.series
        if series is None:
            self._in.telemetry.count("inbound_http_errors_total", error=error)
        else:
            found: CompiledClass | None = exchange.plan
            failed = error != "" or status >= 500
            if found is not None and not error:
                said = found.is_failure(status)
                failed = failed if said is None else said
            failed = failed or exchange.code in grpc.FAILURES
            series.record(status, failed, error, exchange.started, now)
            observed = self._in.telemetry.observed
            if observed.credit > 0 and series.key.route != labels.PROBE_ROUTE:
                observed.look(str(self._port), exchange, now)
        if self._in.access.is_on:
            self._in.access.write(
                "inbound",
                exchange,
                client=peer_address(self._transport),
                identity=self._identity,
                seconds=now - exchange.started,
            )

    def refused(self, error: PeerError) -> None:
        self._in.telemetry.count("inbound_http_errors_total", error=error.reason)

    def closed(self, client: Any, error: BaseException | None) -> None:
        self._tcp.remove(client, error)

    # -- 4b. bytes -------------------------------------------------------------------------------

    def _serve_opaque(self, opening: Opening) -> None:
        self._join(opening).join()

    def _join(self, opening: Opening) -> Joining:
        return Joining(
            self._in.loop,
            opening,
            self._in.hop(self._host, self._port),
            src=self._tcp,
            failed=self._join_failed,
            tunnels=self._in.keeper.tunnels,
        )

    def _join_failed(self, joining: Joining, reason: str) -> None:
        self._refuse(reason)

    def _refuse(self, reason: str) -> None:
        self._in.telemetry.count("inbound_tcp_errors_total", error=reason)
        log.debug("refused port=%s reason=%s", self._port, reason)
        self._opening.close()

    def _hang_up(self) -> None:
        """Whoever may come in here speaks first, and this one does not."""
        self._refuse("silent")

    def _gone(self) -> None:
        """The client left before anything was decided."""
