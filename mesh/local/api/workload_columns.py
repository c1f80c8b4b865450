"""The columns of Jobs, CronJobs, StatefulSets and DaemonSets as `kubectl get` shows them. Pure.

Names, order and words follow k8s.io/kubernetes/pkg/printers/internalversion.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from mesh.local.api.columns import Cells, age, columns, human_duration, images, since
from mesh.local.api.resources import Column, Object
from mesh.local.api.selectors import format_labels

_DAEMON_NUMBERS: Final = (
    *("desiredNumberScheduled", "currentNumberScheduled", "numberReady"),
    *("updatedNumberScheduled", "numberAvailable"),
)
_WIDE: Final = ("Containers", "Images", "Selector")


def _stateful_set(obj: Object, now: float) -> list[Any]:
    spec, state = obj.get("spec") or {}, obj.get("status") or {}
    ready = f"{state.get('readyReplicas', 0)}/{spec.get('replicas', 0)}"
    return [ready, age(obj, now), *images(obj)]


def _daemon_set(obj: Object, now: float) -> list[Any]:
    spec, state = obj.get("spec") or {}, obj.get("status") or {}
    inner = (spec.get("template") or {}).get("spec") or {}
    node = ",".join(f"{key}={value}" for key, value in (inner.get("nodeSelector") or {}).items())
    return [
        *(state.get(key, 0) for key in _DAEMON_NUMBERS),
        node or "<none>",
        age(obj, now),
        *images(obj),
        format_labels(spec.get("selector")),
    ]


def _job(obj: Object, now: float) -> list[Any]:
    spec, state = obj.get("spec") or {}, obj.get("status") or {}
    words = [
        item["type"]
        for item in state.get("conditions") or ()
        if item["status"] == "True" and item["type"] in ("Complete", "Failed", "Suspended")
    ]
    done = state.get("succeeded", 0)
    wanted = spec.get("completions")
    if wanted is None:
        parallel = spec.get("parallelism", 0)
        shown = f"{done}/1 of {parallel}" if parallel > 1 else f"{done}/1"
    else:
        shown = f"{done}/{wanted}"
    return [
        words[0] if words else "Running",
        shown,
        _duration(state, now),
        age(obj, now),
        *images(obj),
        format_labels(spec.get("selector")),
    ]


def _duration(state: Mapping[str, Any], now: float) -> str:
    begun, ended = state.get("startTime"), state.get("completionTime")
    if not begun:
        return ""
    until = datetime.fromisoformat(ended).timestamp() if ended else now
    return human_duration(until - datetime.fromisoformat(begun).timestamp())


def _cron_job(obj: Object, now: float) -> list[Any]:
    spec, state = obj.get("spec") or {}, obj.get("status") or {}
    last = state.get("lastScheduleTime")
    return [
        spec.get("schedule", ""),
        spec.get("timeZone") or "<none>",
        "True" if spec.get("suspend") else "False",
        len(state.get("active") or ()),
        since(last, now) if last else "<none>",
        age(obj, now),
        *images({"spec": (spec.get("jobTemplate") or {}).get("spec") or {}}),
        "<none>",
    ]


TABLE: Final[Mapping[str, tuple[tuple[Column, ...], Cells]]] = {
    "statefulsets.apps": (columns("Ready", "Age", wide=_WIDE[:2]), _stateful_set),
    "daemonsets.apps": (
        columns(
            *("Desired", "Current", "Ready", "Up-to-date", "Available", "Node Selector", "Age"),
            wide=_WIDE,
        ),
        _daemon_set,
    ),
    "jobs.batch": (columns("Status", "Completions", "Duration", "Age", wide=_WIDE), _job),
    "cronjobs.batch": (
        columns(*("Schedule", "Timezone", "Suspend", "Active", "Last Schedule", "Age"), wide=_WIDE),
        _cron_job,
    ),
}
