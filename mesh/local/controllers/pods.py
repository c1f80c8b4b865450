"""What controllers ask of pods, and which of them go first. Pure; times in seconds."""

from __future__ import annotations

from datetime import datetime
from typing import Any

Object = dict[str, Any]


def parse_time(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def is_active(pod: Object) -> bool:
    """Whether a pod counts towards its ReplicaSet."""
    phase = (pod.get("status") or {}).get("phase")
    return phase not in ("Succeeded", "Failed") and "deletionTimestamp" not in pod["metadata"]


def ready_since(pod: Object) -> float | None:
    """When the pod became Ready; None while it is not."""
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "Ready" and condition.get("status") == "True":
            return parse_time(condition["lastTransitionTime"])
    return None


def available_at(pod: Object, min_ready: float) -> float | None:
    """When the pod counts as available; None while it is not ready."""
    since = ready_since(pod)
    return None if since is None else since + min_ready


def deletion_rank(pod: Object) -> tuple[int, int, int, int, float]:
    """The smaller, the sooner deleted: unbound, pending, unready, restarting, young ones first."""
    status = pod.get("status") or {}
    phase = {"Pending": 0, "Unknown": 1}.get(status.get("phase", "Pending"), 2)
    restarts = max(
        (int(entry.get("restartCount") or 0) for entry in status.get("containerStatuses") or ()),
        default=0,
    )
    return (
        1 if pod["spec"].get("nodeName") else 0,
        phase,
        0 if ready_since(pod) is None else 1,
        -restarts,
        -parse_time(pod["metadata"]["creationTimestamp"]),
    )
