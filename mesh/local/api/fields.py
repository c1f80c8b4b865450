"""Which fields built-in kinds have, and of which type: strict decoding and required fields.

The shapes come from lightkube's models (generated from Kubernetes' own OpenAPI), read the
first time a kind is written: importing them costs 0.3 s. Raises nothing: faults are lists.
"""

from __future__ import annotations

import importlib
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from mesh.local.api.resources import Object, Resource
from mesh.local.api.status import Fault, required

MODULES: Final[Mapping[str, str]] = {
    "v1": "core_v1",
    "apps/v1": "apps_v1",
    "batch/v1": "batch_v1",
    "discovery.k8s.io/v1": "discovery_v1",
    "coordination.k8s.io/v1": "coordination_v1",
    "policy/v1": "policy_v1",
    "scheduling.k8s.io/v1": "scheduling_v1",
    "networking.k8s.io/v1": "networking_v1",
    "events.k8s.io/v1": "events_v1",
    "rbac.authorization.k8s.io/v1": "rbac_v1",
    "apiextensions.k8s.io/v1": "apiextensions_v1",
    "admissionregistration.k8s.io/v1": "admissionregistration_v1",
    "authentication.k8s.io/v1": "authentication_v1",
    "authorization.k8s.io/v1": "authorization_v1",
    "autoscaling/v1": "autoscaling_v1",
}

_MODELS: Final = "lightkube.models."
_TYPE: Final = re.compile(r"(Optional|List|dict|Dict)\[(.*)\]")
_PARAMETER: Final = re.compile(r"\* \*\*(\S+?)\*\* ``.*?`` - (.*?)(?=\n\s*\* \*\*|\Z)", re.DOTALL)
_LOADING: Final = threading.Lock()

# Required by OpenAPI, but Go's zero value is as good.
_ZERO_IS_FINE: Final = frozenset(
    (
        ("HTTPHeader", "value"),
        ("CustomResourceDefinitionVersion", "served"),
        ("CustomResourceDefinitionVersion", "storage"),
        ("ISCSIVolumeSource", "lun"),
        ("Sysctl", "value"),
        ("SleepAction", "seconds"),
        ("EvictionResponder", "priority"),
        ("Event", "metadata"),
        ("PreferredSchedulingTerm", "weight"),
        ("WeightedPodAffinityTerm", "weight"),
    )
)
_SCALARS: Final[Mapping[str, str]] = {
    "str": "string",
    "int": "int32",
    "float": "float64",
    "bool": "bool",
}


@dataclass(slots=True)
class Shape:
    """A struct: its Go name and its fields by JSON name."""

    name: str
    doc: str = ""
    fields: dict[str, FieldType] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """What the struct is for, in one paragraph."""
        return " ".join(self.doc.partition("**parameters**")[0].split())

    def descriptions(self) -> dict[str, str]:
        """What each field means, by JSON name."""
        found = {}
        for match in _PARAMETER.finditer(self.doc.partition("**parameters**")[2]):
            found[match[1].removesuffix("_")] = " ".join(match[2].split())
        return found


@dataclass(frozen=True, slots=True)
class FieldType:
    """The type of one field. `kind` is scalar, any, struct, int-or-string or quantity."""

    kind: str
    scalar: str = ""  # Go's name of a scalar
    shape: Shape | None = None
    is_list: bool = False
    is_map: bool = False
    is_required: bool = False


@dataclass(slots=True)
class Findings:
    """What a walk over an object found."""

    unknown: list[str] = field(default_factory=list)  # `unknown field "spec.foo"`
    mismatch: str = ""  # the words of Go's decoder for the first wrong type
    missing: list[Fault] = field(default_factory=list)


def shape_of(resource: Resource) -> Shape | None:
    """The shape of a built-in kind; None when the models do not have it."""
    return load_shape(resource.api_version, resource.kind)


@lru_cache(maxsize=256)
def load_shape(api_version: str, kind: str) -> Shape | None:
    """The shape of a kind or struct in a group's models."""
    module = MODULES.get(api_version)
    if module is None:
        return None
    with _LOADING:
        model = getattr(importlib.import_module(_MODELS + module), kind, None)
        return None if model is None else _build(model, {})


def check(shape: Shape, obj: Object) -> Findings:
    """Unknown fields, the first field of a wrong type, and required fields that are missing."""
    findings = Findings()
    _walk(shape, obj, "", findings)
    return findings


def prune(shape: Shape, obj: Object) -> None:
    """Drop unknown fields in place, as decoding into Go structs does. Nulls are dropped too.

    A null inside of a list or map becomes the zero value of its type.
    """
    for name in list(obj):
        known = shape.fields.get(name)
        if known is None or obj[name] is None:
            del obj[name]
            continue
        _fill_zeros(known, obj[name])
        if known.shape is not None:
            for item in _items(known, obj[name]):
                if isinstance(item, dict):
                    prune(known.shape, item)


def _fill_zeros(known: FieldType, value: Any) -> None:
    if known.is_list and isinstance(value, list):
        value[:] = [_zero(known) if item is None else item for item in value]
    elif known.is_map and isinstance(value, dict):
        value.update({key: _zero(known) for key, item in value.items() if item is None})


def _zero(known: FieldType) -> Any:
    if known.shape is not None:
        return {}
    match known.kind:
        case "any":
            return None
        case "int-or-string":
            return 0
        case "quantity":
            return "0"
    return {"string": "", "bool": False}.get(known.scalar, 0)


def _items(known: FieldType, value: Any) -> Iterator[Any]:
    if known.is_list and isinstance(value, list):
        yield from value
    elif known.is_map and isinstance(value, dict):
        yield from value.values()
    else:
        yield value


def _walk(shape: Shape, obj: Mapping[str, Any], path: str, findings: Findings) -> None:
    for name, value in obj.items():
        known = shape.fields.get(name)
        place = f"{path}.{name}" if path else name
        if known is None:
            findings.unknown.append(f'unknown field "{place}"')
        elif value is not None:
            _check_value(shape, known, value, place, findings)
    if path == "status" or path.startswith("status."):
        return
    for name, known in shape.fields.items():
        if known.is_required and obj.get(name) in (None, ""):
            findings.missing.append(required(f"{path}.{name}" if path else name))


def _check_value(
    owner: Shape, known: FieldType, value: Any, place: str, findings: Findings
) -> None:
    if known.is_list:
        if not isinstance(value, list):
            return _mismatch(findings, owner, place, value, "[]" + _go_type(known))
        for number, item in enumerate(value):
            _check_item(owner, known, item, f"{place}[{number}]", findings)
    elif known.is_map:
        if not isinstance(value, dict):
            return _mismatch(findings, owner, place, value, "map[string]" + _go_type(known))
        for key, item in value.items():
            _check_item(owner, known, item, f"{place}.{key}" if known.shape else place, findings)
    else:
        _check_item(owner, known, value, place, findings)
    return None


def _check_item(owner: Shape, known: FieldType, value: Any, place: str, findings: Findings) -> None:
    if value is None or known.kind == "any":
        return
    if known.shape is not None:
        if isinstance(value, dict):
            _walk(known.shape, value, place, findings)
        elif known.kind == "struct":
            _mismatch(findings, owner, place, value, _go_type(known))
    elif not _fits(known, value):
        _mismatch(findings, owner, place, value, _go_type(known))


def _fits(known: FieldType, value: Any) -> bool:
    match known.kind:
        case "int-or-string":
            return isinstance(value, int | str) and not isinstance(value, bool)
        case "quantity":
            return isinstance(value, int | float | str) and not isinstance(value, bool)
    match known.scalar:
        case "string":
            return isinstance(value, str)
        case "bool":
            return isinstance(value, bool)
        case "float64":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case _:
            whole = isinstance(value, int) and not isinstance(value, bool)
            return whole and -(2**63) <= value < 2**63


def _mismatch(findings: Findings, owner: Shape, place: str, value: Any, wanted: str) -> None:
    if findings.mismatch:
        return
    plain = re.sub(r"\[\d+\]", "", place)
    findings.mismatch = (
        f"json: cannot unmarshal {_json_type(value)} into Go struct field "
        f"{owner.name}.{plain} of type {wanted}"
    )


def _json_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return f"number {value}" if isinstance(value, float) else "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _go_type(known: FieldType) -> str:
    if known.shape is not None:
        return f"v1.{known.shape.name}"
    return known.scalar or known.kind


def _build(model: Any, done: dict[Any, Shape]) -> Shape:
    if model in done:
        return done[model]
    shape = done[model] = Shape(model.__name__, model.__doc__ or "")
    module = importlib.import_module(model.__module__)
    for name, json_name in zip(
        model.__struct_fields__, model.__struct_encode_fields__, strict=True
    ):
        shape.fields[json_name] = _field(
            shape.name, json_name, model.__annotations__[name], module, done
        )
    return shape


def _field(
    owner: str, name: str, annotation: str, module: Any, done: dict[Any, Shape]
) -> FieldType:
    text, is_list, is_map, optional = annotation, False, False, False
    while (match := _TYPE.fullmatch(text)) is not None:
        text = match[2]
        optional |= match[1] == "Optional"
        is_list |= match[1] == "List"
        is_map |= match[1] in ("dict", "Dict")
    is_map |= text == "dict"
    needed = not optional and (owner, name) not in _ZERO_IS_FINE
    kind, scalar, shape = _named_type(owner, name, text, module, done)
    return FieldType(kind, scalar, shape, is_list, is_map, needed)


# Maps that the models call `dict`: quantities, schemas, anything; all others hold strings.
_QUANTITIES: Final = frozenset(
    ("limits", "requests", "capacity", "allocatable", "allocatedResources", "overhead", "hard")
)
_SCHEMAS: Final = frozenset(("properties", "patternProperties", "definitions"))
_FREE: Final = frozenset(("extra", "dependencies", "default", "example", "object", "oldObject"))


def _map_type(
    owner: str, name: str, module: Any, done: dict[Any, Shape]
) -> tuple[str, str, Shape | None]:
    if owner == "JSONSchemaProps" and name in _SCHEMAS:
        return "struct", "", _build(module.JSONSchemaProps, done)
    if name in _QUANTITIES:
        return "quantity", "", None
    if name in _FREE or owner in ("JSONSchemaProps", "ControllerRevision"):
        return "any", "", None
    return "scalar", "string", None


def _named_type(
    owner: str, name: str, text: str, module: Any, done: dict[Any, Shape]
) -> tuple[str, str, Shape | None]:
    last = text.rpartition(".")[2]
    if text in _SCALARS:
        return "scalar", _SCALARS[text], None
    if last in ("Time", "MicroTime"):
        return "scalar", "string", None
    if last == "IntOrString":
        return "int-or-string", "", None
    if last == "Quantity":
        return "quantity", "", None
    if text == "dict":
        return _map_type(owner, name, module, done)
    found: Any = module
    if last in ("JSONSchemaPropsOrArray", "JSONSchemaPropsOrBool"):
        return "struct-or-other", "", _build(module.JSONSchemaProps, done)
    for part in text.split("."):
        found = getattr(found, part, None)
    if isinstance(found, type) and hasattr(found, "__struct_fields__"):
        return "struct", "", _build(found, done)
    return "any", "", None
