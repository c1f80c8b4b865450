"""A decision -> the text or the JSON that a person sees. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from msgspec import to_builtins

from mesh.core.model import Breaker, Budget, Endpoint, Policy
from mesh.explain.decide import THE_SERVICE, Answer, Decision, Leaf, Tried
from proxy.answer import Outcome

_WIDTH: Final = 11  # columns of the first word of a line
_MOST: Final = 5  # endpoints shown of one backend
_UNCONDITIONAL: Final = ("TrafficSplit/", "ServiceProfile/")  # a lone rule of these has no test


def render_text(
    decision: Decision, source: str, bypass: str = "", proxy: Sequence[str] = ()
) -> str:
    """The chain, one step a line. `source` says what was compiled, `bypass` why the client's
    proxy has no part in it, `proxy` what that proxy itself says."""
    lines = [f"{decision.question.method} {decision.question.url}"]
    for title, texts in _sections(decision, source, bypass, proxy):
        for at, text in enumerate(texts):
            lines.append(f"  {title if at == 0 else '':<{_WIDTH}} {text}")
    return "\n".join(lines) + "\n"


def render_json(
    decision: Decision, source: str, bypass: str = "", proxy: dict[str, Any] | None = None
) -> str:
    found = _as_json(decision, source) | {"bypass": bypass or None, "proxy": proxy}
    return json.dumps(found, indent=2) + "\n"


def _sections(
    decision: Decision, source: str, bypass: str, proxy: Sequence[str]
) -> Iterator[tuple[str, Sequence[str]]]:
    yield "source", [source]
    yield "client", [_client(decision)]
    yield "note", decision.notes
    yield "bypass", [f"{bypass}: what follows would hold with it"] if bypass else []
    yield "service", [_service(decision)]
    if decision.where != "outside":
        yield "protocol", [_protocol(decision)]
    yield "table", list(_table(decision))
    yield "profile", list(_profile(decision))
    yield "filters", decision.filters
    yield "split", list(_split(decision))
    yield "endpoints", [line for leaf in decision.leaves for line in _endpoints(leaf)]
    if decision.is_per_request and decision.where != "outside":
        yield "timeout", list(_timeouts(decision.policy))
        yield "retry", list(_retry(decision))
    yield "other end", list(_other_end(decision, bypass))
    yield "proxy", proxy
    yield "outcome", [_bypassed(decision)] if bypass else list(_outcome(decision))


def _client(decision: Decision) -> str:
    asker = decision.asker
    if asker.pod is None:
        return f"a meshed pod of namespace {asker.namespace} (--from names one)"
    state = "meshed" if asker.pod.control_namespace else "not meshed"
    return f"{asker.workload} in {asker.namespace}, {state}"


def _service(decision: Decision) -> str:
    service = decision.service
    if service is not None:
        return (
            f"{service.namespace}/{service.name} port {service.port}, dialled at {decision.address}"
        )
    if decision.where == "pod":
        return f"none: {decision.address} is the address of a pod"
    return f"none: {decision.address or decision.question.host} is outside the mesh"


def _protocol(decision: Decision) -> str:
    if decision.question.encrypted:
        return "https: the proxy sees bytes and routes the connection, not its requests"
    if not decision.is_per_request:
        return f"{decision.protocol}: routed by connection, not looking at HTTP routes and profiles"
    return f"{decision.protocol}: routed by request"


def _table(decision: Decision) -> Iterator[str]:
    if decision.where == "service":
        unmet = decision.rules and not any(tried.is_met for tried in decision.rules)
        if decision.owner:
            yield f"{decision.owner}: {decision.why_owner}"
        elif unmet:
            yield "none of these rules is met"
        else:
            yield "the Service itself: no object routes it"
    if len(decision.rules) > 1 or not decision.owner.startswith(_UNCONDITIONAL):
        yield from (_tried(tried) for tried in decision.rules if not _is_default(tried))
    for item in decision.involved:
        judged = item.judged
        if judged.shadowed_by is not None:
            yield f"{item.name}: {judged.verdict} by {judged.shadowed_by}"
        elif judged.problems or item.name not in (decision.owner, decision.profile):
            yield f"{item.name}: {judged.verdict}"
        for problem in judged.problems:
            yield f"  {problem.path or 'object'}: {problem.message}"


def _is_default(tried: Tried) -> bool:
    return tried.is_met and tried.name == THE_SERVICE


def _profile(decision: Decision) -> Iterator[str]:
    if not decision.profile:
        if decision.service is not None:
            yield "none"
        return
    yield decision.profile
    for tried in decision.classes:
        yield _tried(tried)
    if decision.is_per_request and not decision.route:
        yield "no route is met: counted as the default route"


def _tried(tried: Tried) -> str:
    if tried.is_met:
        timeout = f", timeout {tried.timeout:g}s" if tried.timeout is not None else ""
        return f"+ {tried.name}: met{timeout}"
    return f"- {tried.name}: {tried.why}"


def _split(decision: Decision) -> Iterator[str]:
    if decision.service is None or not decision.leaves:
        return
    for leaf in decision.leaves:
        mark = ">" if leaf.is_drawn else " "
        draws = f"  draw {leaf.low:.4g} to {leaf.high:.4g}" if len(decision.leaves) > 1 else ""
        via = f"  by {leaf.source}" if leaf.source else ""
        yield f"{mark} {(leaf.high - leaf.low) * 100:6.2f} %  {_short(leaf.authority)}{draws}{via}"
        for text in leaf.filters:
            yield f"    {text}"


def _endpoints(leaf: Leaf) -> Iterator[str]:
    breaker = f", {_breaker(leaf.breaker)}" if leaf.breaker is not None else ""
    yield f"{_short(leaf.authority)}: {len(leaf.endpoints) or 'none'}{breaker}"
    for endpoint in leaf.endpoints[:_MOST]:
        yield f"  {_endpoint(endpoint)}"
    if len(leaf.endpoints) > _MOST:
        yield f"  and {len(leaf.endpoints) - _MOST} more"


def _endpoint(endpoint: Endpoint) -> str:
    who = f"{endpoint.address}:{endpoint.port}"
    if endpoint.pod:
        who += f" {endpoint.pod} ({endpoint.workload})"
    if not endpoint.identity:
        return f"{who}: not meshed, plaintext"
    opaque = ", opaque" if endpoint.opaque else ""
    return f"{who}: mutual TLS with {endpoint.identity}{opaque}"


def _other_end(decision: Decision, bypass: str) -> Iterator[str]:
    """What the servers' own policy says of this client."""
    if not decision.guarded:
        return
    count = len({end for leaf in decision.leaves for end in leaf.endpoints})
    kind = Outcome.TLS_REQUIRED.value
    said = "this client comes with it"
    if bypass:
        said = f"this client gets {kind.status}, mesh-reason: {kind.reason}"
    which = f"{len(decision.guarded)} of {count} endpoints take"
    yield f"{which} nothing without mutual TLS (mesh/require-tls): {said}"


def _outcome(decision: Decision) -> Iterator[str]:
    if decision.answer is not None:
        yield _answer(decision.answer, decision)
        return
    if not decision.leaves:
        yield "leaves as it is, in plaintext"
        return
    drawn = [leaf for leaf in decision.leaves if leaf.is_drawn]
    for leaf in drawn or [leaf for leaf in decision.leaves if leaf.weight]:
        what = "sent to one of its endpoints"
        if leaf.answer is not None:
            what = _answer(leaf.answer, decision)
        lead = "" if drawn else f"{(leaf.high - leaf.low) * 100:.2f} %: "
        yield f"{lead}{_short(leaf.authority)}: {what}"
    if any(leaf.answer is None for leaf in decision.leaves) and decision.is_per_request:
        late = f", 504 timeout after {decision.timeout:g}s" if decision.timeout else ""
        yield f"if no endpoint takes it: 502 connect-failed{late}"


def _bypassed(decision: Decision) -> str:
    service = decision.service
    if service is None:
        return "goes where its address leads, without mutual TLS of the client"
    name = f"{service.namespace}/{service.name}"
    return f"kube-proxy picks among the endpoints of {name}, in plaintext: no split, no profile"


def _answer(answer: Answer, decision: Decision) -> str:
    origin = f"; {answer.origin}" if answer.origin else ""
    if not decision.is_per_request:
        return f"the connection is closed: {answer.reason}{origin} ({answer.text})"
    return f"{answer.status}, mesh-reason: {answer.reason}{origin} ({answer.text})"


def _timeouts(policy: Policy) -> Iterator[str]:
    """The whole request first, then what else is limited."""
    yield "none" if policy.request is None else f"{policy.request:g}s"
    others = {
        "one try": policy.attempt,
        "response head of one try": policy.headers,
        "response after the request": policy.response,
        "silence": policy.idle,
        "stream": policy.stream,
    }
    for name, value in others.items():
        if value is not None:
            yield f"{name}: {value:g}s"


def _retry(decision: Decision) -> Iterator[str]:
    """Nothing where only what is always safe is tried again."""
    retry = decision.policy.retry
    if retry is None:
        return
    when = [str(low) if low == high else f"{low}-{high}" for low, high in retry.statuses]
    when += [f"grpc {code}" for code in retry.grpc]
    when += ["what counts as failure"] if retry.on_failure else []
    when += ["a lost connection"] if retry.on_reset else []
    when += ["a try that takes too long"] if retry.on_timeout else []
    most = "as often as the budget allows" if retry.limit is None else f"at most {retry.limit}"
    yield f"{most}, on {', '.join(when) or 'nothing more than what is always safe'}"
    yield f"after {retry.backoff:g}s to {retry.max_backoff:g}s, drawn at random"
    budget = decision.budget or Budget()
    yield (
        f"budget: {budget.ratio * 100:g} % of the requests of {budget.ttl:g}s, and "
        f"{budget.min_per_second:g} a second"
    )


def _breaker(breaker: Breaker) -> str:
    return (
        f"each out after {breaker.max_failures} failures in a row for {breaker.min_penalty:g}s "
        f"to {breaker.max_penalty:g}s"
    )


def _short(authority: str) -> str:
    """`catalogue-v1.shop:8080` of one of our own authorities; addresses stay."""
    host, _, port = authority.rpartition(":")
    name, mark, _ = host.partition(".svc.")
    return f"{name}:{port}" if mark else authority


def _as_json(decision: Decision, source: str) -> dict[str, Any]:
    question, asker, service = decision.question, decision.asker, decision.service
    return {
        "source": source,
        "request": {
            "method": question.method,
            "url": question.url,
            "headers": [list(pair) for pair in question.headers],
        },
        "client": {
            "namespace": asker.namespace,
            "workload": asker.workload,
            "meshed": bool(asker.pod.control_namespace) if asker.pod is not None else None,
        },
        "notes": list(decision.notes),
        "where": decision.where,
        "address": decision.address,
        "service": service.authority if service is not None else None,
        "protocol": str(decision.protocol),
        "perRequest": decision.is_per_request,
        "owner": decision.owner or None,
        "ownerReason": decision.why_owner if decision.owner else None,
        "rules": [_tried_json(tried) for tried in decision.rules],
        "profile": decision.profile or None,
        "classes": [_tried_json(tried) for tried in decision.classes],
        "route": decision.route or None,
        "backends": [_leaf_json(leaf) for leaf in decision.leaves],
        "timeoutSeconds": decision.timeout,
        "policy": to_builtins(decision.policy),
        "budget": to_builtins(decision.budget or Budget()),
        "filters": list(decision.filters),
        "answer": _answer_json(decision.answer),
        "requireTls": list(decision.guarded),
        "objects": [
            {
                "name": item.name,
                "verdict": str(item.judged.verdict),
                "shadowedBy": str(item.judged.shadowed_by) if item.judged.shadowed_by else None,
                "problems": [
                    {"path": p.path, "reason": p.reason, "message": p.message}
                    for p in item.judged.problems
                ],
            }
            for item in decision.involved
        ],
    }


def _tried_json(tried: Tried) -> dict[str, Any]:
    found = {"name": tried.name, "met": tried.is_met, "why": tried.why}
    if tried.condition:
        found["condition"] = tried.condition
    return found | {"timeoutSeconds": tried.timeout}


def _leaf_json(leaf: Leaf) -> dict[str, Any]:
    return {
        "authority": leaf.authority,
        "weight": leaf.weight,
        "share": leaf.high - leaf.low,
        "draw": [leaf.low, leaf.high],
        "drawn": leaf.is_drawn,
        "source": leaf.source or None,
        "filters": list(leaf.filters),
        "breaker": to_builtins(leaf.breaker) if leaf.breaker is not None else None,
        "endpoints": [
            {
                "address": endpoint.address,
                "port": endpoint.port,
                "pod": endpoint.pod,
                "workload": endpoint.workload,
                "identity": endpoint.identity or None,
                "opaque": endpoint.opaque,
            }
            for endpoint in leaf.endpoints
        ],
        "answer": _answer_json(leaf.answer),
    }


def _answer_json(answer: Answer | None) -> dict[str, Any] | None:
    if answer is None:
        return None
    return {
        "status": answer.status,
        "reason": answer.reason,
        "origin": answer.origin or None,
        "text": answer.text,
    }
