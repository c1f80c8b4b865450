"""OpenAPI v3 documents: what kubectl apply, explain and validation read. Pure.

`paths` is what kubectl needs before it patches (a patch operation with the kind and the
`fieldValidation` parameter); schemas serve `kubectl explain`. Built-in schemas come from
lightkube's models with their descriptions, custom ones from their definitions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from mesh import __version__
from mesh.local.api import fields
from mesh.local.api.fields import FieldType, Shape
from mesh.local.api.resources import Object, Registry, Resource

_REF: Final = "#/components/schemas/"
_PARAMETER: Final = {
    "name": "fieldValidation",
    "in": "query",
    "description": "Strict, Warn or Ignore",
    "schema": {"type": "string", "uniqueItems": True},
}


def root(registry: Registry) -> Object:
    """`/openapi/v3`: each group's document with a hash, so that clients can cache it."""
    paths: Object = {}
    for group, version in _group_versions(registry):
        where = f"apis/{group}/{version}" if group else f"api/{version}"
        found = digest(registry, group, version)
        paths[where] = {"serverRelativeURL": f"/openapi/v3/{where}?hash={found}"}
    return {"paths": paths}


def digest(registry: Registry, group: str, version: str) -> str:
    """What a document hangs on: our own version, and the definitions of custom kinds."""
    parts = [f"{r.key} {r.kind} {r.digest}" for r in _members(registry, group, version)]
    return hashlib.sha256("\n".join([__version__, *sorted(parts)]).encode()).hexdigest().upper()


def document(registry: Registry, group: str, version: str) -> Object | None:
    """The document of one version of a group; None when the group does not have it."""
    members = _members(registry, group, version)
    if not members:
        return None
    prefix = f"/apis/{group}/{version}" if group else f"/api/{version}"
    paths: Object = {}
    schemas: Object = {}
    for resource in members:
        kind = {"group": group, "version": version, "kind": resource.kind}
        _add_schema(schemas, resource, version, kind)
        if "patch" not in resource.verbs:
            continue
        scope = "/namespaces/{namespace}" if resource.namespaced else ""
        action = {
            "parameters": [_PARAMETER],
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-group-version-kind": kind,
        }
        path = f"{prefix}{scope}/{resource.plural}"
        paths[f"{path}/{{name}}"] = {
            "get": {**action, "parameters": []},
            "patch": action,
            "put": action,
        }
        paths[path] = {"post": action}
    return {
        "openapi": "3.0.0",
        "info": {"title": "mesh local", "version": "unversioned"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _group_versions(registry: Registry) -> list[tuple[str, str]]:
    return sorted({(r.group, version) for r in registry for version in r.versions})


def _members(registry: Registry, group: str, version: str) -> list[Resource]:
    return [r for r in registry if r.group == group and version in r.versions]


def _schema_name(resource: Resource, version: str) -> str:
    if resource.custom:
        reverse = ".".join(reversed(resource.group.split(".")))
        return f"{reverse}.{version}.{resource.kind}"
    return f"io.k8s.api.{resource.group.partition('.')[0] or 'core'}.{version}.{resource.kind}"


def _add_schema(schemas: Object, resource: Resource, version: str, kind: Object) -> None:
    name = _schema_name(resource, version)
    custom = resource.custom_version(version)
    if custom is not None:
        found = dict(custom.schema)
        meta = fields.load_shape("v1", "Pod")
        if meta is not None:
            shape = meta.fields["metadata"].shape
            properties = dict(found.get("properties") or {})
            if shape is not None:
                properties["metadata"] = _reference(schemas, shape)
            found["properties"] = properties
    else:
        shape = fields.shape_of(resource)
        if shape is None:
            return
        found = _struct(schemas, shape)
    schemas[name] = {**found, "x-kubernetes-group-version-kind": [kind]}


def _struct(schemas: Object, shape: Shape) -> Object:
    described = shape.descriptions()
    properties = {}
    for name, known in shape.fields.items():
        found = _field(schemas, known)
        if name in described:
            found = _described(found, described[name])
        properties[name] = found
    result: Object = {"type": "object", "properties": properties}
    if shape.description:
        result["description"] = shape.description
    needed = [name for name, known in shape.fields.items() if known.is_required]
    if needed:
        result["required"] = needed
    return result


def _described(found: Object, text: str) -> Object:
    if "$ref" in found:
        return {"allOf": [found], "description": text, "default": {}}
    return {**found, "description": text}


def _field(schemas: Object, known: FieldType) -> Object:
    inner = _inner(schemas, known)
    if known.is_list:
        return {"type": "array", "items": inner}
    if known.is_map:
        return {"type": "object", "additionalProperties": inner}
    return inner


_SCALARS: Final[Mapping[str, Mapping[str, Any]]] = {
    "string": {"type": "string"},
    "int32": {"type": "integer"},
    "float64": {"type": "number"},
    "bool": {"type": "boolean"},
}


_SPECIAL: Final[Mapping[str, Mapping[str, Any]]] = {
    "IntOrString": {
        "oneOf": [{"type": "integer"}, {"type": "string"}],
        "format": "int-or-string",
        "description": (
            "IntOrString is a type that can hold an int32 or a string.  When used in JSON or "
            "YAML marshalling and unmarshalling, it produces or consumes the inner type.  This "
            "allows you to have, for example, a JSON field that can accept a name or number."
        ),
    },
    "Quantity": {
        "oneOf": [{"type": "string"}, {"type": "number"}],
        "description": "Quantity is a number with a suffix: 500m, 2Gi.",
    },
}


def _inner(schemas: Object, known: FieldType) -> Object:
    if known.shape is not None:
        return _reference(schemas, known.shape)
    match known.kind:
        case "int-or-string" | "quantity":
            short = "IntOrString" if known.kind == "int-or-string" else "Quantity"
            name = f"io.k8s.apimachinery.pkg.{short}"
            schemas[name] = _SPECIAL[short]
            return {"$ref": _REF + name}
        case "any":
            return {"type": "object"}
    return dict(_SCALARS[known.scalar])


def _reference(schemas: Object, shape: Shape) -> Object:
    name = f"io.k8s.api.{shape.name}"
    if name not in schemas:
        schemas[name] = {}  # a struct may hold itself
        schemas[name] = _struct(schemas, shape)
    return {"$ref": _REF + name}
