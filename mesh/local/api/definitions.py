"""CustomResourceDefinitions: what is wrong with one, its conditions, and its row. Pure.

Definitions establish at once. Conversion is by apiVersion alone (strategy None).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from mesh.local.api.discovery import version_rank
from mesh.local.api.resources import (
    Column,
    CustomVersion,
    Object,
    Registry,
    Resource,
    Scale,
)
from mesh.local.api.status import Fault, bad, forbidden_field, required, unsupported

KEY: Final = "customresourcedefinitions.apiextensions.k8s.io"
_LABEL: Final = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_TYPES: Final = ("array", "boolean", "integer", "number", "object", "string")
_AGE: Final = Column("Age", "date", ".metadata.creationTimestamp")
_FORBIDDEN: Final = ("$ref", "definitions", "dependencies", "patternProperties", "additionalItems")


def validate(definition: Object) -> list[Fault]:
    """What the API server would refuse in a definition."""
    spec = definition["spec"]
    names = spec.get("names") or {}
    faults = []
    expected = f"{names.get('plural')}.{spec.get('group')}"
    if definition["metadata"].get("name") != expected:
        faults.append(
            bad(
                "metadata.name",
                definition["metadata"].get("name"),
                'must be spec.names.plural+"."+spec.group',
            )
        )
    if spec.get("scope") not in ("Namespaced", "Cluster"):
        faults.append(unsupported("spec.scope", spec.get("scope"), ("Cluster", "Namespaced")))
    for field in ("plural", "singular"):
        if names.get(field) and not _LABEL.fullmatch(names[field]):
            faults.append(bad(f"spec.names.{field}", names[field], "a DNS-1035 label is expected"))
    if "." not in str(spec.get("group")):
        faults.append(
            bad("spec.group", spec.get("group"), "should be a domain with at least one dot")
        )
    strategy = (spec.get("conversion") or {}).get("strategy", "None")
    if strategy != "None":
        faults.append(
            forbidden_field(
                "spec.conversion.strategy", f"mesh local has no conversion by {strategy}"
            )
        )
    faults.extend(_validate_versions(spec.get("versions") or []))
    return faults


def _validate_versions(versions: list[Object]) -> Iterator[Fault]:
    names = [version.get("name") for version in versions]
    for number, version in enumerate(versions):
        path = f"spec.versions[{number}]"
        if not _LABEL.fullmatch(str(version.get("name"))):
            yield bad(f"{path}.name", version.get("name"), "a DNS-1035 label is expected")
        if names.index(version.get("name")) != number:
            yield Fault(f"{path}.name", "Duplicate value", "", version.get("name"), True)
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if schema is None:
            yield required(f"{path}.schema.openAPIV3Schema", "schemas are required")
            continue
        place = f"{path}.schema.openAPIV3Schema"
        if schema.get("type") != "object":
            yield bad(f"{place}.type", schema.get("type", ""), "must be object at the root")
        yield from _structural(schema, place, is_root=True)
    if sum(bool(version.get("storage")) for version in versions) != 1:
        yield bad("spec.versions", names, "must have exactly one version marked as storage version")


def _structural(schema: Mapping[str, Any], path: str, *, is_root: bool = False) -> Iterator[Fault]:
    """The rules of a structural schema, as far as they protect the walk in `schema`."""
    for field in _FORBIDDEN:
        if schema.get(field):
            yield forbidden_field(f"{path}.{field}", f"{field} is not supported")
    kind = schema.get("type")
    free = schema.get("x-kubernetes-int-or-string") or schema.get(
        "x-kubernetes-preserve-unknown-fields"
    )
    if kind is None and not free:
        yield required(f"{path}.type", "must not be empty for specified object fields")
    elif kind is not None and kind not in _TYPES:
        yield unsupported(f"{path}.type", kind, _TYPES)
    if kind == "array":
        if not isinstance(schema.get("items"), Mapping):
            yield required(f"{path}.items", "must be specified")
        else:
            yield from _structural(schema["items"], f"{path}.items")
    properties = schema.get("properties") or {}
    additional = schema.get("additionalProperties")
    if properties and additional not in (None, False):
        yield forbidden_field(
            f"{path}.additionalProperties",
            "additionalProperties and properties are mutual exclusive",
        )
    for name, inner in properties.items():
        if is_root and name in ("apiVersion", "kind", "metadata"):
            continue
        yield from _structural(inner, f"{path}.properties[{name}]")
    if isinstance(additional, Mapping):
        yield from _structural(additional, f"{path}.additionalProperties")


def has_rules(value: Any) -> bool:
    """Whether a definition carries CEL rules, which are not evaluated."""
    if isinstance(value, dict):
        return "x-kubernetes-validations" in value or any(map(has_rules, value.values()))
    return isinstance(value, list) and any(map(has_rules, value))


def conflicts(definition: Object, registry: Registry) -> list[str]:
    """Names that another resource of the same group has, in words."""
    spec = definition["spec"]
    names = spec["names"]
    wanted = {
        names["plural"],
        names.get("singular", ""),
        *(names.get("shortNames") or ()),
    } - {""}
    found: list[str] = []
    for other in registry:
        if other.group != spec["group"] or other.plural == names["plural"]:
            continue
        taken = {other.plural, other.single, *other.short_names}
        found.extend(f'"{name}" is already in use' for name in sorted(wanted & taken))
        if other.kind == names["kind"]:
            found.append(f'"{names["kind"]}" is already in use')
    return found


def begin(definition: Object, clashes: list[str], now: str) -> None:
    """The status of a definition: accepted names and the conditions clients wait for."""
    spec = definition["spec"]
    accepted = not clashes
    before = definition.get("status") or {}
    stored = [v["name"] for v in spec["versions"] if v.get("storage")]
    kept = [v for v in before.get("storedVersions") or () if v not in stored]
    old = {c["type"]: c for c in before.get("conditions") or ()}

    def condition(kind: str, reason: str, message: str) -> Object:
        status = "True" if accepted else "False"
        since = old.get(kind, {})
        changed = since.get("lastTransitionTime", now) if since.get("status") == status else now
        return {
            "lastTransitionTime": changed,
            "message": message,
            "reason": reason,
            "status": status,
            "type": kind,
        }

    definition["status"] = {
        "acceptedNames": spec["names"] if accepted else {"plural": "", "kind": ""},
        "conditions": [
            condition(
                "NamesAccepted",
                "NoConflicts" if accepted else "NameConflict",
                "no conflicts found" if accepted else ", ".join(clashes),
            ),
            condition(
                "Established",
                "InitialNamesAccepted" if accepted else "NotAccepted",
                "the initial names have been accepted"
                if accepted
                else "not all names are accepted",
            ),
        ],
        "storedVersions": kept + stored,
    }


def is_established(definition: Mapping[str, Any]) -> bool:
    conditions = (definition.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def row(definition: Mapping[str, Any]) -> Resource | None:
    """The resource that a definition makes; None when no version is served."""
    spec = definition["spec"]
    names = spec["names"]
    served = [v for v in spec["versions"] if v.get("served")]
    served.sort(key=lambda version: version_rank(version["name"]))
    versions = tuple(_version(version, spec) for version in served)
    if not versions:
        return None
    return Resource(
        spec["group"],
        versions[0].name,
        names["plural"],
        names["kind"],
        namespaced=spec["scope"] == "Namespaced",
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        singular=names.get("singular", ""),
        list_kind=names.get("listKind", ""),
        custom=versions,
        digest=hashlib.sha256(msgspec.json.encode(spec)).hexdigest(),
    )


def storage_version(definition: Mapping[str, Any]) -> str:
    return str(next(v["name"] for v in definition["spec"]["versions"] if v.get("storage")))


def _deprecation(name: str, spec: Mapping[str, Any]) -> str:
    """The default warning: what to use instead, if a served version is newer."""
    group, kind = spec["group"], spec["names"]["kind"]
    better = [
        v["name"]
        for v in spec["versions"]
        if v.get("served")
        and not v.get("deprecated")
        and version_rank(v["name"]) < version_rank(name)
    ]
    text = f"{group}/{name} {kind} is deprecated"
    if better:
        text += f"; use {group}/{min(better, key=version_rank)} {kind}"
    return text


def _version(version: Mapping[str, Any], spec: Mapping[str, Any]) -> CustomVersion:
    subresources = version.get("subresources") or {}
    scale = subresources.get("scale")
    columns = [
        Column(
            column["name"],
            column.get("type", "string"),
            column["jsonPath"],
            column.get("priority", 0),
            column.get("format", ""),
            column.get("description", ""),
        )
        for column in version.get("additionalPrinterColumns") or ()
    ]
    warning = ""
    if version.get("deprecated"):
        warning = version.get("deprecationWarning") or _deprecation(version["name"], spec)
    return CustomVersion(
        version["name"],
        (version.get("schema") or {}).get("openAPIV3Schema") or {},
        tuple(columns) or (_AGE,),
        has_status="status" in subresources,
        scale=Scale(
            scale.get("specReplicasPath", ""),
            scale.get("statusReplicasPath", ""),
            scale.get("labelSelectorPath", ""),
        )
        if isinstance(scale, Mapping)
        else None,
        selectable=tuple(f["jsonPath"].lstrip(".") for f in version.get("selectableFields") or ()),
        warning=warning,
    )
