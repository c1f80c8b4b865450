"""What a proxy says of one request -> the view to replay it with, and lines for a person. Pure.

The replay uses the proxy's own snapshot; the proxy's own decision is told beside it, so that
the two can be compared, and so is the decision by the objects as they are now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from mesh.core.errors import MeshError
from mesh.core.model import Inbound, Service, Target, View
from mesh.explain.decide import Answer, Decision
from mesh.explain.question import Question

_MOST = 8  # endpoints shown of one backend


def question_for(question: Question, address: str, draw: float | None) -> dict[str, str]:
    """A question as the proxy wants to have it."""
    query = {
        "address": address,
        "method": question.method,
        "target": question.target,
        "host": question.named or question.host,
        "headers": msgspec.json.encode(question.headers).decode(),
    }
    if question.encrypted:
        query["serverName"] = question.server_name
    return query if draw is None else {**query, "draw": repr(draw)}


def view_of(told: Mapping[str, Any]) -> View:
    """The part of the proxy's view that the request needs. Raises MeshError."""
    if told.get("error"):
        raise MeshError(f"the proxy says: {told['error']}")
    target = told.get("target")
    found = msgspec.convert(target, Target) if target is not None else None
    return View(
        version=int(told["version"]),
        targets={found.address: found} if found is not None else {},
        services={
            name: msgspec.convert(service, Service) for name, service in told["services"].items()
        },
        inbound=Inbound(require_tls=bool(told["requireTls"])),
    )


def outcome_of(decision: Decision) -> tuple[str, str, int, str]:
    """How a replay ends: rule, backend drawn, status and reason of an answer (0: a server's)."""
    drawn = [leaf for leaf in decision.leaves if leaf.is_drawn]
    answer: Answer | None = decision.answer or (drawn[0].answer if drawn else None)
    backend = drawn[0].authority if drawn else ""
    rule = next((tried.name for tried in decision.rules if tried.is_met), "")
    status, reason = (answer.status, answer.reason) if answer is not None else (0, "")
    return rule, backend, status, reason


def lines_of(told: Mapping[str, Any], decision: Decision, expected: Decision) -> Iterator[str]:
    """What the proxy itself says, and where that differs from the replays."""
    own = told["decision"]
    yield f"decides: {_decided(own)}"
    mine = outcome_of(decision)
    if own["isDrawn"] and (own["status"], own["reason"]) != mine[2:]:
        yield f"  DIFFERS from this replay ({mine[2]} {mine[3]}): please report it"
    if outcome_of(expected) != mine:
        yield "  the objects as they are now would give another outcome: its view is on its way"
    budget = told["budget"]
    yield f"retries left in its budget now: {budget['left']}"
    for authority, backend in told["backends"].items():
        yield f"{authority}: {backend['count']} endpoints, {backend['balancing']}"
        for endpoint in backend["endpoints"][:_MOST]:
            yield f"  {endpoint_line(endpoint)}"


def endpoint_line(endpoint: Mapping[str, Any]) -> str:
    """One endpoint with its state."""
    words = [f"{endpoint['address']}:{endpoint['port']} {endpoint.get('pod') or ''}".rstrip()]
    if endpoint["isBroken"]:
        words.append(f"BROKEN, asked again in {endpoint['probeInSeconds']:g}s")
    words.append(f"{endpoint['pending']} in hand")
    if endpoint["latencySeconds"]:
        words.append(f"{endpoint['latencySeconds'] * 1000:.1f} ms")
    words.append(f"{endpoint['connections']} connections")
    return ", ".join(words)


def entry_lines(pod: str, entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A past request: pairs of a word and what is known."""
    at = datetime.fromtimestamp(entry["at"], UTC).strftime("%Y-%m-%d %H:%M:%S")
    yield "request", f"{entry['method']} http://{entry['host']}{entry['path']}"
    yield "client", f"pod {pod}, ended {at} UTC after {entry['seconds'] * 1000:.1f} ms"
    yield "service", f"{entry['service'] or 'none'}, dialled at {entry['address']}"
    yield "rule", entry["rule"] or "none"
    if entry["route"]:
        yield "route", entry["route"]
    yield "backend", entry["backend"] or "none"
    who = f"{entry['endpoint']} {entry['pod']}".strip()
    yield "endpoint", f"{who or 'none'}, try {entry['tries']}"
    yield "view", f"version {entry['view']} of the proxy's view"
    made = (
        f"by the proxy itself, mesh-reason {entry['reason']}" if entry["reason"] else "the server's"
    )
    yield "outcome", f"{entry['status']}, {made}"


def _decided(own: Mapping[str, Any]) -> str:
    rule = own["rule"] or "no rule"
    if own["reason"]:
        where = f" to {own['location']}" if own.get("location") else ""
        return f"{rule}: {own['status']} {own['reason']}{where}"
    drawn = own["backend"] if own["isDrawn"] else "one of its backends"
    return f"{rule}: sent to {drawn}"
