"""ReplicaSets: as many pods as asked for."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from mesh.local.api.server import Api
from mesh.local.controllers.loop import Key, matches
from mesh.local.controllers.owners import AGAIN, PodOwners, pod_from
from mesh.local.controllers.pods import available_at, deletion_rank, is_active, ready_since
from mesh.local.node.events import Recorder
from mesh.local.node.podstatus import timestamp

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scaling:
    """What a ReplicaSet needs: pods to make, pods to delete."""

    create: int
    delete: tuple[Object, ...]


def scaling(wanted: int, pods: list[Object]) -> Scaling:
    """Compare the active pods with the wanted number."""
    active = [pod for pod in pods if is_active(pod)]
    surplus = len(active) - wanted
    if surplus <= 0:
        return Scaling(-surplus, ())
    return Scaling(0, tuple(sorted(active, key=deletion_rank)[:surplus]))


def new_pod(replica_set: Object) -> Object:
    """A pod from the template."""
    made = pod_from(replica_set, replica_set["spec"]["template"])
    made["metadata"]["generateName"] = f"{replica_set['metadata']['name']}-"
    return made


def status(replica_set: Object, pods: list[Object], *, now: float, failure: str = "") -> Object:
    """The status, and with it what `kubectl get rs` shows."""
    active = [pod for pod in pods if is_active(pod)]
    least = float(replica_set["spec"].get("minReadySeconds") or 0)
    wanted = (replica_set["spec"]["template"].get("metadata") or {}).get("labels") or {}
    made: Object = {
        "replicas": len(active),
        "fullyLabeledReplicas": sum(
            matches({"matchLabels": wanted}, pod["metadata"].get("labels")) for pod in active
        ),
        "readyReplicas": sum(ready_since(pod) is not None for pod in active),
        "availableReplicas": sum(
            (at := available_at(pod, least)) is not None and at <= now for pod in active
        ),
        "observedGeneration": replica_set["metadata"].get("generation", 1),
    }
    made = {key: value for key, value in made.items() if value or key == "replicas"}
    if failure:
        made["conditions"] = [
            {
                "type": "ReplicaFailure",
                "status": "True",
                "reason": "FailedCreate",
                "message": failure,
                "lastTransitionTime": timestamp(now),
            }
        ]
    return made


class ReplicaSets:
    """The controller of ReplicaSets."""

    def __init__(self, api: Api, recorder: Recorder) -> None:
        self._owners = PodOwners(api, recorder, "replicasets.apps", "ReplicaSet", self._reconcile)

    async def run(self) -> None:
        """Until cancelled."""
        await self._owners.run()

    async def _reconcile(self, key: Key) -> float | None:
        owners = self._owners
        replica_set = owners.find(key)
        if replica_set is None:
            return None
        pods = owners.pods(replica_set)
        failure = ""
        if "deletionTimestamp" not in replica_set["metadata"]:
            failure = await self._scale(replica_set, pods)
            replica_set = owners.find(key)
            if replica_set is None:
                return None
            pods = owners.pods(replica_set)
        now = time.time()
        owners.publish(replica_set, status(replica_set, pods, now=now, failure=failure))
        if failure:
            return AGAIN
        return _next_available(replica_set, pods, now)

    async def _scale(self, replica_set: Object, pods: list[Object]) -> str:
        wanted = scaling(int(replica_set["spec"].get("replicas", 1)), pods)
        fresh = (new_pod(replica_set) for _ in range(wanted.create))
        failure = await self._owners.create(replica_set, fresh)
        self._owners.delete(replica_set, wanted.delete)
        return failure


def _next_available(replica_set: Object, pods: list[Object], now: float) -> float | None:
    """Seconds until the next ready pod becomes available, where minReadySeconds is set."""
    least = float(replica_set["spec"].get("minReadySeconds") or 0)
    waiting = [at - now for pod in pods if (at := available_at(pod, least)) is not None]
    ahead = [seconds for seconds in waiting if seconds > 0]
    return min(ahead) + 0.01 if ahead else None
