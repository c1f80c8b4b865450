"""The scale subresource: an object's replicas as autoscaling/v1 Scale, and back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mesh.local.api import patch, status
from mesh.local.api.resources import Object, Resource, Scale
from mesh.local.api.selectors import format_labels
from mesh.local.api.store import copy


def show(resource: Resource, version: str, obj: Object) -> Object:
    """The Scale of an object. Raises ApiError 404 where the kind has none."""
    meta = obj["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    custom = _paths(resource, version)
    if custom is None:
        selector = format_labels((obj.get("spec") or {}).get("selector"))
        wanted = (obj.get("spec") or {}).get("replicas", 0)
        found = (obj.get("status") or {}).get("replicas", 0)
    else:
        selector = str(_look(obj, custom.selector) or "")
        wanted = _look(obj, custom.spec_replicas) or 0
        found = _look(obj, custom.status_replicas) or 0
    shown: Object = {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: meta[key] for key in kept if key in meta},
        "spec": {"replicas": wanted} if wanted else {},
        "status": {"replicas": found},
    }
    if selector:
        shown["status"]["selector"] = selector
    return shown


def set_replicas(resource: Resource, version: str, obj: Object, scale: Object) -> Object:
    """The object with the replicas of a Scale. Raises ApiError 422."""
    wanted = (scale.get("spec") or {}).get("replicas", 0)
    if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 0:
        fault = status.bad("spec.replicas", wanted, "must be greater than or equal to 0")
        raise status.invalid("autoscaling", "Scale", obj["metadata"]["name"], [fault])
    fresh = copy(obj)
    custom = _paths(resource, version)
    path = custom.spec_replicas if custom is not None else ".spec.replicas"
    *way, last = path.strip(".").split(".")
    place = fresh
    for part in way:
        place = place.setdefault(part, {})
    place[last] = wanted
    revision = (scale.get("metadata") or {}).get("resourceVersion")
    if revision:
        fresh["metadata"]["resourceVersion"] = revision
    return fresh


def patched(scale: Object, change: Any, how: str) -> Object:
    """A Scale after a patch of it. Raises ApiError 400, 422."""
    try:
        fresh = patch.apply(scale, change) if how == "json" else patch.merge(scale, change)
    except ValueError as error:
        raise status.bad_request(str(error)) from error
    if not isinstance(fresh, dict) or not isinstance(fresh.get("spec", {}), dict):
        raise status.bad_request("the patched Scale is no Scale")
    revision = isinstance(change, dict) and (change.get("metadata") or {}).get("resourceVersion")
    if not revision:
        fresh["metadata"].pop("resourceVersion", None)
    return fresh


def _paths(resource: Resource, version: str) -> Scale | None:
    if not resource.custom:
        return None
    custom = resource.custom_version(version)
    if custom is None or custom.scale is None:
        raise status.no_such_thing(f"scale of {resource.key}")
    return custom.scale


def _look(obj: Mapping[str, Any], path: str) -> Any:
    value: Any = obj
    for part in filter(None, path.split(".")):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value if path else None
