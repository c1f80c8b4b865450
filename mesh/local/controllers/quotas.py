"""ResourceQuotas: what the pods of a namespace use of them, in the status."""

from __future__ import annotations

import asyncio
from typing import Any

from mesh.local.api import limits
from mesh.local.api.server import Api
from mesh.local.controllers.loop import Key, Loop, key_of
from mesh.local.node.follow import follow

Object = dict[str, Any]
RESOURCE = "resourcequotas"


class Quotas:
    """The controller of ResourceQuotas."""

    def __init__(self, api: Api) -> None:
        self._store = api.store
        self._loop = Loop("resourcequota", self._reconcile)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(follow(self._store, RESOURCE, self._saw))
                group.create_task(follow(self._store, "pods", self._saw_pod))
        finally:
            self._loop.stop()

    def _saw(self, _: str, quota: Object) -> None:
        self._loop.add(key_of(quota))

    def _saw_pod(self, _: str, pod: Object) -> None:
        for quota in self._store.scan(RESOURCE, pod["metadata"]["namespace"]):
            self._loop.add(key_of(quota))

    async def _reconcile(self, key: Key) -> None:
        quota = self._store.find(RESOURCE, *key)
        if quota is None:
            return
        used = limits.used_by(quota, self._store.scan("pods", key[0]))
        fresh = {"hard": dict(quota["spec"].get("hard") or {}), "used": used}
        if fresh != quota.get("status"):
            self._store.update(RESOURCE, {**quota, "status": fresh}, subresource="status")
