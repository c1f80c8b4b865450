"""Which routing objects another version of the control plane judges differently; pure.

The control plane that runs has written its verdict into the status of each object. This
version's own compiler is asked what it makes of the same objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from destination.compile import compile_store
from destination.endpoints import Cluster
from destination.fragments import Outcome
from destination.status import CONDITION, VERDICT, message_of, verdict_text
from destination.store import Store
from mesh.core import labels
from mesh.core.model import Verdict
from mesh.inject.config import InjectConfig
from mesh.kube.resources import Object, find_resource

_KINDS: Final = {"httproutes.policy.linkerd.io": "HTTPRoute (policy.linkerd.io)"}
_LONGEST: Final = 160  # characters of what a verdict says


def describe_verdicts(objects: Iterable[Object], config: InjectConfig) -> list[str]:
    """One line for each object whose verdict changes. `objects` are all that routing reads:
    namespaces, Services, EndpointSlices, pods and the routing objects."""
    store = Store(cluster_domain=config.cluster_domain, mesh_namespace=config.namespace)
    store.apply_all((obj, False) for obj in objects)
    cluster = Cluster(config.trust_domain, config.namespace, config.cluster_domain)
    outcomes = compile_store(store, cluster).outcomes
    lines = []
    for ref, seen in store.seen.items():
        outcome, status = outcomes.get(ref), seen.status or {}
        old = _condition(status, CONDITION)
        if outcome is None or old is None:
            continue
        words = status.get("verdict") or (_condition(status, VERDICT) or {}).get("message")
        change = _change(old, str(words or ""), outcome)
        if change:
            kind = _KINDS.get(ref.resource) or find_resource(ref.resource).kind
            lines.append(f"{kind} {ref.namespace}/{ref.name}: {change}")
    return sorted(lines)


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    """What stands in a status, of an object or of a route's parent."""
    return next((item for item in _conditions(status) if item.get("type") == kind), None)


def _conditions(status: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from status.get("conditions") or ()
    for parent in status.get("parents") or ():
        if parent.get("controllerName") == labels.CONTROLLER:
            yield from parent.get("conditions") or ()


def _change(old: Mapping[str, Any], words: str, outcome: Outcome) -> str:
    before, after = words or str(old.get("reason")), verdict_text(outcome)
    said = message_of(outcome)
    if before != after:
        return f"{before} -> {after}" + (f": {_cut(said)}" if said else "")
    if outcome.verdict is not Verdict.EFFECTIVE and old.get("message") != said:
        return f"{after} as before, but: {_cut(said)}"
    return ""


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
