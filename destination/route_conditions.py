"""The status of a route: one entry for each Service among its parents; pure.

Entries of other controllers are theirs and stay (RouteParentStatus); an entry of ours whose
parent is gone from the route goes. Besides the conditions of the Gateway API, each entry has
our verdict on the whole route as `Effective`, with all problems, and in few words, as a column
of `kubectl get` shows it, as `Verdict`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from destination.facts import Object, as_list, as_mapping
from destination.fragments import Outcome, ParentOutcome
from destination.status import CONDITION, IN_EFFECT, VERDICT, message_of, verdict_text
from destination.store import Seen
from mesh.core import labels

_LONGEST = 4096


def route_status_of(outcome: Outcome | None, seen: Seen, now: str) -> Object | None:
    """The status that a route should have, or None when it has it. Outcome None: no parent of
    the route is ours (any more)."""
    old = [as_mapping(entry) for entry in as_list(as_mapping(seen.status).get("parents"))]
    mine = [entry for entry in old if entry.get("controllerName") == labels.CONTROLLER]
    others = [dict(entry) for entry in old if entry.get("controllerName") != labels.CONTROLLER]
    if outcome is None and not mine:
        return None
    entries = [
        _entry(outcome, parent, _find(mine, parent), seen.generation, now)
        for parent in (outcome.parents if outcome is not None else ())
    ]
    parents = [*others, *entries]
    return None if parents == [dict(entry) for entry in old] else {"parents": parents}


def _find(entries: list[Mapping[str, Any]], parent: ParentOutcome) -> Mapping[str, Any]:
    return next((entry for entry in entries if entry.get("parentRef") == dict(parent.ref)), {})


def _entry(
    outcome: Outcome | None,
    parent: ParentOutcome,
    old: Mapping[str, Any],
    generation: int,
    now: str,
) -> Object:
    is_accepted = parent.accepted == "Accepted"
    is_resolved = parent.resolved == "ResolvedRefs"
    wanted = [
        ("Accepted", is_accepted, parent.accepted, parent.accepted_message),
        ("ResolvedRefs", is_resolved, parent.resolved, parent.resolved_message),
    ]
    if parent.partial:
        wanted.append(("PartiallyInvalid", True, "UnsupportedValue", parent.partial))
    if outcome is not None:
        verdict = outcome.verdict
        is_acting = verdict in IN_EFFECT
        wanted.append((CONDITION, is_acting, verdict.value, message_of(outcome)))
        wanted.append((VERDICT, is_acting, verdict.value, verdict_text(outcome)))
    known = {item.get("type"): item for item in map(as_mapping, as_list(old.get("conditions")))}
    conditions = []
    for kind, holds, reason, message in wanted:
        status = "True" if holds else "False"
        before = known.get(kind, {})
        is_same = before.get("status") == status and before.get("lastTransitionTime")
        conditions.append(
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message[:_LONGEST],
                "observedGeneration": generation,
                "lastTransitionTime": before["lastTransitionTime"] if is_same else now,
            }
        )
    return {
        "parentRef": dict(parent.ref),
        "controllerName": labels.CONTROLLER,
        "conditions": conditions,
    }
