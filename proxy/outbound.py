"""The outbound pipeline: what happens to a connection that the application opened, in order.

1. Where was it meant to go? Discovery says what that address is.
2. What does it speak? Declared, remembered or detected; a silent client means that the server
   is asked, and whoever talks first decides.
3. HTTP: each request is routed, balanced, sent, retried where that is safe, and counted.
   Anything else: one endpoint for the whole connection, bytes both ways.

An endpoint that is meshed is spoken to with mutual TLS or not at all.
"""

from __future__ import annotations

import logging
import random
from asyncio import AbstractEventLoop
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from mesh.core.errors import PeerError
from mesh.core.model import Protocol, Update, View
from mesh.core.names import join_address
from mesh.core.report import SeriesKey
from proxy import retry
from proxy.access import AccessLog
from proxy.answer import Outcome, dial_outcome
from proxy.balance import pick
from proxy.client_connection import ClientConnection, Keeper
from proxy.client_streams import ClientStreams
from proxy.detect import Verdict, classify
from proxy.exchange import Exchange
from proxy.hop import Hop
from proxy.http1 import COLON, CRLF
from proxy.http2_frames import STRANGER
from proxy.joining import Joining
from proxy.opening import SILENCE, Opening
from proxy.seams import Credentials, Discovery, Transport, peer_address
from proxy.settings import Settings
from proxy.targets import Plan, Targets, TargetState
from proxy.telemetry import HttpSeries, TcpSeries, Telemetry
from proxy.verdicts import Verdicts

log = logging.getLogger(__name__)

_OPAQUE: Final = (Protocol.OPAQUE, Protocol.TLS)
_HTTP: Final = (Verdict.HTTP1, Verdict.HTTP2)


class Outbound:
    """What all outbound connections share."""

    def __init__(
        self,
        *,
        loop: AbstractEventLoop,
        settings: Settings,
        discovery: Discovery,
        credentials: Credentials,
        targets: Targets,
        telemetry: Telemetry,
        keeper: Keeper,
        access: AccessLog,
    ) -> None:
        self.loop = loop
        self.discovery = discovery
        self.targets = targets
        self.telemetry = telemetry
        self.keeper = keeper
        self.access = access
        self.verdicts = Verdicts()
        self.random: Callable[[], float] = random.random
        self._settings = settings
        self.requires_tls = settings.require_tls or discovery.view.inbound.require_tls
        discovery.on_change(self._on_change)
        self.own_ports = frozenset((settings.outbound_port, settings.inbound_port))
        credentials.on_change(self._renew)

    def accept(self, transport: Transport, host: str, port: int) -> None:
        """Take a connection that was meant for `host:port`."""
        OutboundConnection(self, transport, host, port).start()

    def _on_change(self, view: View, update: Update) -> None:
        self.requires_tls = self._settings.require_tls or view.inbound.require_tls

    def _renew(self) -> None:
        for hop in self.targets.hops():
            if hop.mesh is not None:
                hop.renew()


class OutboundConnection:
    """One connection of the application, and the pipeline of its requests."""

    __slots__ = (
        "_address",
        "_client",
        "_opening",
        "_out",
        "_port",
        "_state",
        "_tcp",
        "_transport",
        "read_bytes",
        "written_bytes",
    )

    def __init__(self, out: Outbound, transport: Transport, host: str, port: int) -> None:
        self._out = out
        self._transport = transport
        self._address = join_address(host, port)
        self._port = port
        self._opening = Opening(transport, out.loop, self._gone)
        self._state: TargetState
        self._client: ClientConnection | None = None
        key = SeriesKey(direction="outbound", kind="tcp")
        labels = (("direction", "outbound"), ("tls", "no_identity"), ("no_tls_reason", "loopback"))
        self._tcp: TcpSeries = out.telemetry.tcp_series(key, labels, "src")
        self.read_bytes = 0
        self.written_bytes = 0

    # -- 1. where to ---------------------------------------------------------------------------

    def start(self) -> None:
        self._transport.set_protocol(self._opening)
        if self._port in self._out.own_ports:
            self._refuse(Outcome.LOOP)
            return
        self._out.targets.find(self._address, self._found)

    def _found(self, state: TargetState) -> None:
        if self._transport.is_closing():
            return
        self._state = state
        if state.reason:
            self._out.telemetry.count("outbound_plaintext_total", reason=state.reason)
        self._choose_protocol(state.protocol)

    # -- 2. what it speaks ---------------------------------------------------------------------

    def _choose_protocol(self, protocol: Protocol) -> None:
        if protocol is Protocol.HTTP1:
            self._serve_http()
        elif protocol in _OPAQUE or self._out.verdicts.is_opaque(self._state.key):
            self._serve_opaque()
        elif protocol is Protocol.HTTP2 or protocol is Protocol.GRPC:
            self._opening.decide(classify, self._decided, otherwise=Verdict.OPAQUE)
        else:
            patience = self._out.verdicts.patience(self._state.key, SILENCE)
            self._opening.decide(
                classify,
                self._decided,
                otherwise=Verdict.OPAQUE,
                silence=patience,
                silent=self._ask_server,
            )

    def _decided(self, verdict: Verdict) -> None:
        self._out.telemetry.count("outbound_detect_total", protocol=verdict.value)
        self._out.verdicts.client_spoke(self._state.key, verdict)
        if verdict is Verdict.HTTP1:
            self._serve_http()
        elif verdict is Verdict.HTTP2:
            self._serve_http2()
        else:
            self._serve_opaque()

    def _ask_server(self) -> None:
        """The client is silent: connect, and let whoever talks first decide."""
        hop = self._pick_hop()
        if isinstance(hop, Outcome):
            self._refuse(hop)
            return
        joining = self._join(hop)
        joining.server_first(self._server_spoke)

        def client_spoke(verdict: Verdict) -> None:
            if verdict in _HTTP:
                joining.cancel()
                self._decided(verdict)
            else:
                self._out.verdicts.client_spoke(self._state.key, verdict)
                joining.join()

        self._opening.decide(classify, client_spoke, otherwise=Verdict.OPAQUE)

    def _server_spoke(self) -> None:
        self._out.telemetry.count("outbound_detect_total", protocol="server-first")
        self._out.verdicts.server_spoke(self._state.key)

    # -- 3a. HTTP --------------------------------------------------------------------------------

    def _serve_http(self) -> None:
        client = ClientConnection(self._transport, self, self._out.keeper)
        self._client = client
        self._tcp.add(client)
        self._opening.take(client)

    def _serve_http2(self) -> None:
        client = ClientStreams(self._transport, self, self._out.keeper, STRANGER)
        self._tcp.add(client)
        self._opening.take(client)

    def begin(self, exchange: Exchange) -> None:
        """Route one request and pick who serves it."""
        plan = self._state.single or self._route(exchange)
        if plan is None:
            return
        out = self._out
        exchange.plan = plan
        hop: Hop | None = pick(plan.backend.hops, out.random)
        if hop is None or (hop.mesh is None and out.requires_tls and not hop.is_local):
            self._deny(exchange, plan, hop)
            return
        if plan.timeout is not None:
            exchange.timer = out.loop.call_later(plan.timeout, self._timed_out, exchange)
        series = plan.series.get(hop) or out.targets.http_series(plan, hop)
        series.requests += 1
        exchange.series = series
        if hop.mesh is not None:
            exchange.extra = plan.extra
        request = exchange.request
        if not request.host:
            exchange.extra = [b"Host", COLON, self._address.encode(), CRLF, *exchange.extra]
        exchange.endpoint = hop
        exchange.load = load = hop.load
        load.begin()
        if request.upgrade:
            connection = None
        else:
            connection = hop.take_stream() if request.is_http2 else hop.take()
        if connection is not None:
            exchange.attach(connection)
        else:
            hop.send_fresh(exchange, self._dial_failed)

    def _route(self, exchange: Exchange) -> Plan | None:
        plan = self._state.plan(exchange.request, self._out.random)
        if isinstance(plan, Outcome):
            exchange.answer(plan)
            return None
        return plan

    def _send_again(self, exchange: Exchange, plan: Plan) -> None:
        """Nothing was sent: ask another endpoint."""
        hop: Hop | None = pick(plan.backend.hops, self._out.random, exchange.tried or ())
        if hop is None or (hop.mesh is None and not hop.is_local and self._out.requires_tls):
            self._deny(exchange, plan, hop)
            return
        exchange.series = plan.series.get(hop) or self._out.targets.http_series(plan, hop)
        self._hand(exchange, hop)
        hop.send_fresh(exchange, self._dial_failed)

    def _deny(self, exchange: Exchange, plan: Plan, hop: Hop | None) -> None:
        outcome = Outcome.UNMESHED_TARGET
        if hop is None:
            outcome = plan.backend.denial or Outcome.NO_ENDPOINTS
        exchange.answer(outcome, plan.origin or plan.leaf)

    def _hand(self, exchange: Exchange, hop: Hop) -> None:
        """The exchange counts in the load of this endpoint, and of no other."""
        if exchange.load is not None:
            exchange.load.pending -= 1
        exchange.endpoint = hop
        exchange.load = hop.load
        hop.load.begin()

    def _dial_failed(self, exchange: Exchange, reason: str) -> None:
        exchange.attempt = None
        plan: Plan = exchange.plan
        hop: Hop = exchange.endpoint
        self._out.discovery.connect_failed(hop.address, plan.leaf, reason)
        exchange.tried = [*(exchange.tried or ()), hop]
        others = sum(other not in exchange.tried for other in plan.backend.hops)
        if retry.after_connect_failure(len(exchange.tried), others):
            self._send_again(exchange, plan)
        else:
            exchange.answer(dial_outcome(reason), plan.origin or plan.leaf, reason)

    def lost(self, exchange: Exchange, reason: str) -> None:
        """The server hung up before answering: once more where that is safe."""
        plan: Plan = exchange.plan
        if reason == "refused-stream":
            tried = exchange.tried = [*(exchange.tried or ()), exchange.endpoint]
            if retry.after_refusal(exchange, len(tried)):
                self._send_again(exchange, plan)
            else:
                exchange.answer(Outcome.CONNECT_FAILED, plan.origin or plan.leaf)
            return
        if retry.after_dead_connection(exchange):
            exchange.tried = []
            exchange.endpoint.send_fresh(exchange, self._dial_failed)
            return
        outcome = {
            "bad-response": Outcome.BAD_RESPONSE,
            "tls-failed": Outcome.TLS_FAILED,
        }.get(reason, Outcome.SERVER_CLOSED)
        exchange.answer(outcome, plan.origin or plan.leaf)

    def _timed_out(self, exchange: Exchange) -> None:
        exchange.timer = None
        exchange.answer(Outcome.TIMEOUT, exchange.plan.origin or exchange.plan.leaf)

    def responded(self, exchange: Exchange) -> None:
        """A final response head is here: the endpoint's latency is known."""
        if exchange.load is not None:
            now = monotonic()
            exchange.load.observe(now - exchange.started, now)

    def finished(self, exchange: Exchange, now: float) -> None:
        """Count it, whatever became of it."""
        if exchange.load is not None:
            exchange.load.pending -= 1
        plan: Plan | None = exchange.plan
        error = exchange.error
        if plan is None:
            self._out.telemetry.count("outbound_http_errors_total", error=error)
        else:
            series: HttpSeries | None = exchange.series
            if series is None:
                series = self._out.targets.http_series(plan, None)
                series.requests += 1
            status = exchange.status
            failed = status >= 500 or error != ""
            if plan.is_failure is not None and not error:
                failed = plan.failed(status)
            series.record(status, failed, error, exchange.started, now)
        if self._out.access.is_on:
            self._out.access.write(
                "outbound",
                exchange,
                client=peer_address(self._transport),
                identity="",
                seconds=now - exchange.started,
            )

    def refused(self, error: PeerError) -> None:
        self._out.telemetry.count("outbound_http_errors_total", error=error.reason)

    def closed(self, client: Any, error: BaseException | None) -> None:
        self._tcp.remove(client, error)

    # -- 3b. bytes -------------------------------------------------------------------------------

    def _serve_opaque(self) -> None:
        hop = self._pick_hop()
        if isinstance(hop, Outcome):
            self._refuse(hop)
        else:
            self._join(hop).join()

    def _pick_hop(self, tried: tuple[Hop, ...] = ()) -> Hop | Outcome:
        plan = self._state.plan_connection(self._out.random)
        if isinstance(plan, Outcome):
            return plan
        if plan.backend.denial is not None:
            return plan.backend.denial
        hop: Hop | None = pick(plan.backend.hops, self._out.random, tried)
        if hop is None or hop in tried:
            return Outcome.NO_ENDPOINTS
        if hop.mesh is None and not hop.is_local and self._out.requires_tls:
            return Outcome.UNMESHED_TARGET
        return hop

    def _join(self, hop: Hop) -> Joining:
        return Joining(
            self._out.loop,
            self._opening,
            hop,
            src=self._tcp,
            failed=self._join_failed,
            tunnels=self._out.keeper.tunnels,
        )

    def _join_failed(self, joining: Joining, reason: str) -> None:
        """An endpoint did not let us in: another one, as nothing was sent."""
        self._out.discovery.connect_failed(joining.hop.address, self._state.key, reason)
        tried = joining.tried
        if len(tried) >= retry.MAX_CONNECTS:
            self._refuse(dial_outcome(reason))
            return
        hop = self._pick_hop(tried)
        if isinstance(hop, Outcome):
            self._refuse(dial_outcome(reason))
        else:
            joining.start(hop)

    def _refuse(self, outcome: Outcome) -> None:
        self._out.telemetry.count("outbound_tcp_errors_total", error=outcome.value.reason)
        log.debug("refused to=%s reason=%s", self._address, outcome.value.reason)
        self._opening.close()

    def _gone(self) -> None:
        """The client left before anything was decided."""
