"""What annotations of the client do: whether its requests pass its proxy at all, and whether
they choose their Service themselves; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from destination.facts import Key, Pod, as_mapping, key_of
from mesh.core.quantity import has_port, parse_ports
from mesh.explain.question import Asker
from mesh.inject.annotations import Resolved, resolve
from mesh.inject.config import InjectConfig

_SKIP: Final = "mesh/skip-outbound-ports"


@dataclass(frozen=True, slots=True)
class Annotations:
    """Those of pods by key, those of namespaces by name, and the install values under them."""

    pods: Mapping[Key, Mapping[str, str]]
    namespaces: Mapping[str, Mapping[str, str]]
    config: InjectConfig


def read_annotations(objects: Iterable[Mapping[str, Any]], config: InjectConfig) -> Annotations:
    pods: dict[Key, Mapping[str, str]] = {}
    namespaces: dict[str, Mapping[str, str]] = {}
    for obj in objects:
        if obj.get("kind") in ("Pod", "Namespace"):
            found = as_mapping(as_mapping(obj.get("metadata")).get("annotations"))
            notes = {str(key): value for key, value in found.items() if isinstance(value, str)}
            key = key_of(dict(obj))
            if obj["kind"] == "Pod":
                pods[key] = notes
            else:
                namespaces[key[1]] = notes
    return Annotations(pods, namespaces, config)


def find_bypass(annotations: Annotations, asker: Asker, port: int) -> str:
    """Why the client's requests to this port never reach a proxy of ours; "" when they do."""
    pod = asker.pod
    if pod is None:
        return ""
    if pod.host_network:
        return f"{asker.workload} runs in the host's network, where nothing is redirected"
    if not pod.control_namespace:
        return (
            f"{asker.workload} has no proxy (annotate its pod template or its namespace with "
            "mesh/inject: enabled)"
        )
    texts = _resolved(annotations, pod)
    if has_port(parse_ports(texts[_SKIP]), port):
        return f"{_SKIP} of {asker.workload} lists port {port}"
    return ""


def with_mode(annotations: Annotations, asker: Asker) -> Asker:
    """The client, knowing whether it is an ingress controller."""
    pod = asker.pod
    if pod is None or not pod.control_namespace:
        return asker
    return replace(asker, is_ingress=_resolved(annotations, pod).is_ingress)


def _resolved(annotations: Annotations, pod: Pod) -> Resolved:
    return resolve(
        annotations.pods.get(pod.key, {}),
        annotations.namespaces.get(pod.namespace, {}),
        annotations.config,
        port_names={name: number for number, name in pod.port_names.items() if name},
    )
