"""A pod that is not as it should be, in one line: phase, reason, last event. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mesh.kube.pods import container_statuses, name_of, namespace_of, phase_of

Object = Mapping[str, Any]


def describe_pod(pod: Object, events: Sequence[Object] = ()) -> str:
    """`Pending, ImagePullBackOff: Back-off pulling image "x"; last event: Failed: ...`."""
    phase = str((pod.get("status") or {}).get("phase") or "Unknown")
    reason = phase_of(pod)
    parts = [phase if reason == phase else f"{phase}, {reason}"]
    message = _message_of(pod)
    if message:
        parts[0] += f": {message}"
    event = last_event(events, name_of(pod), namespace_of(pod))
    if event:
        parts.append(f"last event: {event}")
    return "; ".join(parts)


def _message_of(pod: Object) -> str:
    """Why the first container that waits does so, or why the pod cannot be scheduled."""
    for status in container_statuses(pod):
        state = status.get("state") or {}
        message = (state.get("waiting") or {}).get("message")
        if message:
            return f"container {status.get('name')}: {_one_line(message)}"
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition.get("status") == "False" and condition.get("type") == "PodScheduled":
            return _one_line(condition.get("message"))
    waiting = [s for s in container_statuses(pod) if _is_unready(s)]
    if waiting:
        restarts = waiting[0].get("restartCount") or 0
        again = f", {restarts} restarts" if restarts else ""
        return f"container {waiting[0].get('name')} is not ready{again}"
    return ""


def _is_unready(status: Object) -> bool:
    ended = ((status.get("state") or {}).get("terminated") or {}).get("exitCode")
    return not status.get("ready") and ended != 0


def last_event(events: Sequence[Object], name: str, namespace: str) -> str:
    """`Reason: message` of the newest event about one object, "" when there is none."""
    about = [
        event
        for event in events
        if _involved(event).get("name") == name
        and (_involved(event).get("namespace") or namespace) == namespace
    ]
    if not about:
        return ""
    event = max(about, key=_time_of)
    return f"{event.get('reason')}: {_one_line(event.get('message') or event.get('note'))}"


def _involved(event: Object) -> Mapping[str, Any]:
    return event.get("involvedObject") or event.get("regarding") or {}


def _time_of(event: Object) -> str:
    """RFC 3339 times in UTC sort as text."""
    meta = event.get("metadata") or {}
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return str(next((t for t in times if t), meta.get("creationTimestamp") or ""))


def _one_line(text: object) -> str:
    line = " ".join(str(text or "").split())
    return line if len(line) <= 200 else line[:197] + "..."
