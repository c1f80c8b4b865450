"""Outcomes -> what users see on their objects: a status, or the text of an event; pure."""

from __future__ import annotations

from typing import Final

from destination.facts import Object, as_list, as_mapping
from destination.fragments import Outcome, Ref
from destination.store import Seen
from mesh.core.model import Verdict

CONDITION: Final = "Effective"
VERDICT: Final = "Verdict"  # of routes, whose status has no field for it
_MOST_PROBLEMS: Final = 20
_LONGEST: Final = 1024  # characters of a message
IN_EFFECT: Final = frozenset((Verdict.EFFECTIVE, Verdict.PARTIAL))


def status_of(outcome: Outcome, seen: Seen, now: str) -> Object | None:
    """The status that an object should have, or None when it has it already.

    Conditions that are not ours stay. `now` is the time as Kubernetes writes it; it counts
    only where the condition's status changes.
    """
    old = as_mapping(seen.status)
    conditions = [as_mapping(item) for item in as_list(old.get("conditions"))]
    others = [dict(item) for item in conditions if item.get("type") != CONDITION]
    mine = next((item for item in conditions if item.get("type") == CONDITION), {})
    condition = {
        "type": CONDITION,
        "status": "True" if outcome.verdict in IN_EFFECT else "False",
        "reason": outcome.verdict.value,
        "message": message_of(outcome),
        "observedGeneration": seen.generation,
    }
    is_same = mine.get("status") == condition["status"] and mine.get("lastTransitionTime")
    condition["lastTransitionTime"] = mine["lastTransitionTime"] if is_same else now
    status: Object = {
        "conditions": [*others, condition],
        "verdict": verdict_text(outcome),
        "problems": [
            {"path": problem.path, "reason": problem.reason, "message": problem.message}
            for problem in outcome.problems[:_MOST_PROBLEMS]
        ],
    }
    return None if all(old.get(key) == value for key, value in status.items()) else status


def verdict_text(outcome: Outcome) -> str:
    """`Effective`, `Partial`, `Rejected` or `Shadowed by TrafficSplit/shop/web`."""
    if outcome.shadowed_by is not None:
        return f"{outcome.verdict.value} by {outcome.shadowed_by}"
    return outcome.verdict.value


def message_of(outcome: Outcome) -> str:
    """One text with everything: what the object acts on, then each problem."""
    parts = []
    if outcome.service and outcome.verdict in IN_EFFECT:
        parts.append(f"acts on Service {outcome.service}")
    parts += [
        f"{problem.path}: {problem.message}" if problem.path else problem.message
        for problem in outcome.problems
    ]
    text = "; ".join(parts)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def event_of(
    ref: Ref, kind: str, api_version: str, uid: str, outcome: Outcome, *, now: str, name: str
) -> Object:
    """The same as an event on the object, where it has no status to write to."""
    is_fine = outcome.verdict is Verdict.EFFECTIVE
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": ref.namespace, "name": name},
        "involvedObject": {
            "apiVersion": api_version,
            "kind": kind,
            "namespace": ref.namespace,
            "name": ref.name,
            "uid": uid,
        },
        "type": "Normal" if is_fine else "Warning",
        "reason": outcome.verdict.value,
        "message": message_of(outcome) or verdict_text(outcome),
        "source": {"component": "mesh-destination"},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
