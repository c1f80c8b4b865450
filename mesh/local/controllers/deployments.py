"""Deployments: the shell that carries out what `rollout` decides."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from mesh.core.errors import ApiError
from mesh.local.api.server import Api
from mesh.local.controllers import rollout
from mesh.local.controllers.loop import (
    Key,
    Loop,
    controller_of,
    key_of,
    matches,
    owned_by,
    owner_reference,
)
from mesh.local.node.events import Recorder
from mesh.local.node.follow import follow

Object = dict[str, Any]
_RESOURCE, _SETS = "deployments.apps", "replicasets.apps"


class Deployments:
    """The controller of Deployments."""

    def __init__(self, api: Api, recorder: Recorder) -> None:
        self._api = api
        self._recorder = recorder
        self._loop = Loop("deployment", self._reconcile)

    async def run(self) -> None:
        """Until cancelled."""
        store = self._api.store
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(follow(store, _RESOURCE, self._saw))
                group.create_task(follow(store, _SETS, self._saw_set))
                group.create_task(follow(store, "pods", self._saw_pod))
        finally:
            self._loop.stop()

    def _saw(self, _: str, deployment: Object) -> None:
        self._loop.add(key_of(deployment))

    def _saw_set(self, _: str, replica_set: Object) -> None:
        key = controller_of(replica_set, "Deployment")
        if key is not None:
            self._loop.add(key)

    def _saw_pod(self, type_: str, pod: Object) -> None:
        """A Deployment of strategy Recreate waits for the last old pod to be gone."""
        key = controller_of(pod, "ReplicaSet")
        if type_ != "DELETED" or key is None:
            return
        replica_set = self._api.store.find(_SETS, *key)
        if replica_set is not None:
            self._saw_set(type_, replica_set)

    def _sets(self, deployment: Object) -> list[Object]:
        store, meta = self._api.store, deployment["metadata"]
        found = []
        for item in store.list(_SETS, meta["namespace"]):
            owners = item["metadata"].get("ownerReferences") or []
            if owned_by(item, meta["uid"]):
                found.append(item)
            elif matches(
                deployment["spec"]["selector"], item["metadata"].get("labels")
            ) and not any(owner.get("controller") for owner in owners):
                item["metadata"]["ownerReferences"] = [*owners, owner_reference(deployment)]
                found.append(store.update(_SETS, item))
        return found

    async def _reconcile(self, key: Key) -> float | None:
        store = self._api.store
        deployment = store.find(_RESOURCE, *key)
        if deployment is None:
            return None
        sets = self._sets(deployment)
        if "deletionTimestamp" in deployment["metadata"]:
            return None
        new = rollout.find_new(deployment, sets)
        paused = bool(deployment["spec"].get("paused"))
        if new is None and not paused:
            names = [item["metadata"]["name"] for item in store.list(_SETS, key[0])]
            made = rollout.new_replica_set(deployment, sets, names)
            new = await self._api.create(_SETS, made)
        old = [
            item
            for item in sets
            if new is None or item["metadata"]["uid"] != new["metadata"]["uid"]
        ]
        if new is not None:
            new = self._annotate(deployment, new, old)
            self._scale(deployment, new, old)
            new = store.find(_SETS, key[0], new["metadata"]["name"])
            old = [
                found
                for item in old
                if (found := store.find(_SETS, key[0], item["metadata"]["name"])) is not None
            ]
        return self._publish(key, new, old)

    def _annotate(self, deployment: Object, new: Object, old: list[Object]) -> Object:
        store = self._api.store
        wanted = rollout.next_annotations(deployment, new, old)
        least = deployment["spec"].get("minReadySeconds") or 0
        if wanted != new["metadata"].get("annotations") or least != (
            new["spec"].get("minReadySeconds") or 0
        ):
            new["metadata"]["annotations"] = wanted
            new["spec"]["minReadySeconds"] = least
            new = store.update(_SETS, new)
        number = wanted[rollout.REVISION]
        annotations = deployment["metadata"].get("annotations") or {}
        if annotations.get(rollout.REVISION) != number:
            deployment["metadata"]["annotations"] = {**annotations, rollout.REVISION: number}
            deployment.update(store.update(_RESOURCE, deployment))
        return new

    def _scale(self, deployment: Object, new: Object, old: list[Object]) -> None:
        store = self._api.store
        by_name = {item["metadata"]["name"]: item for item in (new, *old)}
        uids = [item["metadata"]["uid"] for item in old]
        pods = store.scan("pods", deployment["metadata"]["namespace"])
        left = sum(any(owned_by(pod, uid) for uid in uids) for pod in pods)
        for name, count in rollout.scale(deployment, new, old, old_pods=left).items():
            item = by_name[name]
            before = rollout.replicas(item)
            item["spec"]["replicas"] = count
            try:
                store.update(_SETS, item)
            except ApiError as error:
                if error.code not in (404, 409):
                    raise
                continue
            word = "up" if count > before else "down"
            text = f"Scaled {word} replica set {name} from {before} to {count}"
            self._recorder.event(deployment, "ScalingReplicaSet", text)

    def _publish(self, key: Key, new: Object | None, old: list[Object]) -> float | None:
        store = self._api.store
        deployment = store.find(_RESOURCE, *key)
        if deployment is None:
            return None
        now = time.time()
        fresh = rollout.status(deployment, new, old, now=now)
        if fresh != deployment.get("status"):
            deployment["status"] = fresh
            deployment = store.update(_RESOURCE, deployment, subresource="status")
        complete = rollout.is_complete(deployment, rollout.counts(new, old))
        if complete:
            for item in rollout.surplus_history(deployment, old):
                store.delete(_SETS, key[0], item["metadata"]["name"])
            return None
        deadline = deployment["spec"].get("progressDeadlineSeconds")
        return float(600 if deadline is None else deadline) + 1.0
