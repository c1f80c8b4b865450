"""The objects of the cluster, with revisions, conflicts, finalizers, watches and a journal.

Synchronous and in memory. It knows metadata and the rules that hold for every kind; what
single kinds want (defaults, validation, admission, permissions) is done before, in
`server.Api`. What it gives is a copy; what it takes is copied: callers may change both.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeVar, cast

from mesh.local.api import selectors, status
from mesh.local.api.journal import Entry, Journal
from mesh.local.api.resources import Object, Registry

HISTORY: Final = 4096  # changes kept for watches that resume; older ones get 410
BACKLOG: Final = 8192  # changes a watch may lag behind before it is ended with 410
POD_GRACE: Final = 30  # seconds, where neither the request nor the pod says

Test = Callable[[Object], bool]
Json = TypeVar("Json")


class Change(NamedTuple):
    """One change of one object; `old` is None for an addition. Not to be changed."""

    revision: int
    type: str  # ADDED, MODIFIED, DELETED
    resource: str
    obj: Object
    old: Object | None


class Store:
    """All objects by resource, namespace and name.

    `clock` gives seconds since the epoch. Raises ApiError as the API server words it.
    """

    def __init__(
        self,
        registry: Registry | None = None,
        journal: Journal | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.registry = registry or Registry()
        self._journal = journal
        self._clock = clock
        self._objects: dict[str, dict[tuple[str, str], Object]] = {}
        self._history: deque[Change] = deque(maxlen=HISTORY)
        self._watches: set[Watch] = set()
        self._listeners: list[Callable[[Change], None]] = []
        self.revision = 1
        self._oldest = 1  # watches can resume from here on
        if journal is not None:
            self._load(journal)

    # -- reading -------------------------------------------------------------------------

    def get(self, resource: str, namespace: str | None, name: str) -> Object:
        """Raises ApiError 404."""
        return copy(self.peek(resource, namespace, name))

    def peek(self, resource: str, namespace: str | None, name: str) -> Object:
        """As `get`, but the stored object itself: to look at, never to change."""
        found = self._objects.get(resource, {}).get((namespace or "", name))
        if found is None:
            raise status.not_found(resource, name)
        return found

    def find(self, resource: str, namespace: str | None, name: str) -> Object | None:
        """As `get`, with None for what is not there."""
        found = self._objects.get(resource, {}).get((namespace or "", name))
        return None if found is None else copy(found)

    def list(
        self, resource: str, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> list[Object]:
        """By namespace and name. `namespace` None means all. Raises ApiError 400 on a selector."""
        test = parse_selectors(labels, fields)
        return [copy(obj) for obj in self.scan(resource, namespace) if test(obj)]

    def scan(self, resource: str, namespace: str | None = None) -> Iterator[Object]:
        """The stored objects themselves, in order: to look at, never to change."""
        kept = self._objects.get(resource, {})
        for key in sorted(kept):
            if namespace is None or key[0] == namespace:
                yield kept[key]

    # -- writing -------------------------------------------------------------------------

    def create(self, resource: str, obj: Object) -> Object:
        """Sets uid where there is none, creationTimestamp and resourceVersion.

        Raises ApiError 409 if it exists.
        """
        fresh = self.prepared(resource, obj)
        meta = fresh["metadata"]
        if (meta.get("namespace", ""), meta["name"]) in self._objects.get(resource, {}):
            raise status.already_exists(resource, meta["name"])
        return self._write("ADDED", resource, fresh, None)

    def prepared(self, resource: str, obj: Object) -> Object:
        """The object as `create` would store it, but for its resourceVersion (for dry runs)."""
        fresh = copy(obj)
        meta = fresh.setdefault("metadata", {})
        meta["uid"] = meta.get("uid") or str(uuid.uuid4())
        meta["creationTimestamp"] = timestamp(self._clock())
        for field in ("resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds"):
            meta.pop(field, None)
        row = self.registry.find(resource)
        meta.pop("generation", None)
        if row is not None and (row.generation or row.custom):
            meta["generation"] = 1
        return fresh

    def update(self, resource: str, obj: Object, *, subresource: str | None = None) -> Object:
        """Replace an object; `subresource="status"` takes its status only.

        A resource with a status subresource keeps its status otherwise. Raises ApiError 404,
        and 409 if `metadata.resourceVersion` or `metadata.uid` is set and not the stored one.
        Removing the last finalizer of a deleted object removes it. No change writes nothing.
        """
        meta = obj.get("metadata") or {}
        old = self.peek(resource, meta.get("namespace"), meta.get("name", ""))
        fresh = self.merged(resource, old, obj, subresource=subresource)
        if fresh == old:
            return copy(old)
        done = fresh["metadata"]
        if (
            "deletionTimestamp" in done
            and not _held(fresh)
            and (not done.get("deletionGracePeriodSeconds") or resource != "pods")
        ):
            return self._remove(resource, fresh)
        return self._write("MODIFIED", resource, fresh, old)

    def merged(
        self, resource: str, old: Object, obj: Object, *, subresource: str | None = None
    ) -> Object:
        """What `update` would store over `old`, with the old resourceVersion. Raises 409."""
        given = obj.get("metadata") or {}
        kept = old["metadata"]
        if given.get("resourceVersion") not in (None, "", kept["resourceVersion"]):
            raise status.conflict(resource, kept["name"])
        if given.get("uid") not in (None, "", kept["uid"]):
            raise status.conflict(
                resource,
                kept["name"],
                f"Precondition failed: UID in precondition: {given['uid']}, "
                f"UID in object meta: {kept['uid']}",
            )
        row = self.registry.find(resource)
        if subresource == "status":
            fresh = copy(old)
            fresh["status"] = copy(obj.get("status"))
            if fresh["status"] is None:
                del fresh["status"]
            return fresh
        fresh = copy(obj)
        version = str(obj.get("apiVersion", "")).rpartition("/")[2] or None
        if row is not None and row.has_status(version):
            fresh.pop("status", None)
            if "status" in old:
                fresh["status"] = copy(old["status"])
        meta = fresh["metadata"] = {**fresh.get("metadata", {})}
        for field in _KEPT:
            meta.pop(field, None)
            if field in kept:
                meta[field] = kept[field]
        if "generation" in kept and _desired(fresh) != _desired(old):
            meta["generation"] = kept["generation"] + 1
        return fresh

    def delete(
        self,
        resource: str,
        namespace: str | None,
        name: str,
        *,
        grace: int | None = None,
        uid: str | None = None,
    ) -> Object:
        """Remove an object, or mark it deleted where finalizers or a pod's grace hold it.

        `grace` in seconds counts for pods only; 0 removes a pod at once. Gives the object
        as it was last. Raises ApiError 404, and 409 when `uid` is given and another's.
        """
        old = self.peek(resource, namespace, name)
        meta = old["metadata"]
        if uid is not None and uid != meta["uid"]:
            raise status.conflict(
                resource,
                name,
                f"Precondition failed: UID in precondition: {uid}, UID in object meta: "
                f"{meta['uid']}",
            )
        seconds = _grace(resource, old, grace)
        if not _held(old) and seconds == 0:
            return self._remove(resource, copy(old))
        return self._mark(resource, old, seconds)

    def finalize_delete(
        self, resource: str, namespace: str | None, name: str, *, uid: str | None = None
    ) -> Object:
        """The kubelet's real removal of a pod: as `delete` with no grace; finalizers still hold."""
        return self.delete(resource, namespace, name, grace=0, uid=uid)

    def _mark(self, resource: str, old: Object, seconds: int) -> Object:
        meta = old["metadata"]
        left = meta.get("deletionGracePeriodSeconds")
        if "deletionTimestamp" in meta and (left is None or seconds >= left):
            return copy(old)
        fresh = copy(old)
        fresh["metadata"]["deletionTimestamp"] = timestamp(self._clock() + seconds)
        fresh["metadata"]["deletionGracePeriodSeconds"] = seconds
        if "generation" in meta:
            fresh["metadata"]["generation"] = meta["generation"] + 1
        if resource == "namespaces":
            fresh["status"] = {**fresh.get("status", {}), "phase": "Terminating"}
        return self._write("MODIFIED", resource, fresh, old)

    # -- watching ------------------------------------------------------------------------

    def watch(
        self,
        resource: str,
        namespace: str | None = None,
        *,
        since: int | None = None,
        labels: str = "",
        fields: str = "",
        test: Test | None = None,
    ) -> Watch:
        """Changes as (type, object) from this call on; none is lost before the first read.

        `since` None gives each present object as ADDED first, then changes. Otherwise all
        changes after that revision; raises ApiError 410 when it is too old. Selects by
        `labels` and `fields`, or by `test`. Use `async with` or `close()`.
        """
        test = test or parse_selectors(labels, fields)
        if since is not None and since < self._oldest:
            raise status.expired(since, self._oldest)
        watch = Watch(self, resource, namespace, test)
        if since is None:
            for obj in self.scan(resource, namespace):
                watch.push(Change(0, "ADDED", resource, obj, None))
        else:
            for change in self._history:
                if change.revision > since:
                    watch.push(change)
        self._watches.add(watch)
        return watch

    def listen(self, listener: Callable[[Change], None]) -> None:
        """Call `listener` after each change, before the writer goes on. It must not raise."""
        self._listeners.append(listener)

    def forget(self, watch: Watch) -> None:
        self._watches.discard(watch)

    # -- inside --------------------------------------------------------------------------

    def _write(self, type_: str, resource: str, fresh: Object, old: Object | None) -> Object:
        revision = self.revision + 1
        meta = fresh["metadata"]
        meta["resourceVersion"] = str(revision)
        key = (meta.get("namespace", ""), meta["name"])
        if self._journal is not None:
            self._journal.append(Entry(revision, resource, *key, fresh))
        self.revision = revision
        self._objects.setdefault(resource, {})[key] = fresh
        self._tell(Change(revision, type_, resource, fresh, old))
        return copy(fresh)

    def _remove(self, resource: str, last: Object) -> Object:
        revision = self.revision + 1
        meta = last["metadata"]
        key = (meta.get("namespace", ""), meta["name"])
        if self._journal is not None:
            self._journal.append(Entry(revision, resource, *key, None))
        self.revision = revision
        old = self._objects[resource].pop(key)
        meta["resourceVersion"] = str(revision)
        self._tell(Change(revision, "DELETED", resource, last, old))
        return copy(last)

    def _tell(self, change: Change) -> None:
        if len(self._history) == HISTORY:
            self._oldest = self._history[0].revision
        self._history.append(change)
        for watch in tuple(self._watches):
            watch.push(change)
        for listener in self._listeners:
            listener(change)
        if self._journal is not None and self._journal.wants_compaction():
            self._journal.compact(self._entries())

    def _entries(self) -> Iterator[Entry]:
        for resource, kept in self._objects.items():
            for (namespace, name), obj in kept.items():
                yield Entry(self.revision, resource, namespace, name, obj)

    def _load(self, journal: Journal) -> None:
        for entry in journal.replay():
            self.revision = max(self.revision, entry.revision)
            kept = self._objects.setdefault(entry.resource, {})
            if entry.obj is None:
                kept.pop((entry.namespace, entry.name), None)
            else:
                kept[(entry.namespace, entry.name)] = entry.obj
        self._oldest = self.revision


class Watch:
    """One watch: an async iterator of (type, object). A selector's losses come as DELETED."""

    def __init__(self, store: Store, resource: str, namespace: str | None, test: Test) -> None:
        self._store = store
        self._resource = resource
        self._namespace = namespace
        self._test = test
        self._queue: deque[tuple[str, Object]] = deque()
        self._wake = asyncio.Event()
        self._closed = False
        self._lagged = False

    def push(self, change: Change) -> None:
        """Called by the store for each change of any resource."""
        if change.resource != self._resource:
            return
        if self._namespace is not None and (
            change.obj["metadata"].get("namespace", "") != self._namespace
        ):
            return
        type_ = self._seen_as(change)
        if type_ is None:
            return
        if len(self._queue) >= BACKLOG:
            self._lagged = True
            self._store.forget(self)
        else:
            self._queue.append((type_, change.obj))
        self._wake.set()

    def _seen_as(self, change: Change) -> str | None:
        now = change.type != "DELETED" and self._test(change.obj)
        before = change.old is not None and self._test(change.old)
        if now:
            return "MODIFIED" if before else "ADDED"
        return "DELETED" if before else None

    def close(self) -> None:
        self._closed = True
        self._store.forget(self)
        self._wake.set()

    @property
    def is_closed(self) -> bool:
        return self._closed

    def take(self) -> tuple[str, Object] | None:
        """The next change if one is there; the object is the store's own, not to be changed."""
        if self._queue:
            return self._queue.popleft()
        if self._lagged:
            raise status.StatusError(410, "Expired", "the watch fell too far behind: list again")
        return None

    async def wait(self) -> None:
        """Until a change may be there or the watch is closed."""
        if not self._queue and not self._lagged and not self._closed:
            self._wake.clear()
            await self._wake.wait()

    def __aiter__(self) -> AsyncIterator[tuple[str, Object]]:
        return self

    async def __anext__(self) -> tuple[str, Object]:
        while True:
            found = self.take()
            if found is not None:
                return found[0], copy(found[1])
            if self._closed:
                raise StopAsyncIteration
            await self.wait()

    async def __aenter__(self) -> Watch:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


_KEPT: Final = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "resourceVersion",
    "selfLink",
)


def copy(value: Json) -> Json:
    """A deep copy of JSON data."""
    return cast(Json, _copy(value))


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC with whole seconds, as metav1.Time is written."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_selectors(labels: str, fields: str) -> Test:
    """One test of both selectors. Raises ApiError 400."""
    try:
        return selectors.predicate(selectors.parse_labels(labels), selectors.parse_fields(fields))
    except ValueError as error:
        raise status.bad_request(str(error)) from error


def _desired(obj: Object) -> Object:
    return {
        key: value for key, value in obj.items() if key not in ("apiVersion", "metadata", "status")
    }


def _held(obj: Object) -> bool:
    held = obj["metadata"].get("finalizers")
    return bool(held or (obj.get("kind") == "Namespace" and obj.get("spec", {}).get("finalizers")))


def _grace(resource: str, obj: Object, asked: int | None) -> int:
    if resource != "pods" or not obj.get("spec", {}).get("nodeName"):
        return 0
    if obj.get("status", {}).get("phase") in ("Succeeded", "Failed") and asked is None:
        return 0
    if asked is not None:
        return max(0, asked)
    return int(obj["spec"].get("terminationGracePeriodSeconds", POD_GRACE))
