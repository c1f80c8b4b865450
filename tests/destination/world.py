"""A small cluster for tests: objects as the API gives them, compiled, and seen by a client."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from destination.compile import compile_store, recompile
from destination.fragments import Outcome
from destination.snapshot import Snapshot
from destination.store import Store
from destination.view import Client, look
from mesh.core.model import Service, Target

Object = dict[str, Any]


def load(text: str) -> list[Object]:
    """The documents of a YAML text as users write it."""
    return [document for document in yaml.safe_load_all(text) if document]


def service(
    name: str,
    ports: dict[str, int] | None = None,
    *,
    ip: str = "10.96.0.1",
    namespace: str = "shop",
    annotations: dict[str, str] | None = None,
    protocols: dict[str, str] | None = None,
    **spec: Any,
) -> Object:
    protocols = protocols or {}
    listed = [
        {"name": key, "port": number, "protocol": "TCP"}
        | ({"appProtocol": protocols[key]} if key in protocols else {})
        for key, number in (ports or {"http": 80}).items()
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(name, namespace, annotations),
        "spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": listed} | spec,
    }


def pod(
    name: str,
    ip: str = "10.1.0.1",
    *,
    namespace: str = "shop",
    account: str = "web",
    meshed: bool = True,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    node: str = "node-1",
    phase: str = "Running",
    spec: Object | None = None,
    status: Object | None = None,
    **meta: Any,
) -> Object:
    marks = {"mesh/control-namespace": "mesh"} if meshed else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _meta(name, namespace, annotations)
        | {"uid": f"uid-{name}", "labels": marks | (labels or {})}
        | meta,
        "spec": {
            "serviceAccountName": account,
            "nodeName": node,
            "containers": [{"name": "app"}],
        }
        | (spec or {}),
        "status": {"phase": phase, "podIPs": [{"ip": ip}] if ip else []} | (status or {}),
    }


def slice_of(
    name: str,
    *pods: Object,
    ports: dict[str, int] | None = None,
    namespace: str = "shop",
    suffix: str = "1",
    zone: str = "",
    family: str = "IPv4",
    **conditions: bool,
) -> Object:
    """The EndpointSlice that the controller would write for these pods."""
    endpoints = [
        {
            "addresses": [item["status"]["podIPs"][0]["ip"]],
            "conditions": {"ready": True} | conditions,
            "nodeName": item["spec"]["nodeName"],
            "targetRef": {
                "kind": "Pod",
                "namespace": namespace,
                "name": item["metadata"]["name"],
                "uid": item["metadata"]["uid"],
            },
        }
        | ({"zone": zone} if zone else {})
        for item in pods
    ]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": _meta(f"{name}-{suffix}", namespace)
        | {"labels": {"kubernetes.io/service-name": name}},
        "addressType": family,
        "ports": [
            {"name": key, "port": number, "protocol": "TCP"}
            for key, number in (ports or {"http": 8080}).items()
        ],
        "endpoints": endpoints,
    }


def namespace(name: str, **annotations: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "annotations": annotations},
    }


def deployed(
    name: str, *, ip: str, pod_ip: str, ports: dict[str, int] | None = None, **options: Any
) -> list[Object]:
    """A Service with one meshed pod behind it; target port 8080 for each port."""
    ports = ports or {"http": 80}
    backing = pod(f"{name}-1", pod_ip, account=name, **options)
    targets = {key: 8000 + number for key, number in ports.items()}
    return [service(name, ports, ip=ip), backing, slice_of(name, backing, ports=targets)]


class World:
    """A store with its snapshot, changed object by object as watches would."""

    def __init__(self, objects: Iterable[Object] = ()) -> None:
        self.store = Store()
        self.store.apply_all((obj, False) for obj in objects)
        self.snapshot: Snapshot = compile_store(self.store)

    def put(self, *objects: Object, deleted: bool = False) -> None:
        touched = self.store.apply_all((obj, deleted) for obj in objects)
        self.snapshot, self.reach = recompile(self.snapshot, self.store, touched)

    def target(self, address: str, *, namespace: str = "shop", node: str = "") -> Target:
        return self._look(address, namespace, node)[0]

    def services(self, address: str, *, namespace: str = "shop", node: str = "") -> list[Service]:
        return self._look(address, namespace, node)[1]

    def outcome(self, kind: str, name: str, namespace: str = "shop") -> Outcome:
        for ref, outcome in self.snapshot.outcomes.items():
            if (ref.namespace, ref.name) == (namespace, name) and ref.resource.startswith(kind):
                return outcome
        raise KeyError(f"{kind} {namespace}/{name}")

    def _look(self, address: str, namespace: str, node: str) -> tuple[Target, list[Service]]:
        client = Client(namespace, "client", node)
        view = look(self.snapshot, client, [address], version=1).view
        return view.targets[address], list(view.services.values())


def shares(target: Target) -> dict[str, int]:
    """Weights of the last rule by short service name with port, as in `web:80`."""
    found = {}
    for backend in target.rules[-1].backends:
        host, _, port = backend.authority.rpartition(":")
        found[f"{host.partition('.')[0]}:{port}"] = backend.weight
    return found


def reasons(outcome: Outcome) -> list[tuple[str, str]]:
    return [(problem.path, problem.reason) for problem in outcome.problems]


def _meta(name: str, namespace: str, annotations: dict[str, str] | None = None) -> Object:
    return {
        "namespace": namespace,
        "name": name,
        "annotations": annotations or {},
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
