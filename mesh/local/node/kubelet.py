"""Which pods run on the node: binds new ones, keeps a worker for each, and the Node object."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import mesh
from mesh.core.errors import ApiError
from mesh.local.node.context import Node, machine_size
from mesh.local.node.follow import follow
from mesh.local.node.pod import PodWorker
from mesh.local.node.podstatus import timestamp
from mesh.local.node.services import ports_on_node

Object = dict[str, Any]
_HEARTBEAT = 10.0  # seconds between renewals of the node's Lease
_LEASES = "kube-node-lease"

log = logging.getLogger(__name__)


def node_labels(name: str) -> dict[str, str]:
    """The labels of the node, with Kubernetes' names for the architecture."""
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "kubernetes.io/arch": arch,
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "topology.kubernetes.io/region": "local",
        "topology.kubernetes.io/zone": "local-a",
    }


def why_not(pod: Object, labels: dict[str, str], taints: Sequence[Object] = ()) -> str:
    """Why the only node does not suit a pod; empty when it does. Pure."""
    for taint in taints:
        if taint.get("effect") != "PreferNoSchedule" and not _tolerates(pod, taint):
            shown = f"{{{taint['key']}: {taint.get('value', '')}}}"
            return f"0/1 nodes are available: 1 node(s) had untolerated taint {shown}."
    for key, value in (pod["spec"].get("nodeSelector") or {}).items():
        if labels.get(key) != value:
            return "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
    return ""


def _tolerates(pod: Object, taint: Object) -> bool:
    for item in pod["spec"].get("tolerations") or ():
        key, same = item.get("key"), item.get("value", "") == taint.get("value", "")
        exists = item.get("operator") == "Exists"
        if item.get("effect") in (None, "", taint["effect"]) and (
            (exists and key in (None, "", taint["key"])) or (key == taint["key"] and same)
        ):
            return True
    return False


def _port_key(port: Object) -> tuple[str, int]:
    return port.get("protocol", "TCP"), int(port["hostPort"])


class Kubelet:
    """Follows the pods of the cluster and keeps one worker for each."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        self._announce()
        self._node.api.execute = self._execute
        async with asyncio.TaskGroup() as group:
            group.create_task(follow(self._node.api.store, "pods", self._saw))
            group.create_task(follow(self._node.api.store, "nodes", self._saw_node))
            group.create_task(follow(self._node.api.store, "configmaps", self._saw_source))
            group.create_task(follow(self._node.api.store, "secrets", self._saw_source))
            group.create_task(self._heartbeat())

    def _saw(self, type_: str, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        worker = self._workers.get(uid)
        if type_ == "DELETED":
            if worker is not None:
                worker.removed()
            return
        name = pod["spec"].get("nodeName")
        if not name:
            self._bind(pod)
            return
        if name != self._node.name:
            return
        if worker is not None:
            worker.update(pod)
            return
        worker = self._workers[uid] = PodWorker(self._node, pod)
        task = asyncio.get_running_loop().create_task(worker.run())
        self._tasks[uid] = task
        task.add_done_callback(lambda _: self._forget(uid))

    def _saw_node(self, type_: str, _: Object) -> None:
        """Its taints or labels may have changed; running pods stay (no NoExecute here)."""
        if type_ == "MODIFIED":
            self._bind_waiting()

    def _bind_waiting(self) -> None:
        for pod in tuple(self._node.api.store.scan("pods")):
            if not pod["spec"].get("nodeName"):
                self._bind(pod)

    async def _execute(
        self, pod: Object, container: str, argv: Sequence[str], streams: tuple[int, int, int]
    ) -> int:
        """For `kubectl exec`. Raises OSError."""
        worker = self._workers.get(pod["metadata"]["uid"])
        if worker is None:
            raise OSError("the pod is not running")
        return await worker.containers[container].run_inside(argv, streams)

    def _forget(self, uid: str) -> None:
        worker = self._workers.pop(uid, None)
        if worker is not None and ports_on_node(worker.pod["spec"]):
            self._bind_waiting()
        self._tasks.pop(uid, None)

    def _bind(self, pod: Object) -> None:
        """The scheduler: there is one node, and a pod suits it or waits."""
        store = self._node.api.store
        meta = pod["metadata"]
        if pod["spec"].get("schedulingGates") or "deletionTimestamp" in meta:
            return
        node = store.find("nodes", None, self._node.name) or {"metadata": {}}
        taints = (node.get("spec") or {}).get("taints") or ()
        marks = {**(node["metadata"].get("labels") or {}), **node_labels(self._node.name)}
        reason = why_not(pod, marks, taints) or self._why_no_port(pod)
        if reason:
            condition = {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": reason,
                "lastProbeTime": None,
                "lastTransitionTime": timestamp(time.time()),
            }
            status = {"phase": "Pending", "conditions": [condition]}
            known = (pod.get("status") or {}).get("conditions") or []
            if not any(entry.get("reason") == "Unschedulable" for entry in known):
                store.update("pods", {**pod, "status": status}, subresource="status")
                scheduler = self._node.recorder.named("default-scheduler")
                scheduler.event(pod, "FailedScheduling", reason, warning=True)
            return
        spec = {**pod["spec"], "nodeName": self._node.name}
        store.update("pods", {**pod, "spec": spec})
        text = f"Successfully assigned {meta['namespace']}/{meta['name']} to {self._node.name}"
        self._node.recorder.named("default-scheduler").event(pod, "Scheduled", text)

    def _why_no_port(self, pod: Object) -> str:
        """Why a pod does not get the ports of the node that it asks for; empty when it does."""
        wanted = {_port_key(port) for port in ports_on_node(pod["spec"])}
        for worker in self._workers.values() if wanted else ():
            if wanted & {_port_key(port) for port in ports_on_node(worker.pod["spec"])}:
                return "0/1 nodes are available: 1 node(s) didn't have free ports for the pod."
        return ""

    def _saw_source(self, type_: str, obj: Object) -> None:
        """A ConfigMap or Secret changed: pods that mount it get its new content."""
        if type_ != "MODIFIED":
            return
        namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
        for worker in self._workers.values():
            if worker.pod["metadata"]["namespace"] == namespace and _uses(worker.pod, name):
                worker.refresh()

    # -- the Node object -------------------------------------------------------------------

    def _announce(self) -> None:
        store, name = self._node.api.store, self._node.name
        found = store.find("nodes", None, name)
        if found is None:
            meta = {"name": name, "labels": node_labels(name)}
            found = store.create(
                "nodes",
                {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": self._spec()},
            )
        found["metadata"]["labels"] = {
            **(found["metadata"].get("labels") or {}),
            **node_labels(name),
        }
        found["spec"] = {**found.get("spec", {}), **self._spec()}
        store.update("nodes", found)
        found = store.get("nodes", None, name)
        store.update("nodes", {**found, "status": self._status()}, subresource="status")

    def _spec(self) -> Object:
        ranges = self._node.ranges
        return {"podCIDR": ranges.pods, "podCIDRs": list(filter(None, (ranges.pods, ranges.pods6)))}

    def _status(self) -> Object:
        size = {**machine_size(), "pods": "250"}
        now = timestamp(time.time())
        conditions = [
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": now,
                "lastTransitionTime": now,
            }
            for kind, status, reason, message in (
                ("MemoryPressure", "False", "KubeletHasSufficientMemory", "not measured"),
                ("DiskPressure", "False", "KubeletHasNoDiskPressure", "not measured"),
                ("PIDPressure", "False", "KubeletHasSufficientPID", "not measured"),
                ("Ready", "True", "KubeletReady", "the embedded node runs pods"),
            )
        ]
        addresses = [{"type": "InternalIP", "address": ip} for ip in self._node.host_addresses]
        version = "v1.34.0"
        return {
            "addresses": [*addresses, {"type": "Hostname", "address": self._node.name}],
            "allocatable": size,
            "capacity": size,
            "conditions": conditions,
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
            "nodeInfo": {
                "architecture": node_labels(self._node.name)["kubernetes.io/arch"],
                "bootID": "",
                "containerRuntimeVersion": f"mesh-local://{mesh.__version__}",
                "kernelVersion": platform.release(),
                "kubeProxyVersion": version,
                "kubeletVersion": version,
                "machineID": "",
                "operatingSystem": "linux",
                "osImage": "mesh local",
                "systemUUID": "",
            },
        }

    async def _heartbeat(self) -> None:
        store, name = self._node.api.store, self._node.name
        while True:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now}
            lease = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": name, "namespace": _LEASES},
                "spec": spec,
            }
            with contextlib.suppress(ApiError):
                if store.find("leases.coordination.k8s.io", _LEASES, name) is None:
                    store.create("leases.coordination.k8s.io", lease)
                else:
                    store.update("leases.coordination.k8s.io", lease)
            await asyncio.sleep(_HEARTBEAT)


def _uses(pod: Object, name: str) -> bool:
    """Whether a volume of the pod shows the ConfigMap or Secret of that name."""
    return any(name in _names(volume) for volume in pod["spec"].get("volumes") or ())


def _names(volume: Object) -> set[str]:
    entries = [volume, *((volume.get("projected") or {}).get("sources") or ())]
    found: set[str | None] = set()
    for entry in entries:
        found.add((entry.get("configMap") or {}).get("name"))
        secret = entry.get("secret") or {}
        found.add(secret.get("secretName") or secret.get("name"))
    return {name for name in found if name}
