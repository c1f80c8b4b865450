"""What a cluster would make of manifests: addresses, pods and EndpointSlices; pure.

Files hold Deployments and Services without addresses. To be asked about a request they need
what the API server and its controllers would add, so that is added here: each Service an
address, each workload its pods (meshed or not as the injector would decide), each Service
the slices of the pods that it selects. What the files do hold is taken as it is. Addresses
are of 198.18.0.0/15, which nobody routes (RFC 2544), and mean nothing beyond one answer.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from mesh.core import labels
from mesh.core.errors import MeshError
from mesh.inject.switch import decide

Object = dict[str, Any]

WORKLOADS: Final = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob")
MOST_PODS: Final = 50  # expected pods of one workload
_SERVICE_LABEL: Final = "kubernetes.io/service-name"
_SERVICES: Final = int(ipaddress.IPv4Address("198.18.0.1"))
_PODS: Final = int(ipaddress.IPv4Address("198.19.0.1"))
_ROOM: Final = 65_000


def complete(objects: Iterable[Object], mesh_namespace: str) -> list[Object]:
    """The objects with all that a cluster would add to them."""
    known = [obj for obj in objects if isinstance(obj, dict)]
    namespaces = {_name(obj): obj for obj in known if obj.get("kind") == "Namespace"}
    pods = [obj for obj in known if obj.get("kind") == "Pod"]
    given = _ByLabel(pods)
    for obj in known:
        if obj.get("kind") in WORKLOADS and not _has_pods(obj, given):
            pods += _pods_of(obj, namespaces.get(_namespace(obj), {}), mesh_namespace)
    pods = [_with_address(pod, _address(_PODS, at)) for at, pod in enumerate(pods)]
    selectable = _ByLabel(pods)
    services = [
        _with_cluster_ip(obj, _address(_SERVICES, at))
        for at, obj in enumerate(obj for obj in known if obj.get("kind") == "Service")
    ]
    sliced = {
        (_namespace(obj), str(_labels(obj).get(_SERVICE_LABEL)))
        for obj in known
        if obj.get("kind") == "EndpointSlice"
    }
    slices = [
        _slice(service, selectable)
        for service in services
        if (_namespace(service), _name(service)) not in sliced and _selector(service)
    ]
    rest = [obj for obj in known if obj.get("kind") not in ("Pod", "Service")]
    return [*rest, *services, *pods, *slices]


def template_of(workload: Mapping[str, Any]) -> Mapping[str, Any]:
    """The pod template of a workload."""
    spec = _map(workload.get("spec"))
    if workload.get("kind") == "CronJob":
        spec = _map(_map(spec.get("jobTemplate")).get("spec"))
    return _map(spec.get("template"))


def _pods_of(workload: Object, namespace: Object, mesh_namespace: str) -> Iterator[Object]:
    template = template_of(workload)
    marks = {str(k): str(v) for k, v in _map(_map(template.get("metadata")).get("labels")).items()}
    notes = _texts(_map(_map(template.get("metadata")).get("annotations")))
    spec = _map(template.get("spec"))
    replicas = _map(workload.get("spec")).get("replicas", 1)
    meta = _map(namespace.get("metadata"))
    home = _texts(_map(meta.get("labels"))) | _texts(_map(meta.get("annotations")))
    is_meshed = decide(_texts(marks) | notes, home).enabled and not spec.get("hostNetwork")
    ours = {
        labels.L_WORKLOAD_KIND: str(workload["kind"]).lower(),
        labels.L_WORKLOAD_NAME: _name(workload),
    }
    if is_meshed:
        ours[labels.L_CONTROL_NAMESPACE] = mesh_namespace
    for number in range(min(replicas if isinstance(replicas, int) else 1, MOST_PODS)):
        name = f"{_name(workload)}-{number}"
        yield {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "namespace": _namespace(workload),
                "name": name,
                "uid": f"expected-{name}",
                "labels": marks | ours,
                "annotations": notes,
            },
            "spec": dict(spec),
            "status": {"phase": "Running"},
        }


class _ByLabel:
    """Pods by namespace and label, in their order: folders hold thousands."""

    def __init__(self, pods: Iterable[Object]) -> None:
        self._pods: dict[tuple[str, str, Any], list[Object]] = {}
        for pod in pods:
            for key, value in _labels(pod).items():
                if isinstance(value, str):
                    self._pods.setdefault((_namespace(pod), key, value), []).append(pod)

    def select(self, namespace: str, wanted: Mapping[str, Any]) -> list[Object]:
        """The pods that carry all of these labels; none for none."""
        for key, value in wanted.items():
            found = self._pods.get((namespace, key, value), []) if isinstance(value, str) else []
            return [pod for pod in found if _selects(wanted, pod)]
        return []


def _has_pods(workload: Object, pods: _ByLabel) -> bool:
    """Whether the objects hold pods of this workload already, as a cluster's dump does."""
    wanted = _map(_map(_map(workload.get("spec")).get("selector")).get("matchLabels"))
    return bool(pods.select(_namespace(workload), wanted))


def _with_address(pod: Object, address: str) -> Object:
    status = _map(pod.get("status"))
    if status.get("podIPs") or status.get("podIP"):
        return pod
    return {**pod, "status": {"phase": "Running", **status, "podIPs": [{"ip": address}]}}


def _with_cluster_ip(service: Object, address: str) -> Object:
    spec = _map(service.get("spec"))
    if spec.get("clusterIP") or spec.get("clusterIPs") or spec.get("type") == "ExternalName":
        return service
    return {**service, "spec": {**spec, "clusterIP": address, "clusterIPs": [address]}}


def _slice(service: Object, pods: _ByLabel) -> Object:
    """The EndpointSlice of a Service; a named target port is that of the first pod with it."""
    chosen = pods.select(_namespace(service), _selector(service))
    ports = []
    for port in _maps(_map(service.get("spec")).get("ports")):
        target = port.get("targetPort", port.get("port"))
        if isinstance(target, str):
            target = next((n for pod in chosen for n in _named_ports(pod, target)), None)
        ports.append({"name": port.get("name") or "", "port": target, "protocol": "TCP"})
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": _namespace(service),
            "name": f"{_name(service)}-expected",
            "labels": {_SERVICE_LABEL: _name(service)},
        },
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": [_endpoint(pod) for pod in chosen],
    }


def _endpoint(pod: Object) -> Object:
    status = _map(pod.get("status"))
    addresses = [str(ip.get("ip")) for ip in _maps(status.get("podIPs"))]
    uid = _map(pod.get("metadata")).get("uid")
    target = {"kind": "Pod", "namespace": _namespace(pod), "name": _name(pod)}
    return {
        "addresses": addresses[:1] or [str(status.get("podIP"))],
        "conditions": {"ready": True},
        "targetRef": target | ({"uid": uid} if uid else {}),
    }


def _named_ports(pod: Object, name: str) -> Iterator[int]:
    for container in _maps(_map(pod.get("spec")).get("containers")):
        for port in _maps(container.get("ports")):
            if port.get("name") == name and isinstance(port.get("containerPort"), int):
                yield port["containerPort"]


def _selects(wanted: Mapping[str, Any], pod: Object) -> bool:
    marks = _labels(pod)
    return all(marks.get(key) == value for key, value in wanted.items())


def _selector(service: Object) -> Mapping[str, Any]:
    return _map(_map(service.get("spec")).get("selector"))


def _address(base: int, at: int) -> str:
    if at >= _ROOM:
        raise MeshError(f"expected at most {_ROOM} Services or pods; give fewer files with -f")
    return str(ipaddress.IPv4Address(base + at))


def _name(obj: Mapping[str, Any]) -> str:
    return str(_map(obj.get("metadata")).get("name") or "")


def _namespace(obj: Mapping[str, Any]) -> str:
    return str(_map(obj.get("metadata")).get("namespace") or "")


def _labels(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    return _map(_map(obj.get("metadata")).get("labels"))


def _texts(found: Mapping[str, Any]) -> dict[str, str]:
    return {str(key): value for key, value in found.items() if isinstance(value, str)}


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _maps(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
