"""Garbage: objects whose owners are gone, and deletions that wait for dependents."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

from mesh.core.errors import ApiError
from mesh.local.api.server import Api
from mesh.local.api.store import Change
from mesh.local.controllers.loop import Key, Loop

Object = dict[str, Any]
log = logging.getLogger(__name__)
FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


class Garbage:
    """Listens to every change of the store and cleans up behind owners."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._dependents: dict[str, set[tuple[str, str, str]]] = {}
        self._loop = Loop("garbage", self._reconcile)
        self._waiting: dict[Key, tuple[str, str, str]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        store = self._api.store
        try:
            store.listen(self._heard)
            for row in tuple(store.registry):
                if row.key == row.store_key:
                    for obj in tuple(store.scan(row.key)):
                        self._saw("ADDED", row.key, obj)
            await asyncio.Event().wait()
        finally:
            self._loop.stop()

    def _heard(self, change: Change) -> None:
        try:
            self._saw(change.type, change.resource, change.obj)
        except Exception:
            log.exception("event not handled name=%s", change.obj["metadata"].get("name"))

    def _saw(self, type_: str, resource: str, obj: Object) -> None:
        meta = obj["metadata"]
        entry = (resource, meta.get("namespace", ""), meta["name"])
        owners = [owner["uid"] for owner in meta.get("ownerReferences") or ()]
        if type_ == "DELETED":
            for uid in owners:
                self._dependents.get(uid, set()).discard(entry)
                self._look_at_owner(uid)
            if meta["uid"] in self._dependents:
                self._loop.add((meta["uid"], ""))
            return
        for uid in owners:
            self._dependents.setdefault(uid, set()).add(entry)
            if not self._exists_somewhere(obj, uid):
                self._loop.add((uid, ""))
        if "deletionTimestamp" in meta and {FOREGROUND, ORPHAN} & set(meta.get("finalizers") or ()):
            self._waiting[(meta["uid"], "")] = entry
            self._loop.add((meta["uid"], ""))

    def _look_at_owner(self, uid: str) -> None:
        if (uid, "") in self._waiting:
            self._loop.add((uid, ""))

    def _exists_somewhere(self, obj: Object, uid: str) -> bool:
        for owner in obj["metadata"].get("ownerReferences") or ():
            if owner["uid"] == uid:
                return self._find_owner(obj, owner) is not None
        return False

    def _find_owner(self, obj: Object, owner: Object) -> Object | None:
        """The owner as the reference names it; one of a kind nobody knows counts as gone."""
        store = self._api.store
        group = owner.get("apiVersion", "").rpartition("/")[0]
        row = store.registry.for_kind(group, owner.get("kind", ""))
        if row is None:
            return None
        namespace = obj["metadata"].get("namespace") if row.namespaced else None
        found = store.find(row.store_key, namespace, owner["name"])
        return found if found is not None and found["metadata"]["uid"] == owner["uid"] else None

    def _objects(self, uid: str) -> Iterator[tuple[str, Object]]:
        for resource, namespace, name in tuple(self._dependents.get(uid, ())):
            found = self._api.store.find(resource, namespace or None, name)
            owners = found["metadata"].get("ownerReferences") or () if found else ()
            if found is not None and any(owner["uid"] == uid for owner in owners):
                yield resource, found
            else:
                self._dependents[uid].discard((resource, namespace, name))

    async def _reconcile(self, key: Key) -> float | None:
        uid = key[0]
        held = self._waiting.get(key)
        owner = None
        if held is not None:
            owner = self._api.store.find(held[0], held[1] or None, held[2])
            if owner is None or owner["metadata"]["uid"] != uid:
                self._waiting.pop(key, None)
                owner = None
        if owner is not None and ORPHAN in (owner["metadata"].get("finalizers") or ()):
            self._orphan(uid)
            self._release(held, owner, ORPHAN)
            return None
        left = [item for item in self._objects(uid) if self._collect(uid, *item, owner is not None)]
        if owner is not None and not left:
            self._release(held, owner, FOREGROUND)
        if owner is None and not left:
            self._dependents.pop(uid, None)
        return None

    def _collect(self, uid: str, resource: str, obj: Object, waited_for: bool) -> bool:
        """Delete a dependent whose owners are all gone; whether its owner has to wait for it."""
        meta = obj["metadata"]
        others = [
            owner
            for owner in meta.get("ownerReferences") or ()
            if owner["uid"] != uid and self._find_owner(obj, owner) is not None
        ]
        if others:
            meta["ownerReferences"] = others
            self._api.store.update(resource, obj)
            return False
        mine = [owner for owner in meta.get("ownerReferences") or () if owner["uid"] == uid]
        if not waited_for and mine and self._find_owner(obj, mine[0]) is not None:
            return False
        if "deletionTimestamp" not in meta:
            if waited_for and any(key == meta["uid"] for key in self._dependents):
                finalizers = [*(meta.get("finalizers") or ()), FOREGROUND]
                meta["finalizers"] = list(dict.fromkeys(finalizers))
                self._api.store.update(resource, obj)
            try:
                self._api.store.delete(
                    resource, meta.get("namespace"), meta["name"], uid=meta["uid"]
                )
            except ApiError as error:
                if error.code != 404:
                    raise
        return any(owner.get("blockOwnerDeletion") for owner in mine)

    def _orphan(self, uid: str) -> None:
        for resource, obj in self._objects(uid):
            owners = obj["metadata"].get("ownerReferences") or ()
            obj["metadata"]["ownerReferences"] = [item for item in owners if item["uid"] != uid]
            self._api.store.update(resource, obj)
        self._dependents.pop(uid, None)

    def _release(self, held: tuple[str, str, str] | None, owner: Object, finalizer: str) -> None:
        if held is None:
            return
        finalizers = owner["metadata"].get("finalizers") or ()
        owner["metadata"]["finalizers"] = [item for item in finalizers if item != finalizer]
        self._waiting.pop((owner["metadata"]["uid"], ""), None)
        self._api.store.update(held[0], owner)
