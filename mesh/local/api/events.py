"""Events in their two dialects: core/v1, as they are stored, and events.k8s.io/v1. Pure."""

from __future__ import annotations

from typing import Any, Final

from mesh.local.api.resources import Object

_RENAMED: Final = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
_BACK: Final = {core: modern for modern, core in _RENAMED.items()}


def to_core(event: Object) -> Object:
    """An events.k8s.io/v1 Event as core/v1 has it."""
    return {**_renamed(event, _RENAMED), "apiVersion": "v1"}


def from_core(event: Object) -> Object:
    """A core/v1 Event as events.k8s.io/v1 shows it."""
    shown = {key: value for key, value in _renamed(event, _BACK).items() if value != ""}
    return {**shown, "eventTime": event.get("eventTime"), "apiVersion": "events.k8s.io/v1"}


def _renamed(event: Object, names: dict[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in event.items()}
