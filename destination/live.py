"""Watches -> store -> snapshots: keeps the compiled state of a live cluster current.

Changes that arrive while compiling takes long are compiled together: after a compilation the
next one waits as long as that one took, so at most half of the time goes into it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from destination.compile import everything, recompile
from destination.dialects.undone import RESOURCES
from destination.endpoints import Cluster
from destination.facts import Key, Object, as_list, as_mapping
from destination.metrics import Metrics
from destination.snapshot import Reach, Snapshot
from destination.store import OPTIONAL, Store, Touched
from mesh.core import labels
from mesh.core.errors import ApiError
from mesh.core.report import WatchStatus
from mesh.kube.client import KubeClient
from mesh.kube.resources import Resource, find_resource
from mesh.kube.watch import DEFAULT_TIMING, Batch, Watch, WatchStats, WatchTiming

log = logging.getLogger(__name__)

# The order is that of the first list: what others refer to comes first.
_CORE: Final = ("namespaces", "pods", "services", "endpointslices.discovery.k8s.io")
_ROUTING: Final = OPTIONAL  # kinds that a cluster may lack
_SELDOM: Final = 12  # times as long between looks for kinds that have no effect anyway

OnSnapshot = Callable[[Snapshot, Reach], None]


class LiveCluster:
    """The store and snapshot of one cluster, fed by watches."""

    def __init__(
        self,
        client: KubeClient,
        store: Store,
        cluster: Cluster,
        metrics: Metrics,
        *,
        timing: WatchTiming = DEFAULT_TIMING,
    ) -> None:
        self.store = store
        self.snapshot = Snapshot(cluster=cluster)
        self.routing: dict[str, Resource] = {}  # as this cluster serves them
        self.synced = asyncio.Event()
        self._client = client
        self._metrics = metrics
        self._timing = timing
        # What has no effect need not be in, nor readable, before views go out.
        self._waiting_for = {*_CORE, *_ROUTING, "configmaps"} - set(RESOURCES)
        self._callbacks: list[OnSnapshot] = []
        self._pending = Touched()
        self._handle: asyncio.Handle | None = None
        self._next_at = 0.0
        self._watches: dict[str, Watch] = {}

    def watch_statuses(self) -> tuple[WatchStatus, ...]:
        """How each kind that is followed comes in."""
        now = time.monotonic()
        return tuple(_status_of(name, watch.stats, now) for name, watch in self._watches.items())

    @property
    def waiting_for(self) -> list[str]:
        """Kinds whose first list is not in yet."""
        return sorted(self._waiting_for)

    async def wait_until_synced(self) -> None:
        """Return once the first list of every kind is in."""
        await self.synced.wait()

    def on_snapshot(self, callback: OnSnapshot) -> None:
        self._callbacks.append(callback)

    async def run(self) -> None:
        """Watch all kinds until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for name in _CORE:
                    tasks.create_task(self._follow(name, find_resource(name)))
                for name in _ROUTING:
                    tasks.create_task(self._follow_served(name))
                tasks.create_task(self._follow_bundle())
        finally:
            if self._handle is not None:
                self._handle.cancel()

    async def read_pod(self, key: Key) -> None:
        """Read one pod from the API into the store. Raises ApiError."""
        try:
            pod, deleted = await self._client.get("pods", key[1], key[0]), False
        except ApiError as error:
            if error.code != 404:
                raise
            meta = {"namespace": key[0], "name": key[1]}
            pod, deleted = {"apiVersion": "v1", "kind": "Pod", "metadata": meta}, True
        self.take(((pod, deleted),))

    def take(self, changes: Iterable[tuple[Object, bool]]) -> None:
        """Take changes in; they are compiled soon."""
        for obj, deleted in changes:
            self.store.take(obj, self._pending, deleted=deleted)
        if self._handle is None and self.synced.is_set():
            loop = asyncio.get_running_loop()
            wait = self._next_at - loop.time()
            if wait > 0:
                self._handle = loop.call_later(wait, self._compile)
            else:
                self._handle = loop.call_soon(self._compile)

    def _compile(self) -> None:
        self._handle = None
        loop = asyncio.get_running_loop()
        touched, self._pending = self._pending, Touched()
        began = loop.time()
        try:
            snapshot, reach = recompile(self.snapshot, self.store, touched)
        except Exception:
            log.exception("changes not compiled")
            self._metrics.bugs.inc()
            return
        took = loop.time() - began
        self._next_at = loop.time() + took
        self._metrics.compile_seconds.observe(took)
        self._put_in_force(snapshot, reach)

    def _put_in_force(self, snapshot: Snapshot, reach: Reach) -> None:
        self.snapshot = snapshot
        for key, text in reach.broken:
            log.error("service not compiled, stays as it was service=%s/%s error=%s", *key, text)
            self._metrics.bugs.inc()
        if reach.objects:
            self._metrics.count_verdicts(
                outcome.verdict.value for outcome in snapshot.outcomes.values()
            )
        for callback in self._callbacks:
            try:
                callback(snapshot, reach)
            except Exception:
                log.exception("callback after a change of the snapshot failed")
                self._metrics.bugs.inc()

    # -- watches ----------------------------------------------------------------------------

    async def _follow(self, name: str, resource: Resource, **selectors: Any) -> None:
        """One kind, for ever; returns when the cluster does not have it (any more)."""
        watch = Watch(self._client, resource, shrink=slim, timing=self._timing, **selectors)
        relists = failures = events = 0
        self._watches[name] = watch
        async with contextlib.aclosing(watch.batches()) as batches:
            async for batch in batches:
                self._take_batch(name, batch)
                stats = watch.stats
                self._metrics.watch_relists.labels(name).inc(stats.relists - relists)
                self._metrics.watch_failures.labels(name).inc(stats.failures - failures)
                self._metrics.watch_events.labels(name).inc(stats.events - events)
                relists, failures, events = stats.relists, stats.failures, stats.events
                if batch.absent and name in _ROUTING:
                    del self._watches[name]
                    return

    async def _follow_served(self, name: str) -> None:
        """A kind that the cluster may lack, in whatever version it serves."""
        pause = self._timing.absent * (_SELDOM if name in RESOURCES else 1)
        while True:
            try:
                resource = await self._client.discover(name)
            except ApiError as error:
                log.warning("kind not looked up resource=%s: %s", name, error.message)
                await asyncio.sleep(pause)
                continue
            if resource is None:
                self._is_in(name)
                await asyncio.sleep(pause)
                continue
            self.routing[name] = resource
            await self._follow(name, resource)
            self.routing.pop(name, None)
            await asyncio.sleep(self._timing.absent)

    async def _follow_bundle(self) -> None:
        await self._follow(
            "configmaps",
            find_resource("configmaps"),
            namespace=self.store.mesh_namespace,
            field_selector=f"metadata.name={labels.TRUST_ROOTS}",
        )

    def _take_batch(self, name: str, batch: Batch) -> None:
        self.take(batch.changes)
        if batch.synced:
            self._is_in(name)

    def _is_in(self, name: str) -> None:
        """The first list of a kind is in; with the last one the first snapshot is made."""
        self._waiting_for.discard(name)
        if self._waiting_for or self.synced.is_set():
            return
        self._pending = Touched()
        snapshot, reach = recompile(self.snapshot, self.store, everything(self.store))
        self.synced.set()
        gc.collect()
        gc.freeze()  # what is known now lives long: the collector need not look at it again
        log.info("cluster known services=%d pods=%d", len(snapshot.units), len(snapshot.pods))
        self._put_in_force(snapshot, reach)


def _status_of(name: str, stats: WatchStats, now: float) -> WatchStatus:
    silent = now - stats.last_contact if stats.last_contact else 0.0
    thawed = now - stats.last_frozen if stats.frozen else 0.0
    return WatchStatus(name, silent, stats.frozen, thawed)


_POD_SPEC: Final = ("serviceAccountName", "nodeName", "hostNetwork", "restartPolicy")
_POD_STATUS: Final = ("phase", "podIP", "podIPs")


def slim(obj: Object) -> Object:
    """An object without what nobody reads here; lists of thousands of pods pass through."""
    meta = obj.get("metadata")
    if isinstance(meta, dict):
        meta.pop("managedFields", None)
    if obj.get("kind") != "Pod":
        return obj
    spec, status = as_mapping(obj.get("spec")), as_mapping(obj.get("status"))
    containers = [
        {"name": container.get("name"), "ports": container.get("ports")}
        for container in map(as_mapping, as_list(spec.get("containers")))
    ]
    states = [
        {"name": item.get("name"), "state": item.get("state")}
        for item in map(as_mapping, as_list(status.get("containerStatuses")))
    ]
    return {
        "apiVersion": obj.get("apiVersion"),
        "kind": "Pod",
        "metadata": meta,
        "spec": {key: spec.get(key) for key in _POD_SPEC} | {"containers": containers},
        "status": {key: status.get(key) for key in _POD_STATUS} | {"containerStatuses": states},
    }
