"""What a written object goes through whatever its kind: decoding, defaults, checks. Pure.

Built-in kinds by lightkube's models and the tables here; custom kinds by their schema.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mesh.local.api import defaults, definitions, events, fields, schema, status, validation
from mesh.local.api import strategy as strategies
from mesh.local.api.resources import CustomVersion, Object, Resource
from mesh.local.api.status import Fault
from mesh.local.api.store import copy

STRICT: Final = "Strict"
WARN: Final = "Warn"
_IGNORED_META: Final = ("managedFields", "selfLink")


def decode(
    resource: Resource,
    version: str,
    obj: Object,
    *,
    validation_mode: str,
    repeated: list[str],
    warn: Callable[[str], None],
) -> Object:
    """The object as its kind has it: known fields only, with defaults. Raises ApiError 400."""
    fresh = copy(obj)
    _check_type(resource, version, fresh)
    unknown = list(repeated)
    custom = resource.custom_version(version)
    if custom is not None:
        unknown += _decode_custom(custom, fresh)
    else:
        unknown += _decode_builtin(resource, version, fresh)
    meta = fresh.setdefault("metadata", {})
    for field in _IGNORED_META:
        meta.pop(field, None)
    for field in ("labels", "annotations", "finalizers", "ownerReferences"):
        if field in meta and not meta[field]:
            del meta[field]
    if unknown and validation_mode == STRICT:
        raise status.bad_request(
            f'{resource.kind} in version "{version}" cannot be handled as a {resource.kind}: '
            f"strict decoding error: {', '.join(unknown)}"
        )
    if validation_mode == WARN:
        for words in unknown:
            warn(words)
    fill_defaults(resource, version, fresh)
    return fresh


def fill_defaults(resource: Resource, version: str, obj: Object) -> None:
    """The defaults of the kind, in place; custom objects are pruned again before."""
    custom = resource.custom_version(version)
    if custom is not None:
        schema.prune(custom.schema, obj)
        schema.fill_defaults(custom.schema, obj)
    else:
        defaults.set_defaults(resource.key, obj)
        if resource.key == "secrets":
            strategies.fold_strings(obj)


def check(resource: Resource, version: str, obj: Object, old: Object | None) -> None:
    """Raises ApiError 422 with all that is wrong."""
    faults: list[Fault] = []
    custom = resource.custom_version(version)
    if custom is not None:
        faults += validation.validate(resource, obj)
        faults += schema.validate(custom.schema, obj)
    else:
        shape = fields.shape_of(resource)
        if shape is not None:
            faults += fields.check(shape, obj).missing
        if not faults:
            faults += validation.validate(resource, obj)
            if resource.key == definitions.KEY:
                faults += definitions.validate(obj)
        if old is not None:
            faults += validation.validate_change(resource, obj, old)
    if faults:
        name = obj.get("metadata", {}).get("name", "")
        raise status.invalid(resource.group, resource.kind, name, faults)


def check_status(resource: Resource, version: str, obj: Object) -> None:
    """Raises ApiError 422 when the status of a custom object does not fit its schema."""
    custom = resource.custom_version(version)
    if custom is None:
        return
    faults = schema.validate(custom.schema, obj)
    if faults:
        raise status.invalid(
            resource.group, resource.kind, obj.get("metadata", {}).get("name", ""), faults
        )


def to_version(resource: Resource, version: str, obj: Object) -> Object:
    """A stored object as one version of its resource shows it; may share parts with it."""
    if resource.stored_as == "events":
        return events.from_core(obj)
    if not resource.custom:
        return obj
    fresh = copy(obj)
    fresh["apiVersion"] = f"{resource.group}/{version}"
    custom = resource.custom_version(version)
    if custom is not None:
        schema.fill_defaults(custom.schema, fresh)
    return fresh


def to_storage(resource: Resource, storage_version: str, obj: Object) -> Object:
    """An object of any served version as the store keeps it."""
    if resource.stored_as == "events":
        return events.to_core(obj)
    if resource.custom:
        return {**obj, "apiVersion": f"{resource.group}/{storage_version}"}
    return obj


def _check_type(resource: Resource, version: str, obj: Object) -> None:
    api_version = f"{resource.group}/{version}" if resource.group else version
    kind, found = obj.get("kind"), obj.get("apiVersion")
    if kind not in (None, "", resource.kind) or found not in (None, "", api_version):
        raise status.bad_request(
            f'{kind} in version "{found}" cannot be handled as a {resource.kind}: expected '
            f"kind {resource.kind} in {api_version}"
        )
    obj["apiVersion"], obj["kind"] = api_version, resource.kind
    if obj.get("metadata") is None:
        obj["metadata"] = {}
    if not isinstance(obj["metadata"], dict):
        raise status.bad_request("metadata is not an object")


def _decode_custom(custom: CustomVersion, obj: Object) -> list[str]:
    unknown = [f'unknown field "{path}"' for path in schema.prune(custom.schema, obj)]
    shape = fields.load_shape("v1", "Pod")
    meta_shape = shape.fields["metadata"].shape if shape is not None else None
    if meta_shape is not None:
        found = fields.check(meta_shape, obj["metadata"])
        unknown += [words.replace('"', '"metadata.', 1) for words in found.unknown]
        if found.mismatch:
            raise status.bad_request(f"unable to decode metadata: {found.mismatch}")
        fields.prune(meta_shape, obj["metadata"])
    return unknown


def _decode_builtin(resource: Resource, version: str, obj: Object) -> list[str]:
    shape = fields.shape_of(resource)
    if shape is None:
        return []
    found = fields.check(shape, obj)
    mismatch = found.mismatch
    if not mismatch and resource.key in ("secrets", "configmaps"):
        field = "data" if resource.key == "secrets" else "binaryData"
        mismatch = strategies.check_base64(obj, field)
    if mismatch:
        raise status.bad_request(
            f'{resource.kind} in version "{version}" cannot be handled as a {resource.kind}: '
            f"{mismatch}"
        )
    fields.prune(shape, obj)
    return found.unknown
