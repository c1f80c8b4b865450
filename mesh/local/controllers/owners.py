"""What controllers that own pods share: which pods those are, and making and ending them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from mesh.core.errors import ApiError
from mesh.local.api.server import Api
from mesh.local.controllers.loop import (
    Key,
    Loop,
    Reconcile,
    controller_of,
    key_of,
    matches,
    owned_by,
    owner_reference,
)
from mesh.local.controllers.pods import is_active
from mesh.local.node.events import Recorder
from mesh.local.node.follow import follow

Object = dict[str, Any]


def pod_from(owner: Object, template: Object) -> Object:
    """A pod of this template that `owner` controls, without a name."""
    given = template.get("metadata") or {}
    meta: Object = {
        "namespace": owner["metadata"]["namespace"],
        "labels": dict(given.get("labels") or {}),
        "ownerReferences": [owner_reference(owner)],
    }
    if given.get("annotations"):
        meta["annotations"] = dict(given["annotations"])
    if given.get("finalizers"):
        meta["finalizers"] = list(given["finalizers"])
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}


AGAIN = 2.0  # seconds until pods that could not be made are tried again

Advance = Callable[[Object], Awaitable[str]]
"""Takes one owner a step on: makes and ends pods; gives what kept one from being made."""
Status = Callable[[Object, list[Object]], Object]


class PodOwners:
    """All objects of one kind, each with its pods: watches them and keeps the shell's chores."""

    def __init__(
        self, api: Api, recorder: Recorder, resource: str, kind: str, reconcile: Reconcile
    ) -> None:
        self._api = api
        self._recorder = recorder
        self.resource = resource
        self.kind = kind
        self._loop = Loop(kind.lower(), reconcile)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(follow(self._api.store, self.resource, self._saw))
                group.create_task(follow(self._api.store, "pods", self._saw_pod))
        finally:
            self._loop.stop()

    def _saw(self, _: str, owner: Object) -> None:
        self._loop.add(key_of(owner))

    def _saw_pod(self, _: str, pod: Object) -> None:
        key = controller_of(pod, self.kind)
        if key is not None:
            self._loop.add(key)
            return
        if any(owner.get("controller") for owner in pod["metadata"].get("ownerReferences") or ()):
            return
        for found in self._api.store.scan(self.resource, pod["metadata"]["namespace"]):
            if matches(found["spec"]["selector"], pod["metadata"].get("labels")):
                self._loop.add(key_of(found))

    async def reconcile(self, key: Key, advance: Advance, status: Status) -> float | None:
        """One step of the owner of this key, and its status after it; seconds until the next."""
        found = self.find(key)
        if found is None or "deletionTimestamp" in found["metadata"]:
            return None
        failure = await advance(found)
        found = self.find(key)
        if found is None:
            return None
        self.publish(found, status(found, self.pods(found)))
        least = float(found["spec"].get("minReadySeconds") or 0)
        return AGAIN if failure else least or None

    def find(self, key: Key) -> Object | None:
        """The owner of this key as it is now."""
        return self._api.store.find(self.resource, *key)

    def pods(self, owner: Object) -> list[Object]:
        """Its pods, after adopting matching ones that nobody controls."""
        store, meta = self._api.store, owner["metadata"]
        found = []
        for pod in tuple(store.scan("pods", meta["namespace"])):
            if owned_by(pod, meta["uid"]):
                found.append(pod)
                continue
            owners = pod["metadata"].get("ownerReferences") or []
            if any(owner.get("controller") for owner in owners) or not is_active(pod):
                continue
            if matches(owner["spec"]["selector"], pod["metadata"].get("labels")):
                owners = [*owners, owner_reference(owner)]
                adopted = {**pod, "metadata": {**pod["metadata"], "ownerReferences": owners}}
                found.append(store.update("pods", adopted))
        return found

    async def create(self, owner: Object, pods: Iterable[Object]) -> str:
        """Make these pods side by side; what kept one from being made, else nothing."""
        results = await asyncio.gather(*(self._create(owner, pod) for pod in pods))
        return next(filter(None, results), "")

    async def _create(self, owner: Object, pod: Object) -> str:
        try:
            made = await self._api.create("pods", pod)
        except ApiError as error:
            text = f"Error creating: {error.message}"
            self._recorder.event(owner, "FailedCreate", text, warning=True)
            return error.message
        text = f"Created pod: {made['metadata']['name']}"
        self._recorder.event(owner, "SuccessfulCreate", text)
        return ""

    def delete(self, owner: Object, pods: Iterable[Object]) -> None:
        """End these pods, each with its grace period."""
        for pod in pods:
            meta = pod["metadata"]
            if "deletionTimestamp" in meta:
                continue
            self._api.store.delete("pods", meta["namespace"], meta["name"], uid=meta["uid"])
            text = f"Deleted pod: {meta['name']}"
            self._recorder.event(owner, "SuccessfulDelete", text)

    def publish(self, owner: Object, status: Object) -> None:
        """Write the status where it differs."""
        if status != owner.get("status"):
            self._api.store.update(self.resource, {**owner, "status": status}, subresource="status")
