"""EndpointSlices: which pods stand behind a Service, with named ports resolved and conditions."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from typing import Any

from mesh.local.api.server import Api
from mesh.local.controllers.loop import Key, Loop, key_of, owned_by, owner_reference
from mesh.local.controllers.pods import ready_since
from mesh.local.node.follow import follow

Object = dict[str, Any]
_RESOURCE = "endpointslices.discovery.k8s.io"
SERVICE = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
_MANAGER = "endpointslice-controller.k8s.io"
_HEADLESS = "service.kubernetes.io/headless"
_MOST = 1000  # endpoints of one slice
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def families(service: Object) -> list[str]:
    """The address families of a Service: IPv4, IPv6 or both."""
    return list(service["spec"].get("ipFamilies") or ["IPv4"])


def target_port(port: Object, pod: Object) -> int | None:
    """The pod's port behind a Service port; None where a name is not one of the pod's."""
    target: Any = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    spec = pod["spec"]
    sidecars = (
        entry
        for entry in spec.get("initContainers") or ()
        if entry.get("restartPolicy") == "Always"
    )
    for container in (*spec["containers"], *sidecars):
        for entry in container.get("ports") or ():
            same = entry.get("protocol", "TCP") == port.get("protocol", "TCP")
            if entry.get("name") == target and same:
                return int(entry["containerPort"])
    return int(target) if str(target).isdigit() else None


def resolved_ports(service: Object, pod: Object) -> tuple[tuple[str, str, int, str], ...]:
    """(name, protocol, number, appProtocol) of each Service port that this pod serves."""
    found = []
    for port in service["spec"].get("ports") or ():
        number = target_port(port, pod)
        if number is not None:
            found.append(
                (
                    port.get("name") or "",
                    port.get("protocol", "TCP"),
                    number,
                    port.get("appProtocol") or "",
                )
            )
    return tuple(found)


def endpoint(service: Object, pod: Object, address: str, zone: str) -> Object:
    """One endpoint, with its conditions: a deleted pod is serving, perhaps, but never ready."""
    meta, spec = pod["metadata"], pod["spec"]
    serving = ready_since(pod) is not None
    terminating = "deletionTimestamp" in meta
    early = bool(service["spec"].get("publishNotReadyAddresses"))
    made: Object = {
        "addresses": [address],
        "conditions": {
            "ready": early or (serving and not terminating),
            "serving": serving or early,
            "terminating": terminating,
        },
        "targetRef": {
            "kind": "Pod",
            "name": meta["name"],
            "namespace": meta["namespace"],
            "uid": meta["uid"],
        },
        "nodeName": spec.get("nodeName", ""),
        "zone": zone,
    }
    if spec.get("hostname") and spec.get("subdomain") == service["metadata"]["name"]:
        made["hostname"] = spec["hostname"]
    return made


def _addresses(pod: Object, family: str) -> list[str]:
    wanted = ":" if family == "IPv6" else "."
    entries = (pod.get("status") or {}).get("podIPs") or ()
    return [entry["ip"] for entry in entries if wanted in entry["ip"]][:1]


def _suffix(*parts: object) -> str:
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:5])


def _metadata(service: Object, name: str) -> Object:
    meta = service["metadata"]
    labels = {
        **{
            key: value
            for key, value in (meta.get("labels") or {}).items()
            if not key.startswith("endpointslice.")
        },
        SERVICE: meta["name"],
        MANAGED_BY: _MANAGER,
    }
    if service["spec"].get("clusterIP") == "None":
        labels[_HEADLESS] = ""
    return {
        "name": name,
        "namespace": meta["namespace"],
        "labels": labels,
        "ownerReferences": [owner_reference(service)],
    }


def slices(service: Object, pods: Iterable[Object], zone: str) -> list[Object]:
    """All EndpointSlices that a Service with a selector should have; at least one a family."""
    selected = [
        pod for pod in pods if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
    ]
    made = []
    for family in families(service):
        groups: dict[tuple[tuple[str, str, int, str], ...], list[Object]] = {}
        for pod in selected:
            for address in _addresses(pod, family):
                ports = resolved_ports(service, pod)
                groups.setdefault(ports, []).append(endpoint(service, pod, address, zone))
        for ports, endpoints in sorted(groups.items()) or [((), [])]:
            for start in range(0, max(1, len(endpoints)), _MOST):
                suffix = _suffix(family, ports, start)
                chosen = endpoints[start : start + _MOST]
                chosen.sort(key=lambda item: str(item["addresses"]))
                made.append(
                    {
                        "apiVersion": "discovery.k8s.io/v1",
                        "kind": "EndpointSlice",
                        "metadata": _metadata(service, f"{service['metadata']['name']}-{suffix}"),
                        "addressType": family,
                        "endpoints": chosen,
                        "ports": [_port(*port) for port in ports],
                    }
                )
    return made


def _port(name: str, protocol: str, number: int, app_protocol: str) -> Object:
    made: Object = {"name": name, "protocol": protocol, "port": number}
    if app_protocol:
        made["appProtocol"] = app_protocol
    return made


class Endpoints:
    """The controller of EndpointSlices."""

    def __init__(self, api: Api, zone: str) -> None:
        self._api = api
        self._zone = zone
        self._loop = Loop("endpointslice", self._reconcile)

    async def run(self) -> None:
        """Until cancelled."""
        store = self._api.store
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(follow(store, "services", self._saw))
                group.create_task(follow(store, "pods", self._saw_pod))
                group.create_task(follow(store, _RESOURCE, self._saw_slice))
        finally:
            self._loop.stop()

    def _saw(self, _: str, service: Object) -> None:
        self._loop.add(key_of(service))

    def _saw_pod(self, _: str, pod: Object) -> None:
        labels = pod["metadata"].get("labels") or {}
        for service in self._api.store.scan("services", pod["metadata"]["namespace"]):
            if _selects(service, labels):
                self._loop.add(key_of(service))

    def _saw_slice(self, type_: str, slice_: Object) -> None:
        meta = slice_["metadata"]
        owner = (meta.get("labels") or {}).get(SERVICE)
        if owner and (meta.get("labels") or {}).get(MANAGED_BY) == _MANAGER and type_ != "ADDED":
            self._loop.add((meta["namespace"], owner))

    async def _reconcile(self, key: Key) -> float | None:
        store = self._api.store
        service = store.find("services", *key)
        if service is None or "deletionTimestamp" in service["metadata"]:
            return None
        uid = service["metadata"]["uid"]
        present = {
            item["metadata"]["name"]: item
            for item in store.scan(_RESOURCE, key[0])
            if owned_by(item, uid)
        }
        wanted: list[Object] = []
        if service["spec"].get("selector") and service["spec"].get("type") != "ExternalName":
            pods = [
                pod
                for pod in store.scan("pods", key[0])
                if _selects(service, pod["metadata"].get("labels") or {})
            ]
            wanted = slices(service, pods, self._zone)
        names = {item["metadata"]["name"] for item in wanted}
        for item in wanted:
            await self._put(item, present.get(item["metadata"]["name"]))
        for name in present.keys() - names:
            store.delete(_RESOURCE, key[0], name)
        return None

    async def _put(self, wanted: Object, present: Object | None) -> None:
        if present is None:
            await self._api.create(_RESOURCE, wanted)
            return
        same = all(
            wanted.get(field) == present.get(field) for field in ("endpoints", "ports")
        ) and wanted["metadata"]["labels"] == present["metadata"].get("labels")
        if not same:
            meta = {**present["metadata"], **wanted["metadata"]}
            meta.pop("resourceVersion", None)
            await self._api.update(_RESOURCE, {**wanted, "metadata": meta})


def _selects(service: Object, labels: dict[str, str]) -> bool:
    selector = service["spec"].get("selector")
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())
