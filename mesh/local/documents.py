"""The text of a manifest file -> objects that can be applied, or every fault at once; pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml

from mesh.core.errors import ConfigError
from mesh.inject.yamltext import describe_fault
from mesh.kube.yamlread import ManifestLoader

Object = dict[str, Any]


def read_objects(text: str, source: str) -> list[Object]:
    """The objects of a text, `List`s opened. Raises ConfigError with each fault and its place."""
    try:
        documents = list(yaml.load_all(text, ManifestLoader))
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: expected YAML: {describe_fault(error)}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: expected YAML: {error}") from error
    objects: list[Object] = []
    faults: list[str] = []
    for number, document in enumerate(documents, 1):
        if document is None:
            continue
        for place, value in _opened(document, f"{source}: document {number}"):
            if fault := _fault(value):
                faults.append(f"{place}: {fault}")
            else:
                objects.append(value)
    if faults:
        raise ConfigError(faults)
    return objects


def _opened(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """(place, object) of a document or of each item of a List."""
    if not (isinstance(value, dict) and value.get("kind") == "List"):
        yield place, value
    elif isinstance(items := value.get("items"), list):
        for number, item in enumerate(items):
            yield f"{place}: items[{number}]", item
    else:
        yield f"{place}: items", items


def _fault(value: Any) -> str:
    """What makes a value no object of Kubernetes, or an empty text."""
    if not isinstance(value, dict):
        return f"expected an object or a list of them, got {value!r:.60}"
    for key in ("apiVersion", "kind"):
        if not (isinstance(value.get(key), str) and value[key]):
            return f"expected a text as {key}, got {value.get(key)!r:.60}"
    meta = value.get("metadata")
    if not isinstance(meta, dict):
        return f"expected an object as metadata, got {meta!r:.60}"
    if not (isinstance(meta.get("name"), str) and meta["name"]):
        return f"expected a text as metadata.name, got {meta.get('name')!r:.60}"
    if not isinstance(meta.get("namespace", ""), str):
        return f"expected a text as metadata.namespace, got {meta['namespace']!r:.60}"
    for key in ("annotations", "labels"):
        if not isinstance(meta.get(key) or {}, dict):
            return f"expected an object as metadata.{key}, got {meta[key]!r:.60}"
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return f"cannot be written as JSON: {error}"
    return ""
