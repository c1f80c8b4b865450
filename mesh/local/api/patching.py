"""A patch request of any kind, carried out on an object of any kind. Pure."""

from __future__ import annotations

from typing import Any

from mesh.local.api import patch, status, strategic
from mesh.local.api.resources import Object, Resource


def apply(row: Resource, old: Object, change: Any, how: str) -> Object:
    """The object after a patch. Raises ApiError 400, 415, 422."""
    try:
        match how:
            case "json":
                fresh = patch.apply(old, change)
            case "merge" if isinstance(change, dict):
                fresh = patch.merge(old, change)
            case "strategic" if row.custom:
                raise status.unsupported_media(
                    "the body of the request was in an unknown format - accepted media types "
                    "include: application/json-patch+json, application/merge-patch+json"
                )
            case "strategic" if isinstance(change, dict):
                fresh = strategic.merge(row.kind, old, change)
            case _:
                raise status.bad_request("the patch is not an object")
    except ValueError as error:
        raise status.rejected() from error
    if not isinstance(fresh, dict):
        raise status.bad_request("the patched object is not an object")
    return fresh
