"""StatefulSets: pods with numbers, made in order and replaced from the last to the first.

What `decide` says is pure. Volume claims and partitions do not exist here: the API refuses
objects that ask for them.
"""

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

Object = dict[str, Any]
REVISION = "controller-revision-hash"
POD_NAME = "statefulset.kubernetes.io/pod-name"
INDEX = "apps.kubernetes.io/pod-index"


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done now: numbers of pods to make, pods to end."""

    create: tuple[int, ...] = ()
    delete: tuple[Object, ...] = ()


def revision_of(stateful_set: Object) -> str:
    """The name of the present template."""
    return f"{stateful_set['metadata']['name']}-{template_hash(stateful_set['spec']['template'])}"


def number_of(stateful_set: Object, pod: Object) -> int:
    """The number in the pod's name; -1 for a name that is not one of this set's."""
    base, _, number = str(pod["metadata"]["name"]).rpartition("-")
    return int(number) if base == stateful_set["metadata"]["name"] and number.isdigit() else -1


def new_pod(stateful_set: Object, number: int) -> Object:
    """The pod of this number, with the host name by which its Service knows it."""
    made = pod_from(stateful_set, stateful_set["spec"]["template"])
    meta, name = made["metadata"], f"{stateful_set['metadata']['name']}-{number}"
    meta["name"] = name
    revision = revision_of(stateful_set)
    meta["labels"] |= {REVISION: revision, POD_NAME: name, INDEX: str(number)}
    service = stateful_set["spec"].get("serviceName")
    names = {"hostname": name} | ({"subdomain": service} if service else {})
    made["spec"] = {**made["spec"], **names}
    return made


def decide(stateful_set: Object, pods: Iterable[Object], now: float) -> Step:
    """The next step towards the wanted pods."""
    spec = stateful_set["spec"]
    first = int((spec.get("ordinals") or {}).get("start") or 0)
    wanted = range(first, first + int(spec.get("replicas", 1)))
    by_number = {number_of(stateful_set, pod): pod for pod in pods}
    over = tuple(
        pod
        for pod in by_number.values()
        if not is_active(pod) and "deletionTimestamp" not in pod["metadata"]
    )
    if over:
        return Step(delete=over)
    missing = tuple(number for number in wanted if number not in by_number)
    surplus = sorted((n for n in by_number if n not in wanted and n >= 0), reverse=True)
    least = float(spec.get("minReadySeconds") or 0)
    late = [n for n in wanted if n in by_number and not _is_available(by_number[n], least, now)]
    if spec.get("podManagementPolicy") == "Parallel":
        if missing or surplus:
            return Step(missing, tuple(by_number[number] for number in surplus))
    else:
        if missing:
            return Step() if any(n < missing[0] for n in late) else Step(missing[:1])
        if surplus:
            return Step(delete=(by_number[surplus[0]],)) if not late else Step()
    if (spec.get("updateStrategy") or {}).get("type") == "OnDelete":
        return Step()
    return _update(revision_of(stateful_set), [by_number[n] for n in reversed(wanted)], least, now)


def _update(revision: str, pods: list[Object], least: float, now: float) -> Step:
    """The next pod of an older template, once those after it are available."""
    for pod in pods:
        if (pod["metadata"].get("labels") or {}).get(REVISION) != revision:
            return Step(delete=(pod,))
        if not _is_available(pod, least, now):
            return Step()
    return Step()


def _is_available(pod: Object, least: float, now: float) -> bool:
    at = available_at(pod, least)
    return at is not None and at <= now and "deletionTimestamp" not in pod["metadata"]


def status(stateful_set: Object, pods: Iterable[Object], now: float) -> Object:
    """The status, by which `kubectl rollout status` waits."""
    spec, old = stateful_set["spec"], stateful_set.get("status") or {}
    least = float(spec.get("minReadySeconds") or 0)
    active = [pod for pod in pods if is_active(pod)]
    update = revision_of(stateful_set)
    updated = [pod for pod in active if pod["metadata"]["labels"].get(REVISION) == update]
    ready = sum(ready_since(pod) is not None for pod in active)
    done = len(updated) == len(active) == ready == int(spec.get("replicas", 1))
    current = update if done else old.get("currentRevision", update)
    made: Object = {
        "observedGeneration": stateful_set["metadata"].get("generation", 1),
        "replicas": len(active),
        "readyReplicas": ready,
        "availableReplicas": sum(_is_available(pod, least, now) for pod in active),
        "currentReplicas": len(updated if current == update else active) if active else 0,
        "updatedReplicas": len(updated),
        "currentRevision": current,
        "updateRevision": update,
        "collisionCount": 0,
    }
    if current != update:
        made["currentReplicas"] = len(active) - len(updated)
    kept = ("replicas", "availableReplicas", "collisionCount")
    return {key: value for key, value in made.items() if value or key in kept}


class StatefulSets:
    """The controller of StatefulSets."""

    def __init__(self, api: Api, recorder: Recorder) -> None:
        self._owners = PodOwners(api, recorder, "statefulsets.apps", "StatefulSet", self._reconcile)

    async def run(self) -> None:
        """Until cancelled."""
        await self._owners.run()

    async def _reconcile(self, key: Key) -> float | None:
        return await self._owners.reconcile(key, self._advance, self._status)

    async def _advance(self, found: Object) -> str:
        owners = self._owners
        step = decide(found, owners.pods(found), time.time())
        failure = await owners.create(found, (new_pod(found, number) for number in step.create))
        owners.delete(found, step.delete)
        return failure

    def _status(self, found: Object, pods: list[Object]) -> Object:
        return status(found, pods, time.time())
