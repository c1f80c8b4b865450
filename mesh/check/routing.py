"""Checks of what users applied: every routing object takes effect, or its verdict is shown.

destination judges; its verdict stands in the status of each object, and is only read here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from mesh.check.cluster import parse_time
from mesh.check.facts import Facts
from mesh.check.model import Category, Check, Fault, Severity
from mesh.core import labels
from mesh.core.model import Verdict
from mesh.kube.pods import name_of, namespace_of

_CONDITION: Final = "Effective"
_WORDS: Final = "Verdict"  # of routes, which have no field for it
_JUDGED: Final = 10.0  # seconds within which an object should have its verdict


def objects_take_effect(facts: Facts) -> Iterator[Fault]:
    for obj in facts.routing.value:
        if not _is_ours(obj):
            continue
        kind = obj.get("kind", "object")
        name = f"{kind} {namespace_of(obj)}/{name_of(obj)}"
        condition = _condition_of(obj, _CONDITION)
        if condition is None:
            if _age(obj, facts) > _JUDGED:
                remedy = f"`kubectl -n {facts.mesh_namespace} logs deploy/{labels.DESTINATION}`"
                yield Fault(name, "has no verdict: nobody judged it", remedy)
        elif condition.get("reason") != Verdict.EFFECTIVE:
            verdict = _text_of(obj) or str(condition.get("reason"))
            yield Fault(
                name,
                f"{verdict}: {condition.get('message') or 'no reason given'}",
                "change what it names, or remove it; "
                f"`kubectl -n {namespace_of(obj)} describe {str(kind).lower()} {name_of(obj)}`",
            )


def _condition_of(obj: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    status = obj.get("status") or {}
    conditions = list(status.get("conditions") or ())
    for parent in status.get("parents") or ():
        if parent.get("controllerName") == labels.CONTROLLER:
            conditions += parent.get("conditions") or ()
    return next((item for item in conditions if item.get("type") == kind), None)


def _is_ours(obj: Mapping[str, Any]) -> bool:
    """Whether destination judges it: not a route whose parents are no Services."""
    parents = (obj.get("spec") or {}).get("parentRefs")
    return not parents or any(ref.get("kind") == "Service" for ref in parents)


def _text_of(obj: Mapping[str, Any]) -> str:
    """`Partial`, `Rejected`, `Shadowed by TrafficSplit/shop/web`."""
    words = (_condition_of(obj, _WORDS) or {}).get("message")
    return str((obj.get("status") or {}).get("verdict") or words or "")


def _age(obj: Mapping[str, Any], facts: Facts) -> float:
    made = parse_time(str((obj.get("metadata") or {}).get("creationTimestamp") or ""))
    return 0.0 if made is None else facts.now - made


ROUTING: Final = Category(
    "mesh-routing",
    (
        Check(
            "every routing object takes effect",
            objects_take_effect,
            Severity.WARNING,
        ),
    ),
)
