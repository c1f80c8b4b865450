"""DaemonSets: one pod on the one node, if the node suits it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mesh.local.api.server import Api
from mesh.local.controllers.loop import Key
from mesh.local.controllers.owners import PodOwners, pod_from
from mesh.local.controllers.pods import available_at, is_active, ready_since
from mesh.local.controllers.rollout import template_hash
from mesh.local.node.events import Recorder
from mesh.local.node.kubelet import node_labels, why_not

Object = dict[str, Any]
REVISION = "controller-revision-hash"
GENERATION = "pod-template-generation"


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done now."""

    create: bool = False
    delete: tuple[Object, ...] = ()


def revision_of(daemon_set: Object) -> str:
    """The name of the present template."""
    return template_hash(daemon_set["spec"]["template"])


def new_pod(daemon_set: Object) -> Object:
    """A pod from the template."""
    made = pod_from(daemon_set, daemon_set["spec"]["template"])
    meta, owner = made["metadata"], daemon_set["metadata"]
    meta["generateName"] = f"{owner['name']}-"
    marks = {REVISION: revision_of(daemon_set), GENERATION: str(owner.get("generation", 1))}
    meta["labels"] |= marks
    return made


def is_wanted(daemon_set: Object, node: str) -> bool:
    """Whether the node is to have a pod."""
    return not why_not(daemon_set["spec"]["template"], node_labels(node))


def decide(daemon_set: Object, pods: Iterable[Object], wanted: bool) -> Step:
    """The next step: old pods go first, or with maxSurge after the new one is ready."""
    there = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    over = tuple(pod for pod in there if not is_active(pod))
    active = [pod for pod in there if is_active(pod)]
    if not wanted:
        return Step(delete=(*over, *active))
    new = [pod for pod in active if _is_new(daemon_set, pod)]
    old = tuple(pod for pod in active if not _is_new(daemon_set, pod))
    strategy = daemon_set["spec"].get("updateStrategy") or {}
    if old and strategy.get("type") == "OnDelete":
        return Step(delete=over)
    surge = (strategy.get("rollingUpdate") or {}).get("maxSurge") not in (None, 0, "0", "0%")
    if old and surge:
        ready = any(ready_since(pod) is not None for pod in new)
        return Step(create=not new, delete=(*over, *(old if ready else ())))
    return Step(create=not active, delete=(*over, *old, *new[1:]))


def _is_new(daemon_set: Object, pod: Object) -> bool:
    marks = pod["metadata"].get("labels") or {}
    return bool(marks.get(REVISION) == revision_of(daemon_set))


def status(daemon_set: Object, pods: Iterable[Object], wanted: bool, now: float) -> Object:
    """The status, by which `kubectl rollout status` waits."""
    least = float(daemon_set["spec"].get("minReadySeconds") or 0)
    active = [pod for pod in pods if is_active(pod)][:1]
    ready = sum(ready_since(pod) is not None for pod in active)
    available = sum((at := available_at(p, least)) is not None and at <= now for p in active)
    made: Object = {
        "currentNumberScheduled": len(active) if wanted else 0,
        "desiredNumberScheduled": int(wanted),
        "numberMisscheduled": 0 if wanted else len(active),
        "numberReady": ready,
        "numberAvailable": available,
        "numberUnavailable": int(wanted) - available,
        "updatedNumberScheduled": sum(_is_new(daemon_set, pod) for pod in active),
        "observedGeneration": daemon_set["metadata"].get("generation", 1),
    }
    kept = ("currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady")
    return {key: value for key, value in made.items() if value or key in kept}


class DaemonSets:
    """The controller of DaemonSets."""

    def __init__(self, api: Api, recorder: Recorder, node: str) -> None:
        self._node = node
        self._owners = PodOwners(api, recorder, "daemonsets.apps", "DaemonSet", self._reconcile)

    async def run(self) -> None:
        """Until cancelled."""
        await self._owners.run()

    async def _reconcile(self, key: Key) -> float | None:
        return await self._owners.reconcile(key, self._advance, self._status)

    async def _advance(self, found: Object) -> str:
        owners = self._owners
        step = decide(found, owners.pods(found), is_wanted(found, self._node))
        owners.delete(found, step.delete)
        return await owners.create(found, [new_pod(found)] if step.create else [])

    def _status(self, found: Object, pods: list[Object]) -> Object:
        return status(found, pods, is_wanted(found, self._node), time.time())
