"""Questions about a pod object that check and stat both ask. Pure; never raises on odd objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mesh.core import labels

Object = Mapping[str, Any]

_FINISHED = ("Succeeded", "Failed")


def name_of(obj: Object) -> str:
    return str((obj.get("metadata") or {}).get("name", ""))


def namespace_of(obj: Object) -> str:
    return str((obj.get("metadata") or {}).get("namespace", ""))


def labels_of(obj: Object) -> Mapping[str, str]:
    return (obj.get("metadata") or {}).get("labels") or {}


def annotations_of(obj: Object) -> Mapping[str, str]:
    return (obj.get("metadata") or {}).get("annotations") or {}


def containers(pod: Object) -> Iterator[Mapping[str, Any]]:
    """Init containers, then containers."""
    spec = pod.get("spec") or {}
    yield from spec.get("initContainers") or ()
    yield from spec.get("containers") or ()


def container_statuses(pod: Object) -> Iterator[Mapping[str, Any]]:
    """Statuses of init containers, then of containers."""
    status = pod.get("status") or {}
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def is_meshed(pod: Object) -> bool:
    """Whether this pod carries our proxy, as a sidecar of either kind."""
    return any(container.get("name") == labels.PROXY_CONTAINER for container in containers(pod))


def is_finished(pod: Object) -> bool:
    """Whether the pod has ended for good (phase Succeeded or Failed)."""
    return (pod.get("status") or {}).get("phase") in _FINISHED


def is_leaving(pod: Object) -> bool:
    """Whether the pod is being deleted."""
    return bool((pod.get("metadata") or {}).get("deletionTimestamp"))


def is_ready(pod: Object) -> bool:
    """Whether the pod's Ready condition is True."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def is_proxy_ready(pod: Object) -> bool:
    """Whether the proxy's own container is ready."""
    return any(
        status.get("name") == labels.PROXY_CONTAINER and bool(status.get("ready"))
        for status in container_statuses(pod)
    )


def phase_of(pod: Object) -> str:
    """What kubectl prints as STATUS: the phase, or the first reason why a container waits."""
    status = pod.get("status") or {}
    if is_leaving(pod):
        return "Terminating"
    reason = waiting_reason(pod)
    return reason or str(status.get("reason") or status.get("phase") or "Unknown")


def waiting_reason(pod: Object) -> str:
    """The first reason why a container waits or died, "" when none is given.

    `PodInitializing` and `ContainerCreating` count only when nothing better is known.
    """
    plain = ""
    for status in container_statuses(pod):
        state = status.get("state") or {}
        ended = state.get("terminated") or {}
        reason = (state.get("waiting") or {}).get("reason") or ""
        if not reason and ended.get("exitCode"):
            reason = ended.get("reason") or f"ExitCode:{ended['exitCode']}"
        if reason and reason not in ("PodInitializing", "ContainerCreating"):
            return str(reason)
        plain = plain or str(reason)
    return plain
