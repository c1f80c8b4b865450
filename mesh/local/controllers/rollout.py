"""How a Deployment moves from one template to the next. Pure.

Follows the deployment controller of Kubernetes: surge and unavailability bounds, revisions that
`kubectl rollout history` and `undo` read, conditions that `rollout status` waits for.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mesh.local.controllers.loop import owner_reference
from mesh.local.controllers.pods import parse_time
from mesh.local.node.podstatus import timestamp

Object = dict[str, Any]
HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MOST = "deployment.kubernetes.io/max-replicas"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_NOT_COPIED = (_LAST_APPLIED, REVISION, HISTORY, DESIRED, MOST)
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def template_hash(template: Object, salt: int = 0) -> str:
    """Ten letters that stand for a pod template; `salt` avoids a collision."""
    text = json.dumps([template, salt], sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).digest()
    return "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:10])


def without_hash(template: Object) -> Object:
    """The template as the Deployment has it."""
    meta = dict(template.get("metadata") or {})
    labels = {key: value for key, value in (meta.get("labels") or {}).items() if key != HASH_LABEL}
    return {**template, "metadata": {**meta, "labels": labels}}


def same_template(one: Object, other: Object) -> bool:
    """Equal but for the hash label and empty metadata."""
    return _bare(one) == _bare(other)


def _bare(template: Object) -> Object:
    made = without_hash(template)
    meta = {
        key: value
        for key, value in made["metadata"].items()
        if value and key != "creationTimestamp"
    }
    return {**made, "metadata": meta}


def revision(obj: Object) -> int:
    """The revision number in an object's annotations, 0 without one."""
    text = (obj["metadata"].get("annotations") or {}).get(REVISION, "0")
    return int(text) if text.isdigit() else 0


def replicas(obj: Object) -> int:
    """`spec.replicas`, 1 where unset."""
    value = obj["spec"].get("replicas")
    return 1 if value is None else int(value)


def bound(value: Any, total: int, *, up: bool) -> int:
    """maxSurge or maxUnavailable as a number of pods."""
    if isinstance(value, str) and value.endswith("%"):
        share = int(value[:-1]) * total / 100
        return math.ceil(share) if up else math.floor(share)
    return int(value)


def bounds(deployment: Object) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) in pods; never both 0."""
    strategy = deployment["spec"].get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return 0, 0
    rolling = strategy.get("rollingUpdate") or {}
    total = replicas(deployment)
    surge = bound(rolling.get("maxSurge", "25%"), total, up=True)
    unavailable = bound(rolling.get("maxUnavailable", "25%"), total, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, unavailable


def _available(replica_set: Object) -> int:
    return int((replica_set.get("status") or {}).get("availableReplicas") or 0)


def _by_age(replica_sets: Iterable[Object]) -> list[Object]:
    return sorted(
        replica_sets,
        key=lambda item: (item["metadata"]["creationTimestamp"], item["metadata"]["name"]),
    )


def find_new(deployment: Object, replica_sets: Iterable[Object]) -> Object | None:
    """The ReplicaSet of the Deployment's present template; the oldest where several are."""
    template = deployment["spec"]["template"]
    for replica_set in _by_age(replica_sets):
        if same_template(replica_set["spec"]["template"], template):
            return replica_set
    return None


def copied_annotations(deployment: Object) -> dict[str, str]:
    """Annotations that a ReplicaSet takes from its Deployment, such as the change cause."""
    given = deployment["metadata"].get("annotations") or {}
    return {key: value for key, value in given.items() if key not in _NOT_COPIED}


def new_replica_set(deployment: Object, others: list[Object], taken: Iterable[str]) -> Object:
    """The ReplicaSet of the present template, with no pods yet."""
    meta, spec = deployment["metadata"], deployment["spec"]
    names = set(taken)
    salt = 0
    while (name := f"{meta['name']}-{template_hash(spec['template'], salt)}") in names:
        salt += 1
    digest = name.rpartition("-")[2]
    template = spec["template"]
    given = template.get("metadata") or {}
    labels = {**(given.get("labels") or {}), HASH_LABEL: digest}
    selector = spec["selector"]
    number = max((revision(other) for other in others), default=0) + 1
    made: Object = {
        "replicas": 0,
        "selector": {
            **selector,
            "matchLabels": {**(selector.get("matchLabels") or {}), HASH_LABEL: digest},
        },
        "template": {**template, "metadata": {**given, "labels": labels}},
    }
    if spec.get("minReadySeconds"):
        made["minReadySeconds"] = spec["minReadySeconds"]
    surge, _ = bounds(deployment)
    total = replicas(deployment)
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "namespace": meta["namespace"],
            "labels": labels,
            "annotations": {
                **copied_annotations(deployment),
                REVISION: str(number),
                DESIRED: str(total),
                MOST: str(total + surge),
            },
            "ownerReferences": [owner_reference(deployment)],
        },
        "spec": made,
    }


def next_annotations(deployment: Object, new: Object, others: list[Object]) -> dict[str, str]:
    """The new ReplicaSet's annotations; one that is rolled back to gets the highest revision."""
    old = dict(new["metadata"].get("annotations") or {})
    highest = max((revision(other) for other in others), default=0)
    surge, _ = bounds(deployment)
    total = replicas(deployment)
    made = {**old, **copied_annotations(deployment), DESIRED: str(total), MOST: str(total + surge)}
    if revision(new) <= highest:
        past = [entry for entry in old.get(HISTORY, "").split(",") if entry]
        made[HISTORY] = ",".join([*past, str(revision(new))])
        made[REVISION] = str(highest + 1)
    return made


def scale(deployment: Object, new: Object, old: list[Object], *, old_pods: int) -> dict[str, int]:
    """The replicas that ReplicaSets should have next, by name; unchanged ones are left out.

    `old_pods` are pods of old ReplicaSets that still exist in any state; Recreate waits for them.
    """
    spec = deployment["spec"]
    total = replicas(deployment)
    if (spec.get("strategy") or {}).get("type") == "Recreate":
        return _recreate(total, new, old, old_pods)
    if spec.get("paused"):
        return _paused(total, new, old)
    surge, unavailable = bounds(deployment)
    changes: dict[str, int] = {}
    current = replicas(new) + sum(replicas(item) for item in old)
    wanted = replicas(new)
    if wanted > total:
        wanted = total
    elif wanted < total:
        wanted += max(0, min(total + surge - current, total - wanted))
    if wanted != replicas(new):
        changes[new["metadata"]["name"]] = wanted
        return changes
    return _shrink_old(total, total - unavailable, new, old)


def _recreate(total: int, new: Object, old: list[Object], old_pods: int) -> dict[str, int]:
    shrink = {item["metadata"]["name"]: 0 for item in old if replicas(item)}
    if shrink or old_pods:
        return shrink
    return {new["metadata"]["name"]: total} if replicas(new) != total else {}


def _paused(total: int, new: Object, old: list[Object]) -> dict[str, int]:
    """A paused Deployment is scaled but not rolled: the largest ReplicaSet takes the change."""
    active = [item for item in (new, *old) if replicas(item)]
    if not active:
        return {new["metadata"]["name"]: total} if total else {}
    change = total - sum(replicas(item) for item in active)
    if not change:
        return {}
    largest = max(active, key=replicas)
    return {largest["metadata"]["name"]: max(0, replicas(largest) + change)}


def _shrink_old(total: int, least: int, new: Object, old: list[Object]) -> dict[str, int]:
    left = {item["metadata"]["name"]: replicas(item) for item in old if replicas(item)}
    if not left:
        return {}
    before = dict(left)
    everything = replicas(new) + sum(left.values())
    room = everything - least - (replicas(new) - _available(new))
    if room <= 0:
        return {}
    for item in _by_age(old):  # those that never became available first
        name = item["metadata"]["name"]
        sick = left.get(name, 0) - _available(item)
        if sick > 0:
            step = min(room, sick)
            left[name] -= step
            room -= step
    healthy = sum(min(left.get(item["metadata"]["name"], 0), _available(item)) for item in old)
    spare = healthy + _available(new) - least
    for item in _by_age(old):
        name = item["metadata"]["name"]
        step = min(max(spare, 0), left.get(name, 0))
        if step:
            left[name] -= step
            spare -= step
    return {name: count for name, count in left.items() if count != before[name]}


@dataclass(frozen=True, slots=True)
class Counts:
    """Pods of a Deployment, summed over ReplicaSets."""

    total: int
    updated: int
    ready: int
    available: int


def counts(new: Object | None, old: Iterable[Object]) -> Counts:
    """Add up the ReplicaSets' statuses."""

    def get(item: Object | None, field: str) -> int:
        return int(((item or {}).get("status") or {}).get(field) or 0)

    every = [*old, *([new] if new is not None else [])]
    return Counts(
        sum(get(item, "replicas") for item in every),
        get(new, "replicas"),
        sum(get(item, "readyReplicas") for item in every),
        sum(get(item, "availableReplicas") for item in every),
    )


def is_complete(deployment: Object, count: Counts) -> bool:
    """Whether only pods of the new template run, all of them available."""
    wanted = replicas(deployment)
    return count.updated == count.total == count.available == wanted


def _condition(
    old: Iterable[Object],
    kind: str,
    status: str,
    reason: str,
    message: str,
    now: float,
    moved: bool,
) -> Object:
    stamp = timestamp(now)
    made = {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastUpdateTime": stamp,
        "lastTransitionTime": stamp,
    }
    for entry in old:
        if entry.get("type") != kind:
            continue
        if entry.get("status") == status:
            made["lastTransitionTime"] = entry.get("lastTransitionTime", stamp)
        if entry.get("reason") == reason and entry.get("status") == status and not moved:
            made["lastUpdateTime"] = entry.get("lastUpdateTime", stamp)
            made["message"] = message if kind == "Available" else entry.get("message", message)
    return made


def _progress(
    deployment: Object, new: Object, count: Counts, *, now: float, last: float | None, moved: bool
) -> tuple[str, str, str]:
    """(status, reason, message) of the condition Progressing."""
    name = new["metadata"]["name"]
    if is_complete(deployment, count):
        text = f'ReplicaSet "{name}" has successfully progressed.'
        return "True", "NewReplicaSetAvailable", text
    deadline = deployment["spec"].get("progressDeadlineSeconds")
    limit = 600 if deadline is None else int(deadline)
    paused = deployment["spec"].get("paused")
    if not moved and last is not None and now - last > limit and not paused:
        text = f'ReplicaSet "{name}" has timed out progressing.'
        return "False", "ProgressDeadlineExceeded", text
    return "True", "ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.'


def status(deployment: Object, new: Object | None, old: list[Object], *, now: float) -> Object:
    """The Deployment's status for these ReplicaSets."""
    count = counts(new, old)
    before = deployment.get("status") or {}
    conditions = list(before.get("conditions") or ())
    made = [_availability(deployment, count, conditions, now)]
    if new is not None:
        made.append(_progression(deployment, new, count, now))
    known = {entry["type"] for entry in made}
    made += [entry for entry in conditions if entry.get("type") not in known]
    total = max(replicas(deployment), count.total)
    numbers = {
        "observedGeneration": deployment["metadata"].get("generation", 1),
        "replicas": count.total,
        "updatedReplicas": count.updated,
        "readyReplicas": count.ready,
        "availableReplicas": count.available,
        "unavailableReplicas": max(0, total - count.available),
    }
    return {**{key: value for key, value in numbers.items() if value}, "conditions": made}


def _availability(deployment: Object, count: Counts, old: list[Object], now: float) -> Object:
    _, unavailable = bounds(deployment)
    if count.available >= replicas(deployment) - unavailable:
        text = "Deployment has minimum availability."
        return _condition(old, "Available", "True", "MinimumReplicasAvailable", text, now, False)
    text = "Deployment does not have minimum availability."
    return _condition(old, "Available", "False", "MinimumReplicasUnavailable", text, now, False)


def _progression(deployment: Object, new: Object, count: Counts, now: float) -> Object:
    before = deployment.get("status") or {}
    conditions = list(before.get("conditions") or ())
    moved = _has_moved(before, count) or (
        before.get("observedGeneration") != deployment["metadata"].get("generation")
    )
    stamps = [
        parse_time(entry["lastUpdateTime"])
        for entry in conditions
        if entry.get("type") == "Progressing" and entry.get("lastUpdateTime")
    ]
    last = stamps[0] if stamps else None
    word, reason, text = _progress(deployment, new, count, now=now, last=last, moved=moved)
    restart = moved and word == "True"
    return _condition(conditions, "Progressing", word, reason, text, now, restart)


def _has_moved(before: Mapping[str, Any], count: Counts) -> bool:
    """Whether more pods are new, ready or available, or fewer are old, than before."""

    def had(field: str) -> int:
        return int(before.get(field) or 0)

    return (
        count.updated > had("updatedReplicas")
        or count.ready > had("readyReplicas")
        or count.available > had("availableReplicas")
        or count.total - count.updated < had("replicas") - had("updatedReplicas")
    )


def surplus_history(deployment: Object, old: list[Object]) -> list[Object]:
    """Old ReplicaSets beyond revisionHistoryLimit, oldest revision first."""
    limit = deployment["spec"].get("revisionHistoryLimit")
    keep = 10 if limit is None else int(limit)
    empty = [
        item
        for item in old
        if replicas(item) == 0
        and not (item.get("status") or {}).get("replicas")
        and "deletionTimestamp" not in item["metadata"]
    ]
    empty.sort(key=revision)
    return empty[: max(0, len(empty) - keep)]
