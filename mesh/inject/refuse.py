"""Why a pod that asks for a proxy cannot have one: each obstacle, first found first told.

Injecting such a pod would break it or the mesh; leaving it alone, with an event that says
why, is the smaller harm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mesh.core import labels
from mesh.inject.config import InjectConfig
from mesh.inject.probes import container_ports
from mesh.inject.sidecar import VOLUMES

_FOREIGN_NAMES: Final = frozenset(
    {
        "linkerd-proxy",
        "linkerd-init",
        "linkerd-network-validator",
        "istio-proxy",
        "istio-init",
        "istio-validation",
        "kuma-sidecar",
        "kuma-init",
        "consul-dataplane",
        "consul-connect-inject-init",
        "osm-init",
    }
)
_FOREIGN_IMAGES: Final = re.compile(
    r"(^|/)linkerd(-io)?/(proxy|proxy-init)([:@]|$)|(^|/)(istio|istio-release)/(proxyv2|proxy_init)([:@]|$)"
)
_LEVEL: Final = "pod-security.kubernetes.io/enforce"
_MIRROR: Final = "kubernetes.io/config.mirror"

Obstacle = tuple[str, str]  # a fixed word, a sentence


def find_obstacle(
    pod: Mapping[str, Any], namespace_labels: Mapping[str, str], config: InjectConfig
) -> Obstacle | None:
    """The first reason against a proxy in this pod, or None."""
    return next(_obstacles(pod, namespace_labels, config), None)


def _obstacles(
    pod: Mapping[str, Any], namespace_labels: Mapping[str, str], config: InjectConfig
) -> Iterator[Obstacle]:
    spec, meta = pod.get("spec") or {}, pod.get("metadata") or {}
    if _MIRROR in (meta.get("annotations") or {}):
        yield "static_pod", "the pod is a copy of a static pod, which the kubelet alone defines"
    if labels.L_COMPONENT in (meta.get("labels") or {}):
        yield "control_plane", "the pod is part of the mesh's own control plane"
    if spec.get("hostNetwork"):
        yield "host_network", "hostNetwork: a redirect would catch the traffic of the whole node"
    if _is_windows(spec):
        yield "windows", "the pod runs on Windows, which the redirect does not know"
    yield from _foreign(pod)
    yield from _names(spec)
    level = namespace_labels.get(_LEVEL, "")
    if level in ("restricted", "baseline"):
        yield (
            "pod_security",
            f"namespace label {_LEVEL}: {level} rejects the capability NET_ADMIN, which the "
            "init container needs; label the namespace privileged to mesh it",
        )
    yield from _users(spec)
    yield from _ports(pod, config)


def _is_windows(spec: Mapping[str, Any]) -> bool:
    selected = (spec.get("nodeSelector") or {}).get("kubernetes.io/os")
    return "windows" in (selected, (spec.get("os") or {}).get("name"))


def _foreign(pod: Mapping[str, Any]) -> Iterator[Obstacle]:
    for container in _containers(pod):
        name, image = container.get("name"), str(container.get("image") or "")
        if name in _FOREIGN_NAMES or _FOREIGN_IMAGES.search(image):
            yield "foreign_sidecar", f"container {name} belongs to another mesh"


def _names(spec: Mapping[str, Any]) -> Iterator[Obstacle]:
    for volume in spec.get("volumes") or []:
        if volume.get("name") in VOLUMES:
            yield "name_conflict", f"the pod has a volume of its own named {volume['name']}"
    for container in spec.get("initContainers") or []:
        if container.get("name") == labels.INIT_CONTAINER:
            yield (
                "name_conflict",
                f"the pod has an init container of its own named {labels.INIT_CONTAINER}",
            )


def _users(spec: Mapping[str, Any]) -> Iterator[Obstacle]:
    """What runs as the proxy's uid would bypass the redirect."""
    pod_uid = (spec.get("securityContext") or {}).get("runAsUser")
    for container in spec.get("containers") or []:
        uid = (container.get("securityContext") or {}).get("runAsUser", pod_uid)
        if uid == labels.PROXY_UID:
            yield (
                "uid_conflict",
                f"container {container.get('name')} runs as uid {uid}, the proxy's own",
            )


def _ports(pod: Mapping[str, Any], config: InjectConfig) -> Iterator[Obstacle]:
    taken = {config.inbound_port, config.outbound_port, config.admin_port}
    for container in _containers(pod):
        for _, port in container_ports(container):
            if port in taken:
                yield (
                    "port_conflict",
                    f"container {container.get('name')} listens on {port}, a port of the proxy",
                )


def _containers(pod: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    spec = pod.get("spec") or {}
    for kind in ("initContainers", "containers"):
        yield from (c for c in spec.get(kind) or [] if isinstance(c, Mapping))
