"""Structural schemas of custom resources: prune, fill in defaults, validate. Pure.

A walk of our own over the tree, since structural schemas differ from JSON Schema: what is
not specified is dropped, `nullable`, `x-kubernetes-int-or-string`,
`-preserve-unknown-fields`, `-embedded-resource`, list types. CEL rules
(`x-kubernetes-validations`) are not evaluated. Words follow k8s.io/kube-openapi.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from mesh.local.api import formats
from mesh.local.api.status import Fault, bad, duplicate, required, unsupported
from mesh.local.api.store import copy

Schema = Mapping[str, Any]

_ROOT: Final = ("apiVersion", "kind", "metadata")
_PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
_EMBEDDED: Final = "x-kubernetes-embedded-resource"
_INT_OR_STRING: Final = "x-kubernetes-int-or-string"
_LIST_TYPE: Final = "x-kubernetes-list-type"
_LIST_KEYS: Final = "x-kubernetes-list-map-keys"


def prune(schema: Schema, obj: dict[str, Any]) -> list[str]:
    """Drop what the schema does not specify, in place; gives the paths of what was dropped."""
    dropped: list[str] = []
    _prune(schema, obj, "", dropped, is_root=True)
    return dropped


def fill_defaults(schema: Schema, obj: dict[str, Any]) -> None:
    """Fill in defaults, in place. A null that is not allowed gives way to its default."""
    _fill(schema, obj)


def validate(schema: Schema, obj: Mapping[str, Any]) -> list[Fault]:
    """What is wrong with a pruned and defaulted object; metadata is not looked at."""
    return list(_validate(schema, obj, "", is_root=True))


def _prune(
    schema: Schema, value: Any, path: str, dropped: list[str], *, is_root: bool = False
) -> None:
    if isinstance(value, list):
        items = schema.get("items")
        if isinstance(items, Mapping):
            for number, item in enumerate(value):
                _prune(items, item, f"{path}[{number}]", dropped)
        return
    if not isinstance(value, dict):
        return
    properties = schema.get("properties") or {}
    additional = schema.get("additionalProperties")
    known = _ROOT if is_root or schema.get(_EMBEDDED) else ()
    for name in list(value):
        place = f"{path}.{name}" if path else name
        if name in known and not (name in properties and name != "metadata" and not is_root):
            continue
        if name in properties:
            _prune(properties[name], value[name], place, dropped)
        elif isinstance(additional, Mapping):
            _prune(additional, value[name], place, dropped)
        elif not additional and not schema.get(_PRESERVE):
            del value[name]
            dropped.append(place)


def _fill(schema: Schema, value: Any) -> None:
    if isinstance(value, list):
        items = schema.get("items")
        if isinstance(items, Mapping):
            for item in value:
                _fill(items, item)
    elif isinstance(value, dict):
        properties = schema.get("properties") or {}
        for name, inner in properties.items():
            if not isinstance(inner, Mapping):
                continue
            if "default" in inner and (
                name not in value or (value[name] is None and not inner.get("nullable"))
            ):
                value[name] = copy(inner["default"])
            if name in value:
                _fill(inner, value[name])
        additional = schema.get("additionalProperties")
        if isinstance(additional, Mapping):
            for name, item in value.items():
                if name not in properties:
                    _fill(additional, item)


def _validate(schema: Schema, value: Any, path: str, *, is_root: bool = False) -> Iterator[Fault]:
    if value is None and schema.get("nullable"):
        return
    wrong = _wrong_type(schema, value)
    if wrong:
        found = _type_name(value)
        yield bad(path, found, f'{path} in body must be of type {wrong}: "{found}"')
        return
    if "enum" in schema and not any(_equal(value, allowed) for allowed in schema["enum"]):
        yield unsupported(path, value, [str(allowed) for allowed in schema["enum"]])
    if isinstance(value, bool):
        pass
    elif isinstance(value, int | float):
        yield from _number(schema, value, path)
    elif isinstance(value, str):
        yield from _string(schema, value, path)
    elif isinstance(value, list):
        yield from _list(schema, value, path)
    elif isinstance(value, Mapping):
        yield from _object(schema, value, path, is_root=is_root)
    yield from _junctors(schema, value, path)


def _wrong_type(schema: Schema, value: Any) -> str:
    """The type that was expected, when the value has another; else empty."""
    if schema.get(_INT_OR_STRING):
        whole = isinstance(value, int) and not isinstance(value, bool)
        return "" if whole or isinstance(value, str) else "integer,string"
    wanted = schema.get("type")
    if not wanted:
        return ""
    found = _type_name(value)
    if found == wanted or (wanted == "number" and found == "integer"):
        return ""
    if wanted == "integer" and isinstance(value, float) and value.is_integer():
        return ""
    return str(wanted)


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _equal(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


_RANGES: Final = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}


def _number(schema: Schema, value: float, path: str) -> Iterator[Fault]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and (value <= low if schema.get("exclusiveMinimum") else value < low):
        more = "greater than" if schema.get("exclusiveMinimum") else "greater than or equal to"
        yield bad(path, value, f"{path} in body should be {more} {low}")
    if high is not None and (value >= high if schema.get("exclusiveMaximum") else value > high):
        less = "less than" if schema.get("exclusiveMaximum") else "less than or equal to"
        yield bad(path, value, f"{path} in body should be {less} {high}")
    step = schema.get("multipleOf")
    if step and value % step:
        yield bad(path, value, f"{path} in body should be a multiple of {step}")
    bounds = _RANGES.get(schema.get("format", ""))
    if bounds is not None and not bounds[0] <= value <= bounds[1]:
        yield bad(path, value, f"{path} in body must be of type {schema['format']}: {value}")


def _string(schema: Schema, value: str, path: str) -> Iterator[Fault]:
    """The first fault of a string; Kubernetes tells no second one."""
    longest, shortest = schema.get("maxLength"), schema.get("minLength")
    pattern, form = schema.get("pattern"), schema.get("format")
    if longest is not None and len(value) > longest:
        yield Fault(path, "Too long", f"may not be more than {longest} bytes")
    elif shortest is not None and len(value) < shortest:
        yield bad(path, value, f"{path} in body should be at least {shortest} chars long")
    elif pattern and not _pattern(pattern).search(value):
        yield bad(path, value, f"{path} in body should match '{pattern}'")
    if form and not formats.is_valid(form, value):
        yield bad(path, value, f'{path} in body must be of type {form}: "{value}"')


def _list(schema: Schema, value: list[Any], path: str) -> Iterator[Fault]:
    most, least = schema.get("maxItems"), schema.get("minItems")
    if most is not None and len(value) > most:
        yield Fault(path, "Too many", f"must have at most {most} items", len(value), True)
    if least is not None and len(value) < least:
        yield bad(path, len(value), f"{path} in body should have at least {least} items")
    items = schema.get("items")
    if isinstance(items, Mapping):
        for number, item in enumerate(value):
            yield from _validate(items, item, f"{path}[{number}]")
    yield from _repeated(schema, value, path)


def _repeated(schema: Schema, value: list[Any], path: str) -> Iterator[Fault]:
    kind = schema.get(_LIST_TYPE)
    if kind not in ("set", "map") and not schema.get("uniqueItems"):
        return
    keys = schema.get(_LIST_KEYS) or ()
    seen: list[Any] = []
    for number, item in enumerate(value):
        one = item
        if kind == "map" and isinstance(item, dict):
            one = {key: item.get(key) for key in keys}
        if any(_equal(one, other) for other in seen):
            yield duplicate(f"{path}[{number}]", one)
        seen.append(one)


def _object(
    schema: Schema, value: Mapping[str, Any], path: str, *, is_root: bool
) -> Iterator[Fault]:
    prefix = f"{path}." if path else ""
    for name in schema.get("required") or ():
        if name not in value:
            yield required(prefix + name)
    most, least = schema.get("maxProperties"), schema.get("minProperties")
    if most is not None and len(value) > most:
        yield Fault(path, "Too many", f"must have at most {most} items", len(value), True)
    if least is not None and len(value) < least:
        yield bad(path, len(value), f"{path} in body should have at least {least} properties")
    if schema.get(_EMBEDDED):
        for name in ("apiVersion", "kind"):
            if not value.get(name):
                yield required(prefix + name, "must not be empty")
    properties = schema.get("properties") or {}
    additional = schema.get("additionalProperties")
    for name, item in value.items():
        if is_root and name in _ROOT:
            continue
        inner = properties.get(name, additional)
        if isinstance(inner, Mapping):
            yield from _validate(inner, item, prefix + name)


def _junctors(schema: Schema, value: Any, path: str) -> Iterator[Fault]:
    where = f'"{path}"' if path else '"<nil>"'
    for inner in schema.get("allOf") or ():
        yield from _validate(inner, value, path)
    any_of = schema.get("anyOf")
    if any_of and not any(_holds(inner, value) for inner in any_of):
        yield bad(path, value, f"{where} must validate at least one schema (anyOf)")
    one_of = schema.get("oneOf")
    if one_of:
        count = sum(_holds(inner, value) for inner in one_of)
        if count != 1:
            found = "none valid" if not count else f"{count} valid alternatives"
            yield bad(
                path, value, f"{where} must validate one and only one schema (oneOf). Found {found}"
            )
    if "not" in schema and _holds(schema["not"], value):
        yield bad(path, value, f"{where} must not validate the schema (not)")


def _holds(schema: Schema, value: Any) -> bool:
    return next(_validate(schema, value, ""), None) is None


@lru_cache(maxsize=1024)
def _pattern(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(_python_regex(pattern))
    except re.error:
        return re.compile("")  # Go's RE2 took it: do not refuse what we cannot read


def _python_regex(pattern: str) -> str:
    """RE2's syntax as Python's: `\\z` is the end, `$` without (?m) never before a newline."""
    text = re.sub(r"\\z", r"\\Z", pattern)
    return re.sub(r"(?<!\\)\$(?=$|\)|\|)", r"\\Z", text)
