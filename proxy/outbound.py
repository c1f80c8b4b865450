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
from mesh.core.labels import H_OVERRIDE
from mesh.core.model import BY_CONNECTION, Protocol, Update, View
from mesh.core.names import join_address, names_a_port
from mesh.core.report import SeriesKey
from proxy import grpc, retry
from proxy.access import AccessLog
from proxy.answer import Outcome, dial_outcome, phrase, reply_fields
from proxy.attempts import Attempts, allowed, journey_of
from proxy.batching import Batching
from proxy.client_connection import ClientConnection, Keeper
from proxy.client_streams import ClientStreams
from proxy.detect import (
    NOT_TLS,
    ClientHello,
    Verdict,
    classify,
    classify_http1,
    classify_http2,
    guess,
    read_hello,
)
from proxy.exchange import Exchange, Pipeline, ServerSide
from proxy.filters import FilterSet
from proxy.hop import Hop
from proxy.http1 import COLLECT, COLON, CRLF, STRIP, Response
from proxy.http2_frames import STRANGER
from proxy.joining import Joining
from proxy.journal import Journal
from proxy.lineage import Lineage
from proxy.mirror import Mirrors
from proxy.opening import MUTE, SILENCE, Opening
from proxy.plan import Plan
from proxy.seams import Credentials, Discovery, Transport, peer_address
from proxy.settings import Settings
from proxy.targets import Targets, TargetState
from proxy.telemetry import HttpSeries, TcpSeries, Telemetry
from proxy.verdicts import Verdicts

log = logging.getLogger(__name__)

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
        lineage: Lineage | None = None,
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
        self.attempts = Attempts(self)
        self.lineage = lineage or Lineage()
        self.journal = Journal()
        self.mirrors = Mirrors(self)
        self.is_ingress = settings.ingress
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


class OutboundConnection(Pipeline):
    """One connection of the application, and the pipeline of its requests."""

    __slots__ = (
        "_address",
        "_opening",
        "_out",
        "_port",
        "_server_name",
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
        self._server_name = ""  # that a ClientHello asks for, where a rule wants to know
        self._opening = Opening(transport, out.loop, self._gone)
        self._state: TargetState
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
            self._await_http(classify_http1, Verdict.HTTP1)
        elif protocol in BY_CONNECTION or self._out.verdicts.is_opaque(self._state.key):
            self._serve_opaque()
        elif protocol is Protocol.HTTP2 or protocol is Protocol.GRPC:
            self._await_http(classify_http2, Verdict.HTTP2)
        else:
            patience = self._out.verdicts.patience(self._state.key, SILENCE)
            self._opening.decide(
                classify,
                self._decided,
                otherwise=Verdict.OPAQUE,
                silence=patience,
                silent=self._ask_server,
                stalled=guess,
            )

    def _await_http(self, look: Callable[[bytes], Verdict | None], declared: Verdict) -> None:
        self._opening.decide(
            look, self._decided, otherwise=declared, silence=MUTE, silent=self._hang_up
        )

    def _hang_up(self) -> None:
        self._out.telemetry.count("outbound_tcp_errors_total", error="silent")
        self._opening.close()

    def _decided(self, verdict: Verdict) -> None:
        self._out.telemetry.detected("outbound", verdict.value, self._opening.age)
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
                self._out.telemetry.detected("outbound", verdict.value, self._opening.age)
                self._out.verdicts.client_spoke(self._state.key, verdict)
                joining.join()

        self._opening.decide(classify, client_spoke, otherwise=Verdict.OPAQUE, stalled=guess)

    def _server_spoke(self) -> None:
        self._out.telemetry.detected("outbound", "server-first", self._opening.age)
        self._out.verdicts.server_spoke(self._state.key)

    # -- 3a. HTTP --------------------------------------------------------------------------------

    def _serve_http(self) -> None:
        trust = COLLECT if self._out.is_ingress else STRIP
        client = ClientConnection(self._transport, self, self._out.keeper, trust=trust)
        self._state.users += 1
        self._tcp.add(client)
        self._opening.take(client)

    def _serve_http2(self) -> None:
        transport = Batching(self._transport, self._out.loop.call_soon)
        trust = COLLECT if self._out.is_ingress else STRIP
        client = ClientStreams(transport, self, self._out.keeper, STRANGER, trust=trust)
        self._state.users += 1
        self._tcp.add(client)
        self._opening.take(client)

    def begin(self, exchange: Exchange, state: TargetState | None = None) -> None:
        """Route one request and pick who serves it; `state` is where it goes if not where the
        connection was meant to go."""
        request, out = exchange.request, self._out
        if state is None:
            state = self._state
            if out.is_ingress and request.ours is not None:
                self._find_override(exchange)
                return
        plan = state.single or state.plan(request)
        exchange.plan = plan
        if plan.filters is not None:
            if self._filter(exchange, plan.filters):
                return
            request = exchange.request
        backend = plan.backend
        if backend.hash_key is None:
            hop: Hop | None = backend.pick(backend.hops, out.random)
        else:
            hop = backend.pick_for(request)
        if hop is None or self._is_barred(hop):
            self._deny(exchange, plan, hop)
            return
        if plan.has_timers or request.is_http2 or out.lineage.known or out.access.is_on:
            self._limit(exchange, plan)
        series = plan.series.get(hop) or out.targets.http_series(plan, hop)
        series.requests += 1
        exchange.series = series
        if hop.mesh is not None:
            exchange.extra = plan.extra
        if exchange.journey is not None:
            out.attempts.tell(exchange, plan, hop)
        if not request.host:
            self._name_host(exchange)
        exchange.endpoint = hop
        exchange.load = load = hop.load
        load.begin()
        connection: ServerSide | None = None
        if not request.upgrade:  # which wants a connection of its own
            connection = hop.take_stream() if request.is_http2 else hop.take()
        self._send(exchange, hop, connection)

    def _find_override(self, exchange: Exchange) -> None:
        """An ingress controller says which Service it means (Linkerd's ingress mode)."""
        ours = exchange.request.ours or {}
        name = ours.get(H_OVERRIDE, b"").decode("latin-1").lower()

        def found(state: TargetState) -> None:
            known = state.target is not None and bool(state.target.rules)
            if not exchange.is_over:
                self.begin(exchange, state if known else self._state)

        if names_a_port(name):
            self._out.targets.find(name, found)
        else:
            self.begin(exchange, self._state)

    def _filter(self, exchange: Exchange, filters: FilterSet) -> bool:
        """Do what the rule's filters say. True: they have answered."""
        reply = filters.answer(exchange.request, self._port)
        if reply is not None:
            fields = reply_fields(reply.reason, "", exchange.plan.origin, closes=False)
            fields = reply.fields + fields
            exchange.reply(Response(reply.status, phrase(reply.status), fields))
            return True
        journey_of(exchange).original = exchange.request
        exchange.request = filters.request(exchange.request)
        if filters.mirrors and not exchange.request.upgrade:
            self._out.mirrors.copy(exchange, filters.mirrors)
        return False

    def _limit(self, exchange: Exchange, plan: Plan) -> None:
        """Start the timers of a request: its rule's, its caller's, those of the request that
        the application serves with it."""
        out, deadline = self._out, None
        if out.access.is_on:
            out.journal.tag(exchange)
        if exchange.request.is_http2:
            seconds = allowed(exchange.request)
            deadline = exchange.started + seconds if seconds is not None else None
        found = out.lineage.find(exchange.request) if out.lineage.known else None
        if found is not None:
            journey_of(exchange).budgeted = found.attempt < 2
            if found.deadline is not None:
                deadline = min(deadline or found.deadline, found.deadline)
        if plan.has_timers or deadline is not None:
            out.attempts.watch(exchange, plan, deadline)

    def resend(self, exchange: Exchange, *, redraw: bool = False) -> None:
        """Ask another endpoint, or with `redraw` another backend of the rule as well."""
        out, plan = self._out, exchange.plan
        if redraw and plan.retry is not None and plan.retry.redraw:
            plan = self._redrawn(exchange, plan)
        hop: Hop | None
        if plan.backend.hash_key is None:
            hop = plan.backend.pick(plan.backend.hops, out.random, exchange.tried or ())
        else:
            hop = plan.backend.pick_for(exchange.request, exchange.tried or ())
        if hop is None or self._is_barred(hop):
            self._deny(exchange, plan, hop)
            return
        if exchange.series is not None:
            exchange.series.requests -= 1  # the request counts where it ends
        exchange.series = plan.series.get(hop) or out.targets.http_series(plan, hop)
        exchange.series.requests += 1
        self._hand(exchange, hop)
        exchange.extra = []
        out.attempts.tell(exchange, plan, hop)
        if not exchange.request.host:
            self._name_host(exchange)
        if exchange.timer is not None:
            exchange.timer.sent()
        request = exchange.request
        connection: ServerSide | None
        if request.upgrade:
            connection = None  # it wants a connection of its own
        elif redraw:
            connection = hop.take_stream() if request.is_http2 else hop.take()
        else:
            connection = hop.take_shared()
        self._send(exchange, hop, connection)

    def _redrawn(self, exchange: Exchange, plan: Plan) -> Plan:
        """The plan of another try, with the request as its backend's filters make it."""
        if plan.state is not None:
            plan = exchange.plan = plan.state.redraw(plan)
        journey = exchange.journey
        if plan.filters is not None and journey is not None:
            exchange.request = plan.filters.request(journey.original or exchange.request)
        return plan

    def _deny(self, exchange: Exchange, plan: Plan, hop: Hop | None) -> None:
        if hop is not None:
            self._out.attempts.answer(exchange, Outcome.UNMESHED_TARGET)
            return
        outcome, status = plan.why_nobody()
        self._out.attempts.answer(exchange, outcome, status=status)

    def _is_barred(self, hop: Hop) -> bool:
        """Whether mutual TLS is demanded of an endpoint that does not speak it."""
        return hop.mesh is None and self._out.requires_tls and not hop.is_local

    def _name_host(self, exchange: Exchange) -> None:
        """An HTTP/1.0 client named no host; where it connected to is one."""
        exchange.extra = [b"Host", COLON, self._address.encode(), CRLF, *exchange.extra]

    def _send(self, exchange: Exchange, hop: Hop, connection: ServerSide | None) -> None:
        """Over a connection that is there, or over the next one that opens."""
        if connection is not None:
            exchange.attach(connection)
        else:
            hop.send_fresh(exchange, self._out.attempts.dial_failed)

    def _hand(self, exchange: Exchange, hop: Hop) -> None:
        """The exchange counts in the load of this endpoint, and of no other."""
        if exchange.load is not None:
            exchange.load.pending -= 1
        exchange.endpoint = hop
        exchange.load = hop.load
        hop.load.begin()

    def lost(self, exchange: Exchange, reason: str) -> None:
        """The server hung up before answering."""
        self._out.attempts.lost(exchange, reason)

    def responded(self, exchange: Exchange, response: Response) -> bool:
        """A final response head is here: the endpoint's latency is known."""
        if exchange.load is not None and exchange.tried is None:
            now = monotonic()
            exchange.load.observe(now - exchange.sent, now)
        if response.status >= 500:
            response.fields = response.fields + self._out.journal.fields(exchange)
        plan: Plan = exchange.plan
        if (
            plan.is_watched
            or plan.backend.breakers is not None
            or exchange.timer is not None
            or (response.status == 502 and retry.is_dropped(exchange, response.fields))
        ):
            return self._out.attempts.examine(exchange, plan, response)
        return False

    def finished(self, exchange: Exchange, now: float) -> None:
        """Count it, whatever became of it."""
        if exchange.load is not None:
            exchange.load.pending -= 1
        plan: Plan = exchange.plan
        error = exchange.error
        series: HttpSeries | None = exchange.series
        if series is None:
            series = self._out.targets.http_series(plan, None)
            series.requests += 1
        status = exchange.status
        failed = status >= 500 or error != ""
        if plan.is_failure is not None and not error:
            failed = plan.failed(status)
        if exchange.request.is_http2:
            failed = failed or exchange.code in grpc.FAILURES
            if plan.backend.breakers is not None:
                self._out.attempts.ended(exchange, plan)
        series.record(status, failed, error, exchange.started, now)
        if not failed:
            plan.budget.earned += 1
        observed = self._out.telemetry.observed
        if observed.credit > 0 and plan.apex:
            observed.look(plan.apex, exchange, now)
        if failed or self._out.access.is_on:
            self._remember(exchange, now)
        if self._out.access.is_on:
            self._out.access.write(
                "outbound",
                exchange,
                client=peer_address(self._transport),
                identity="",
                seconds=now - exchange.started,
            )

    def _remember(self, exchange: Exchange, now: float) -> None:
        """Someone may ask about this one."""
        out = self._out
        out.journal.keep(exchange, address=self._address, view=out.discovery.view.version, now=now)

    def refused(self, error: PeerError) -> None:
        self._out.telemetry.count("outbound_http_errors_total", error=error.reason)

    def closed(self, client: Any, error: BaseException | None) -> None:
        self._state.users -= 1
        self._tcp.remove(client, error)

    # -- 3b. bytes -------------------------------------------------------------------------------

    def _serve_opaque(self) -> None:
        if self._state.asks_name and not self._server_name:
            self._opening.decide(
                read_hello,
                self._named,
                otherwise=NOT_TLS,
                silence=SILENCE,
                silent=lambda: self._named(NOT_TLS),
            )
        else:
            self._named(NOT_TLS)

    def _named(self, hello: ClientHello) -> None:
        """Forward bytes to an endpoint, by the server name that the client asks for."""
        if hello is not NOT_TLS:
            self._server_name = hello.server_name
        hop = self._pick_hop()
        if isinstance(hop, Outcome):
            self._refuse(hop)
        else:
            self._join(hop).join()

    def _pick_hop(self, tried: tuple[Hop, ...] = ()) -> Hop | Outcome:
        plan = self._state.plan_connection(self._server_name)
        hop: Hop | None = plan.backend.pick(plan.backend.hops, self._out.random, tried)
        if hop is None:
            return plan.why_nobody()[0]
        if hop in tried:
            return Outcome.NO_ENDPOINTS
        if self._is_barred(hop):
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
