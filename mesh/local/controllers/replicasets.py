"""ReplicaSets: as many pods as asked for."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from mesh.core.errors import ApiError
from mesh.local.api.server import Api
from mesh.local.controllers.loop import (
    Key,
    Loop,
    controller_of,
    key_of,
    matches,
    owned_by,
    owner_reference,
)
from mesh.local.controllers.pods import available_at, deletion_rank, is_active, ready_since
from mesh.local.node.events import Recorder
from mesh.local.node.follow import follow
from mesh.local.node.podstatus import timestamp

Object = dict[str, Any]
_RESOURCE = "replicasets.apps"


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
    template, meta = replica_set["spec"]["template"], replica_set["metadata"]
    given = template.get("metadata") or {}
    made: Object = {
        "generateName": f"{meta['name']}-",
        "namespace": meta["namespace"],
        "labels": dict(given.get("labels") or {}),
        "ownerReferences": [owner_reference(replica_set)],
    }
    if given.get("annotations"):
        made["annotations"] = dict(given["annotations"])
    if given.get("finalizers"):
        made["finalizers"] = list(given["finalizers"])
    return {"apiVersion": "v1", "kind": "Pod", "metadata": made, "spec": template["spec"]}


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
        self._api = api
        self._recorder = recorder
        self._loop = Loop("replicaset", self._reconcile)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(follow(self._api.store, _RESOURCE, self._saw))
                group.create_task(follow(self._api.store, "pods", self._saw_pod))
        finally:
            self._loop.stop()

    def _saw(self, _: str, replica_set: Object) -> None:
        self._loop.add(key_of(replica_set))

    def _saw_pod(self, _: str, pod: Object) -> None:
        key = controller_of(pod, "ReplicaSet")
        if key is not None:
            self._loop.add(key)
            return
        for found in self._api.store.scan(_RESOURCE, pod["metadata"]["namespace"]):
            if matches(found["spec"]["selector"], pod["metadata"].get("labels")):
                self._loop.add(key_of(found))

    def _pods(self, replica_set: Object) -> list[Object]:
        """Its pods, after adopting matching ones that nobody controls."""
        store, meta = self._api.store, replica_set["metadata"]
        found = []
        for pod in tuple(store.scan("pods", meta["namespace"])):
            if owned_by(pod, meta["uid"]):
                found.append(pod)
                continue
            owners = pod["metadata"].get("ownerReferences") or []
            if any(owner.get("controller") for owner in owners) or not is_active(pod):
                continue
            if matches(replica_set["spec"]["selector"], pod["metadata"].get("labels")):
                owners = [*owners, owner_reference(replica_set)]
                adopted = {**pod, "metadata": {**pod["metadata"], "ownerReferences": owners}}
                found.append(store.update("pods", adopted))
        return found

    async def _reconcile(self, key: Key) -> float | None:
        store = self._api.store
        replica_set = store.find(_RESOURCE, *key)
        if replica_set is None:
            return None
        pods = self._pods(replica_set)
        failure = ""
        if "deletionTimestamp" not in replica_set["metadata"]:
            failure = await self._scale(replica_set, pods)
            replica_set = store.find(_RESOURCE, *key)
            if replica_set is None:
                return None
            pods = self._pods(replica_set)
        now = time.time()
        fresh = status(replica_set, pods, now=now, failure=failure)
        if fresh != replica_set.get("status"):
            replica_set["status"] = fresh
            store.update(_RESOURCE, replica_set, subresource="status")
        if failure:
            return 2.0
        return _next_available(replica_set, pods, now)

    async def _scale(self, replica_set: Object, pods: list[Object]) -> str:
        wanted = scaling(int(replica_set["spec"].get("replicas", 1)), pods)
        results = await asyncio.gather(
            *(self._create(replica_set) for _ in range(wanted.create)),
        )
        for pod in wanted.delete:
            meta = pod["metadata"]
            self._api.store.delete("pods", meta["namespace"], meta["name"], uid=meta["uid"])
            text = f"Deleted pod: {meta['name']}"
            self._recorder.event(replica_set, "SuccessfulDelete", text)
        return next(filter(None, results), "")

    async def _create(self, replica_set: Object) -> str:
        try:
            pod = await self._api.create("pods", new_pod(replica_set))
        except ApiError as error:
            text = f"Error creating: {error.message}"
            self._recorder.event(replica_set, "FailedCreate", text, warning=True)
            return error.message
        text = f"Created pod: {pod['metadata']['name']}"
        self._recorder.event(replica_set, "SuccessfulCreate", text)
        return ""


def _next_available(replica_set: Object, pods: list[Object], now: float) -> float | None:
    """Seconds until the next ready pod becomes available, where minReadySeconds is set."""
    least = float(replica_set["spec"].get("minReadySeconds") or 0)
    waiting = [at - now for pod in pods if (at := available_at(pod, least)) is not None]
    ahead = [seconds for seconds in waiting if seconds > 0]
    return min(ahead) + 0.01 if ahead else None
