"""What a person may ask this proxy: its view, the way of one request, past requests.

The answers come from the objects that serve traffic, not from a copy of them: a request is
planned by the same `TargetState`, endpoints say what their balancer and breakers think of
them. Nothing here changes anything, except that an address asked for is subscribed to.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final

import msgspec

from mesh.core.errors import PeerError
from mesh.core.model import BY_CONNECTION, Rule, Service, Target
from mesh.core.names import split_authority
from proxy import guard
from proxy.answer import Outcome
from proxy.backends import BackendState
from proxy.http1 import COLON, CRLF, Request
from proxy.outbound import Outbound
from proxy.plan import Plan
from proxy.targets import TargetState

log = logging.getLogger(__name__)

Reply = Callable[[str], None]
_MOST: Final = 200  # endpoints told of one backend


class Inspector:
    """Answers questions as JSON text."""

    def __init__(self, outbound: Outbound) -> None:
        self._out = outbound
        self._answers: dict[str, Callable[[Mapping[str, str], Reply], None]] = {
            "view": self._view,
            "explain": self._explain,
            "endpoints": self._endpoints,
            "request": self._request,
            "observed": self._observed,
        }

    def answer(self, what: str, query: Mapping[str, str], reply: Reply) -> None:
        """Answer one question, now or within a second. Never raises."""
        try:
            known = self._answers.get(what)
            if known is None:
                words = ", ".join(sorted(self._answers))
                reply(_json({"error": f"expected one of {words}, got {what[:40]!r}"}))
            else:
                known(query, reply)
        except Exception:
            log.exception("question not answered what=%.40s", what)
            reply(_json({"error": "a bug in the proxy; its log says more"}))

    # -- answers -----------------------------------------------------------------------------

    def _view(self, query: Mapping[str, str], reply: Reply) -> None:
        document = msgspec.to_builtins(self._out.discovery.view)
        document.pop("bundle", None)
        reply(_json(document))

    def _endpoints(self, query: Mapping[str, str], reply: Reply) -> None:
        """Every backend that traffic has led to, or one by its authority."""
        wanted = query.get("authority", "")
        found = {
            authority: _told_backend(state)
            for authority, state in self._out.targets.backends().items()
            if wanted in ("", authority)
        }
        reply(_json({"version": self._out.discovery.view.version, "backends": found}))

    def _request(self, query: Mapping[str, str], reply: Reply) -> None:
        entry = self._out.journal.find(query.get("id", ""))
        reply(_json({"request": msgspec.to_builtins(entry) if entry is not None else None}))

    def _observed(self, query: Mapping[str, str], reply: Reply) -> None:
        """The kinds of requests of some places (ports of this pod, authorities), newest only."""
        observed, now = self._out.telemetry.observed, monotonic()
        places = [place for place in query.get("places", "").split(",") if place]
        try:
            window = float(query.get("window", "inf"))
        except ValueError:
            reply(_json({"error": "window: expected seconds"}))
            return
        kinds = observed.tell(places, window, now)
        reply(_json({"seconds": round(now - observed.started, 1), "kinds": kinds}))

    def _explain(self, query: Mapping[str, str], reply: Reply) -> None:
        try:
            request = _request_of(query)
            draw = float(query["draw"]) if "draw" in query else None
            name = query.get("serverName")  # of a connection that nobody reads
        except (PeerError, ValueError) as error:
            reply(_json({"error": str(error)}))
            return
        address = query.get("address", "")

        def found(state: TargetState) -> None:
            is_bytes = name is not None or state.protocol in BY_CONNECTION
            if is_bytes:
                plan = state.plan_connection(name or "", lambda: draw or 0.0)
            else:
                plan = state.plan(request, lambda: draw or 0.0)
            reply(_json(self._explained(state, plan, None if is_bytes else request, draw)))

        self._out.targets.find(address, found)

    def _explained(
        self, state: TargetState, plan: Plan, request: Request | None, draw: float | None
    ) -> dict[str, Any]:
        out, target = self._out, state.target
        authorities = _authorities(target) if target is not None else []
        services = {name: out.discovery.service(name) for name in authorities}
        return {
            "version": out.discovery.view.version,
            "target": msgspec.to_builtins(target) if target is not None else None,
            "services": {
                name: msgspec.to_builtins(service)
                for name, service in services.items()
                if service is not None
            },
            "requireTls": out.requires_tls,
            "decision": {
                "rule": plan.origin,
                "route": plan.route,
                "backend": plan.leaf,
                "isDrawn": draw is not None or plan.drawn is None or plan.drawn.only is not None,
                **self._foreseen(state, plan, request),
            },
            "budget": {"ratio": plan.budget.ratio, "left": plan.budget.left(monotonic())},
            "backends": {name: _told_backend(out.targets.backend(name)) for name in authorities},
        }

    def _foreseen(self, state: TargetState, plan: Plan, request: Request | None) -> dict[str, Any]:
        """What the proxy would answer itself; an empty reason: an endpoint serves. `request` is
        None of a connection, which no filter acts on."""
        port, reply = split_authority(state.address)[1] or 0, None
        if plan.filters is not None and request is not None:
            reply = plan.filters.answer(request, port)
        if reply is not None:
            where = guard.get(reply.fields, b"location") or b""
            return {
                "status": reply.status,
                "reason": reply.reason,
                "location": where.decode("latin-1"),
            }
        hops = plan.backend.hops
        if not hops:
            outcome, status = plan.why_nobody()
            return {"status": status, "reason": outcome.value.reason}
        if self._out.requires_tls and not any(hop.mesh or hop.is_local for hop in hops):
            kind = Outcome.UNMESHED_TARGET.value
            return {"status": kind.status, "reason": kind.reason}
        return {"status": 0, "reason": ""}


def _request_of(query: Mapping[str, str]) -> Request:
    """The request that is asked about. Raises PeerError, ValueError."""
    host = query.get("host", "").encode("latin-1", "replace")
    fields = [b"Host", COLON, host, CRLF]
    for name, value in json.loads(query.get("headers", "[]")):
        fields += (
            str(name).encode("latin-1", "replace"),
            COLON,
            str(value).encode("latin-1", "replace"),
            CRLF,
        )
    method = query.get("method", "GET").encode("latin-1", "replace")
    target = query.get("target", "/").encode("latin-1", "replace")
    guard.check_target(method, target, host)
    request = Request(method, target, fields)
    request.host = host
    return request


def _authorities(target: Target) -> list[str]:
    """The Services that a target's rules lead to."""
    rules: tuple[Rule, ...] = (*target.rules, *target.connections)
    return list(dict.fromkeys(backend.authority for rule in rules for backend in rule.backends))


def _told_backend(state: BackendState) -> dict[str, Any]:
    service: Service | None = state.service
    breakers, now = state.breakers or {}, monotonic()
    endpoints = []
    for hop in state.all[:_MOST]:
        breaker = breakers.get(hop)
        probe_at = breaker.probe_at if breaker is not None else None
        endpoints.append(
            {
                **msgspec.to_builtins(hop.endpoint),
                "pending": hop.load.pending,
                "latencySeconds": round(hop.load.average, 6),
                "connections": hop.connections,
                "isBroken": probe_at is not None,
                "probeInSeconds": round(max(0.0, probe_at - now), 3) if probe_at else None,
            }
        )
    return {
        "exists": service is not None and service.exists,
        "balancing": str(state.balancing),
        "denial": state.denial.value.reason if state.denial is not None else "",
        "count": len(state.all),
        "endpoints": endpoints,
    }


def _json(document: Any) -> str:
    return json.dumps(document)
