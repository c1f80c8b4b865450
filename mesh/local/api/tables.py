"""Objects as a meta.k8s.io/v1 Table: what `kubectl get` prints. Pure.

Built-in kinds by `columns`, custom ones by their additionalPrinterColumns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from mesh.local.api import columns, jsonpath, workload_columns
from mesh.local.api.resources import Column, Object, Resource

_META: Final = "meta.k8s.io/"
_TABLE: Final = {**columns.TABLE, **workload_columns.TABLE}


def table(
    resource: Resource,
    version: str,
    objects: Iterable[Object],
    *,
    now: float,
    revision: str = "",
    include: str = "Metadata",
    meta_version: str = "v1",
    with_columns: bool = True,
) -> Object:
    """The Table of some objects. `include` is None, Metadata or Object, as the query says."""
    found: Object = {
        "kind": "Table",
        "apiVersion": _META + meta_version,
        "metadata": {"resourceVersion": revision} if revision else {},
        "columnDefinitions": [],
        "rows": [
            _row(resource, version, obj, now=now, include=include, meta_version=meta_version)
            for obj in objects
        ],
    }
    if with_columns:
        found["columnDefinitions"] = [_definition(c) for c in headings(resource, version)]
    return found


def headings(resource: Resource, version: str) -> tuple[Column, ...]:
    custom = resource.custom_version(version)
    if custom is not None:
        return (columns.NAME, *custom.columns)
    known, _ = _TABLE.get(resource.store_key, columns.DEFAULT)
    return known if resource.store_key == "events" else (columns.NAME, *known)


def partial(obj: Object, meta_version: str = "v1") -> Object:
    """An object as PartialObjectMetadata."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": _META + meta_version,
        "metadata": obj.get("metadata") or {},
    }


def partial_list(objects: Iterable[Object], revision: str, meta_version: str = "v1") -> Object:
    return {
        "kind": "PartialObjectMetadataList",
        "apiVersion": _META + meta_version,
        "metadata": {"resourceVersion": revision},
        "items": [partial(obj, meta_version) for obj in objects],
    }


def _definition(column: Column) -> Object:
    return {
        "name": column.name,
        "type": column.type,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    }


def _row(
    resource: Resource,
    version: str,
    obj: Object,
    *,
    now: float,
    include: str,
    meta_version: str,
) -> Object:
    name = (obj.get("metadata") or {}).get("name", "")
    custom = resource.custom_version(version)
    if custom is not None:
        cells = [name, *(_custom_cell(column, obj, now) for column in custom.columns)]
    else:
        _, cells_of = _TABLE.get(resource.store_key, columns.DEFAULT)
        cells = cells_of(obj, now)
        if resource.store_key != "events":
            cells = [name, *cells]
    row: Object = {"cells": cells}
    if include == "Object":
        row["object"] = obj
    elif include != "None":
        row["object"] = partial(obj, meta_version)
    return row


def _custom_cell(column: Column, obj: Mapping[str, Any], now: float) -> Any:
    found = jsonpath.find(column.path, obj)
    if not found:
        return None
    first = found[0]
    match column.type:
        case "date":
            return columns.since(first if isinstance(first, str) else None, now)
        case "integer":
            return first if isinstance(first, int) and not isinstance(first, bool) else None
        case "number":
            return first if isinstance(first, int | float) else None
        case "boolean":
            return first if isinstance(first, bool) else None
        case _:
            return jsonpath.text(found)
