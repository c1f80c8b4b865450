"""What original destinations mean to this proxy: the view, bound to hops and series.

The view says what is; this keeps what lasts beyond one view: loads, pools and counters of
endpoints that stay. A change of the view replaces plans, never connections.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from random import random
from time import monotonic
from typing import Any, Final

from mesh.core.match import CompilePattern
from mesh.core.model import (
    Backend,
    Budget,
    Endpoint,
    Protocol,
    Service,
    Source,
    Target,
    Update,
    View,
)
from mesh.core.names import join_address, parse_identity_dns, split_authority
from mesh.core.report import SeriesKey
from mesh.core.route import CompiledClass, RouteTable, RuleWeights, why_not
from proxy.answer import Outcome
from proxy.backends import BackendState
from proxy.budget import RetryBudget
from proxy.dial import Dialler
from proxy.heads import RequestHead
from proxy.hop import Hop
from proxy.http1 import Request
from proxy.plan import DENIALS, Plan
from proxy.seams import Discovery
from proxy.telemetry import HttpSeries, Labels, Telemetry

log = logging.getLogger(__name__)

MAX_CLASSED: Final = 512  # remembered (method, path) pairs of one target
GOLDEN: Final = 0.6180339887498949


class TargetState:
    """One original destination. Connections hold it; a new view changes it under them."""

    __slots__ = (
        "_classed",
        "_plans",
        "_table",
        "_targets",
        "_turn",
        "address",
        "asks_name",
        "reason",
        "single",
        "target",
        "users",
    )

    def __init__(self, targets: Targets, address: str) -> None:
        self._targets = targets
        self.address = address
        self._turn = random()
        self.users = 0  # connections that hold this
        self.reason = ""  # why plaintext to the original destination
        self.set(None)

    def set(self, target: Target | None) -> None:
        """Take what the view says now; None: nobody knows this address."""
        self.target = target
        self._table: RouteTable | None = None
        # Whether a rule for connections looks at the name in a ClientHello.
        self.asks_name = target is not None and any(
            match.sni for rule in target.connections for match in rule.matches
        )
        self.single: Plan | None = None  # where every request goes, when that is one place
        self._plans: dict[object, Plan] = {}
        self._classed: dict[tuple[bytes, bytes], CompiledClass | None] = {}
        if target is not None:
            try:
                self._table = RouteTable(target, self._targets.pattern)
            except ValueError as error:
                log.error("rules of %s do not compile: %s", self.address, error)

    @property
    def protocol(self) -> Protocol:
        return self.target.protocol if self.target is not None else Protocol.DETECT

    @property
    def key(self) -> str:
        """What verdicts of detection are remembered by: the service port, else the address."""
        return (self.target.authority if self.target is not None else "") or self.address

    def plan(self, request: Request, draw: Callable[[], float] | None = None) -> Plan:
        """Route one request. What has nowhere to go has a plan that says why."""
        table = self._table
        if table is None or not self.target or not self.target.rules:
            return self._direct(request)
        if table.is_simple:
            found: RuleWeights | None = table.first_rule()
        else:
            found = table.find_rule(RequestHead(request))
        route = self._class_of(request) if table.has_classes else None
        if found is None:
            return self._plan(None, None, route)
        plan = self._plan(found, found.only or found.draw_backend((draw or self.draw)()), route)
        if (
            table.is_simple
            and (found.only is not None or found.redirects)
            and not table.has_classes
        ):
            self.single = plan
        return plan

    def plan_connection(
        self, server_name: str = "", draw: Callable[[], float] | None = None
    ) -> Plan:
        """Route one connection whose bytes nobody parses, by the name in its ClientHello."""
        if self._table is None or not self.target or not self.target.rules:
            return self._direct(None)
        found = self._table.find_connection(server_name)
        if found is None:
            return self._plan(None, None, None)
        return self._plan(found, found.only or found.draw_backend((draw or self.draw)()), None)

    def redraw(self, plan: Plan) -> Plan:
        """The plan of another try: a backend of the same rule, drawn anew."""
        found = plan.drawn
        if found is None or found.only is not None or plan.denial is not None:
            return plan
        return self._plan(found, found.draw_backend(self.draw()), plan.found)

    def draw(self) -> float:
        """The next draw of a sequence that keeps to every share closely (golden ratio)."""
        self._turn = (self._turn + GOLDEN) % 1.0
        return self._turn

    def _plan(
        self, drawn: RuleWeights | None, chosen: Backend | None, route: CompiledClass | None
    ) -> Plan:
        key = (drawn, id(chosen), route)  # the rule keeps its backends alive
        plan = self._plans.get(key)
        if plan is None:
            target = self.target
            assert target is not None
            denial, authority = _denial_of(drawn, chosen), target.authority
            if denial is None and chosen is not None:
                authority = chosen.authority
                backend = self._targets.backend(authority)
            else:
                backend = BackendState(authority, self._targets.clock)
            plan = self._plans[key] = Plan(
                apex=target.authority,
                leaf=authority,
                backend=backend,
                budget=self._targets.budget(target.authority, target.budget),
                state=self,
                drawn=drawn,
                chosen=chosen,
                found=route,
                profile=self._profile(),
                denial=denial,
            )
        return plan

    def _direct(self, request: Request | None) -> Plan:
        """A pod address, or one that nobody knows: exactly there."""
        table = self._table
        route = None
        if table is not None and table.has_classes and request is not None:
            route = self._class_of(request)
        plan = self._plans.get(route)
        if plan is None:
            target = self.target
            backend = BackendState(self.address, self._targets.clock)
            backend.share(
                [
                    self._targets.direct_hop(
                        self.address, target.endpoint if target is not None else None
                    )
                ]
            )
            apex = target.authority if target is not None else ""
            plan = self._plans[route] = Plan(
                apex=apex,
                leaf=apex,
                backend=backend,
                budget=self._targets.budget(apex, target.budget if target is not None else None),
                found=route,
                profile=self._profile(),
            )
            if table is None or not table.has_classes:
                self.single = plan
        return plan

    def _profile(self) -> Source | None:
        profile = self.target.profile if self.target is not None else None
        return profile.source if profile is not None else None

    def _class_of(self, request: Request) -> CompiledClass | None:
        key = (request.method, request.target)
        try:
            return self._classed[key]
        except KeyError:
            pass
        assert self._table is not None
        found = self._table.find_class(RequestHead(request))
        if len(self._classed) >= MAX_CLASSED:
            self._classed.clear()
        self._classed[key] = found
        return found


class Targets:
    """All targets, backends and hops of the outbound side."""

    def __init__(
        self,
        *,
        discovery: Discovery,
        dialler: Dialler,
        telemetry: Telemetry,
        pattern: CompilePattern,
        own_addresses: frozenset[str],
    ) -> None:
        self.pattern = pattern
        self._discovery = discovery
        self._dialler = dialler
        self._telemetry = telemetry
        self._own = own_addresses
        self._states: dict[str, TargetState] = {}
        self._backends: dict[str, BackendState] = {}
        self._hops: dict[Endpoint, Hop] = {}
        self._budgets: dict[str, RetryBudget] = {}
        self.clock = dialler.loop
        discovery.on_change(self._on_change)
        discovery.keep(self._is_used)

    def find(self, address: str, done: Callable[[TargetState], None]) -> None:
        """Give the state of an original destination, at once when it is known. The caller
        counts itself in `users` for as long as it sends requests there. What nobody knows is
        kept as well, so that a connection goes on as it should once somebody does."""

        def found(target: Target | None) -> None:
            state = self._states.get(address)
            if state is None:
                state = self._states[address] = TargetState(self, address)
            if state.target is not target:
                state.set(target)
            state.reason = _plaintext_reason(target)
            done(state)

        self._discovery.lookup(address, found)

    def _is_used(self, address: str) -> bool:
        state = self._states.get(address)
        return state is not None and state.users > 0

    def backend(self, authority: str) -> BackendState:
        """The state of a Service port, kept for as long as the process lives."""
        state = self._backends.get(authority)
        if state is None:
            state = self._backends[authority] = BackendState(authority, self.clock)
            self._fill(state, self._discovery.service(authority))
        return state

    def backends(self) -> dict[str, BackendState]:
        """All Service ports that traffic has led to."""
        return self._backends

    def broken(self) -> int:
        """How many endpoints are left alone by their circuit breakers."""
        return sum(len(state.all) - len(state.hops) for state in self._backends.values())

    def budget(self, authority: str, rule: Budget | None) -> RetryBudget:
        """What the retries of one service are paid from; it outlives the view. Addresses of no
        service ("") share one."""
        rule = rule or Budget()
        budget = self._budgets.get(authority)
        if budget is None:
            budget = self._budgets[authority] = RetryBudget(monotonic())
        budget.set(ratio=rule.ratio, min_per_second=rule.min_per_second, ttl=rule.ttl)
        return budget

    def direct_hop(self, address: str, endpoint: Endpoint | None) -> Hop:
        """The hop to one address: an endpoint that is known, or whatever is there."""
        if endpoint is None:
            host, port = split_authority(address)
            endpoint = Endpoint(host, port or 0)
        return self._hop(endpoint)

    def http_series(self, plan: Plan, hop: Hop | None) -> HttpSeries:
        """The counters of requests of `plan` to `hop`, or to nobody."""
        endpoint = hop.endpoint if hop is not None else Endpoint("", 0)
        key = SeriesKey(
            direction="outbound",
            kind="http",
            apex=plan.apex,
            leaf=plan.leaf,
            route=plan.route,
            profile=plan.profile,
            tls=hop is not None and hop.mesh is not None,
            **_peer(endpoint),
        )
        labels = _labels(hop, plan.leaf) if hop is not None else _unserved_labels(plan.leaf)
        series = plan.series[hop] = self._telemetry.http_series(key, labels)
        return series

    def hops(self) -> list[Hop]:
        return list(self._hops.values())

    def sweep(self, now: float) -> None:
        """Close idle connections; forget hops that nothing leads to, and addresses that nobody
        knows or uses."""
        for address, state in list(self._states.items()):
            if state.target is None and state.users <= 0:
                del self._states[address]
        self._telemetry.observed.tick()
        for budget in self._budgets.values():
            budget.tick(now)
        for endpoint, hop in list(self._hops.items()):
            hop.expire(now)
            if hop.references <= 0 and not hop.is_in_use and now - hop.used > 60.0:
                del self._hops[endpoint]

    def _hop(self, endpoint: Endpoint) -> Hop:
        hop = self._hops.get(endpoint)
        if hop is None:
            key = SeriesKey(
                direction="outbound", kind="tcp", tls=bool(endpoint.identity), **_peer(endpoint)
            )
            local = endpoint.address in self._own
            hop = Hop(endpoint, self._dialler, local=local)
            hop.tcp = self._telemetry.tcp_series(key, _labels(hop, ""), "dst")
            self._hops[endpoint] = hop
        return hop

    def _fill(self, state: BackendState, service: Service | None) -> None:
        denial = why_not(service)
        old = state.all
        hops = [self._hop(endpoint) for endpoint in (service.endpoints if service else ())]
        for hop in hops:
            hop.references += 1
            hop.is_retired = False
        for hop in old:
            hop.references -= 1
            if hop.references <= 0:
                hop.retire()
        state.set(service, hops, DENIALS[denial] if denial is not None else None)

    def _on_change(self, view: View, update: Update) -> None:
        for address in update.targets:
            state = self._states.get(address)
            if state is not None:
                target = view.targets.get(address)
                if target is None:
                    del self._states[address]  # connections keep what they were told last
                else:
                    state.set(target)
                    state.reason = _plaintext_reason(target)
        for authority in update.services:
            backend = self._backends.get(authority)
            if backend is not None:
                self._fill(backend, view.services.get(authority))


def _denial_of(drawn: RuleWeights | None, chosen: Backend | None) -> Outcome | None:
    """Why a rule leads nowhere, as far as the rule itself can tell."""
    if drawn is None:
        return Outcome.NO_RULE
    if drawn.redirects:
        return None
    if chosen is None:
        return Outcome.NO_WEIGHT
    return Outcome.INVALID_BACKEND if chosen.refused else None


def _plaintext_reason(target: Target | None) -> str:
    if target is None:
        return "destination-unavailable"
    if not target.rules and target.endpoint is None:
        return "external"
    return ""


def _peer(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "peer_pod": endpoint.pod,
        "peer_namespace": endpoint.namespace,
        "peer_workload": endpoint.workload,
        "peer_identity": endpoint.identity,
    }


def _unserved_labels(leaf: str) -> Labels:
    return (("direction", "outbound"), ("authority", leaf), ("tls", "no_identity"))


def _labels(hop: Hop, leaf: str) -> Labels:
    """Linkerd's labels of one endpoint: target, TLS, destination."""
    endpoint = hop.endpoint
    labels = [("direction", "outbound")]
    if leaf:
        labels.append(("authority", leaf))
    labels += [
        ("target_addr", join_address(endpoint.address, endpoint.port)),
        ("target_ip", endpoint.address),
        ("target_port", str(endpoint.port)),
    ]
    if hop.mesh is not None:
        labels += [("tls", "true"), ("server_id", endpoint.identity)]
    else:
        why = "loopback" if endpoint.identity else "not_provided_by_service_discovery"
        labels += [("tls", "no_identity"), ("no_tls_reason", why)]
    if endpoint.namespace:
        labels.append(("dst_namespace", endpoint.namespace))
    if leaf.count(".") >= 2:
        labels.append(("dst_service", leaf.split(".", 1)[0]))
    if endpoint.pod:
        labels.append(("dst_pod", endpoint.pod))
    kind, slash, name = endpoint.workload.partition("/")
    if slash:
        labels.append((f"dst_{kind}", name))
    workload = parse_identity_dns(endpoint.identity) if endpoint.identity else None
    if workload is not None:
        labels.append(("dst_serviceaccount", workload.service_account))
    if endpoint.zone:
        labels.append(("dst_zone", endpoint.zone))
    return tuple(labels)
