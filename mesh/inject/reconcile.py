"""Finds pods that should have a proxy and have none: made while no webhook answered.

One watch of the pods without our label, looked over every few seconds. A pod that stays is told
of in an event on its workload and in a gauge; it is never touched, since a restart is for its
owner to decide. Pods that cannot be meshed had their event at admission and are not counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from prometheus_client import CollectorRegistry, Gauge

from mesh.core import labels
from mesh.inject.config import InjectConfig
from mesh.inject.events import MISSED, News
from mesh.inject.patch import Cluster, Namespace, keys_of
from mesh.inject.refuse import find_obstacle
from mesh.inject.switch import decide
from mesh.inject.workload import find_workload
from mesh.kube.client import KubeClient
from mesh.kube.pods import is_finished, is_leaving, is_meshed, name_of, namespace_of
from mesh.kube.resources import Object
from mesh.kube.watch import watch

EVERY: Final = 5.0  # seconds between two looks
SETTLED: Final = 5.0  # seconds; a younger pod may be one that the watch has not shown meshed
AGAIN: Final = 300.0  # seconds until the same pod is told of again
OTHERS: Final = f"!{labels.L_CONTROL_NAMESPACE}"  # selects pods without our label

Key = tuple[str, str]


def is_missed(
    pod: Object, namespace: Namespace | None, config: InjectConfig, cluster: Cluster
) -> bool:
    """Whether the pod asks for a proxy, could have one and has none. Pure."""
    if namespace is None or namespace.name in (config.namespace, "kube-system"):
        return False
    if is_finished(pod) or is_leaving(pod) or is_meshed(pod):
        return False
    if not decide(keys_of(pod), namespace.keys, foreign=cluster.foreign).enabled:
        return False
    return find_obstacle(pod, namespace.labels, config) is None


def missed_message(pod: Object) -> str:
    """What an event says: the pod, and what brings it into the mesh."""
    owner = find_workload(pod)
    where, what = f"kubectl -n {namespace_of(pod)}", f"pod {name_of(pod)}"
    if owner.kind in ("deployment", "statefulset", "daemonset"):
        remedy = f"{where} rollout restart {owner.kind}/{owner.name}"
    else:
        remedy = f"{where} delete {what}, and create it anew"
    return f"{what} asks for a proxy and was made without one: {remedy}"


def shrink_pod(obj: Object) -> Object:
    """What `is_missed` and events read; a cluster has many pods without a proxy."""
    meta, spec = obj["metadata"], obj.get("spec") or {}
    kept = ("name", "namespace", "uid", "labels", "annotations", "ownerReferences")
    plain = ("hostNetwork", "nodeSelector", "os", "securityContext")
    found: dict[str, Any] = {
        "metadata": {key: meta[key] for key in (*kept, "deletionTimestamp") if key in meta},
        "spec": {key: spec[key] for key in plain if key in spec},
        "status": {"phase": (obj.get("status") or {}).get("phase")},
    }
    for kind in ("initContainers", "containers"):
        found["spec"][kind] = [_shrink_container(c) for c in spec.get(kind) or []]
    found["spec"]["volumes"] = [{"name": v.get("name")} for v in spec.get("volumes") or []]
    return found


def _shrink_container(container: Any) -> dict[str, Any]:
    kept = ("name", "image", "ports", "securityContext")
    return {key: container[key] for key in kept if key in container}


class View(Protocol):
    """What the reconciler needs to know of the cluster (`mesh.inject.view.ClusterView`)."""

    config: InjectConfig | None

    @property
    def cluster(self) -> Cluster: ...

    def known_namespace(self, name: str) -> Namespace | None: ...


class Reconciler:
    """Looks, and tells."""

    def __init__(
        self,
        client: KubeClient,
        view: View,
        tell: Callable[[News], None],
        registry: CollectorRegistry,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._view = view
        self._tell = tell
        self._clock = clock
        self._pods: dict[Key, tuple[Object, float]] = {}  # and since when it is known
        self._told: dict[Key, float] = {}
        self._missed = Gauge(
            "mesh_inject_missed_pods",
            "Pods that ask for a proxy, could have one and have none.",
            registry=registry,
        )

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._look_often())

    async def _follow(self) -> None:
        pods = watch(self._client, "pods", label_selector=OTHERS, shrink=shrink_pod)
        async for batch in pods:
            self.take(batch.changes)

    def take(self, changes: Iterable[tuple[Object, bool]]) -> None:
        """Pods as the watch gives them."""
        for pod, deleted in changes:
            key = namespace_of(pod), name_of(pod)
            since = self._pods.pop(key, (pod, self._clock()))[1]
            if deleted:
                self._told.pop(key, None)
            else:
                self._pods[key] = pod, since

    async def _look_often(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(EVERY)

    def look(self) -> None:
        """Tell of each pod that was missed, and count them."""
        config = self._view.config
        if config is None:
            return
        now, cluster, count = self._clock(), self._view.cluster, 0
        for key, (pod, since) in self._pods.items():
            namespace = self._view.known_namespace(key[0])
            if now - since < SETTLED or not is_missed(pod, namespace, config, cluster):
                continue
            count += 1
            if now - self._told.get(key, -AGAIN) >= AGAIN:
                self._told[key] = now
                self._tell(News(pod, key[0], MISSED, missed_message(pod)))
        self._missed.set(count)
