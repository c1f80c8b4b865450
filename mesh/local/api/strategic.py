"""Strategic merge patch for built-in kinds: a table of merge keys and the walk. Pure.

Directives: `$patch` (replace, delete, merge), `$setElementOrder/F`, `$retainKeys`,
`$deleteFromPrimitiveList/F`. Lists that the table does not name are replaced. Follows
k8s.io/apimachinery/pkg/util/strategicpatch and the v1.34 types. Raises ValueError.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mesh.local.api.store import copy

Path = tuple[str, ...]

_PRIMITIVE: Final = ""  # a list of values that merges as a set

_CONTAINER: Final[Mapping[Path, str]] = {
    (): "name",
    ("env",): "name",
    ("ports",): "containerPort",
    ("volumeMounts",): "mountPath",
    ("volumeDevices",): "devicePath",
}
_METADATA: Final[Mapping[Path, str]] = {
    ("metadata", "finalizers"): _PRIMITIVE,
    ("metadata", "ownerReferences"): "uid",
}
_POD_SPEC: Final[Mapping[Path, str]] = {
    **{
        (kind, *path): key
        for kind in ("containers", "initContainers", "ephemeralContainers")
        for path, key in _CONTAINER.items()
    },
    ("volumes",): "name",
    ("imagePullSecrets",): "name",
    ("schedulingGates",): "name",
    ("hostAliases",): "ip",
    ("topologySpreadConstraints",): "topologyKey",
    ("resourceClaims",): "name",
}
_CONDITIONS: Final[Mapping[Path, str]] = {("status", "conditions"): "type"}
_WEBHOOKS: Final[Mapping[Path, str]] = {
    ("webhooks",): "name",
    ("webhooks", "matchConditions"): "name",
}


def _below(prefix: Path, table: Mapping[Path, str]) -> dict[Path, str]:
    return {(*prefix, *path): key for path, key in table.items()}


_TEMPLATE: Final = {
    **_below(("spec", "template"), _METADATA),
    **_below(("spec", "template", "spec"), _POD_SPEC),
}

_MERGE_KEYS: Final[Mapping[str, Mapping[Path, str]]] = {
    "Pod": {
        **_below(("spec",), _POD_SPEC),
        ("status", "podIPs"): "ip",
        ("status", "hostIPs"): "ip",
    },
    "Deployment": _TEMPLATE,
    "ReplicaSet": _TEMPLATE,
    "StatefulSet": _TEMPLATE,
    "DaemonSet": _TEMPLATE,
    "Job": _TEMPLATE,
    "CronJob": _below(("spec", "jobTemplate"), _TEMPLATE),
    "Service": {("spec", "ports"): "port"},
    "ServiceAccount": {("secrets",): "name", ("imagePullSecrets",): "name"},
    "Node": {("status", "addresses"): "type", ("spec", "podCIDRs"): _PRIMITIVE},
    "MutatingWebhookConfiguration": _WEBHOOKS,
    "ValidatingWebhookConfiguration": _WEBHOOKS,
}


def merge_keys(kind: str) -> Mapping[Path, str]:
    """The lists of a kind that merge by key: path without indexes -> key of its elements."""
    return {**_METADATA, **_CONDITIONS, **_MERGE_KEYS.get(kind, {})}


def merge(kind: str, original: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """The object of a built-in kind after a strategic merge patch."""
    result = _merge_map(merge_keys(kind), (), copy(dict(original)), copy(dict(patch)))
    return result if result is not None else {}


_Keys = Mapping[Path, str]
_ORDER: Final = "$setElementOrder/"
_DELETE: Final = "$deleteFromPrimitiveList/"


def _take_list(patch: dict[str, Any], directive: str) -> list[Any]:
    """What a directive says, out of the patch. Raises ValueError."""
    value = patch.pop(directive)
    if not isinstance(value, list):
        raise ValueError(f"{directive}: expected a list, got {value!r:.80}")
    return value


def _merge_map(
    keys: _Keys, path: Path, original: dict[str, Any], patch: dict[str, Any]
) -> dict[str, Any] | None:
    match patch.pop("$patch", "merge"):
        case "replace":
            return patch
        case "delete":
            return {}
        case "merge":
            pass
        case other:
            raise ValueError(f"unknown $patch directive {other!r}")
    if "$retainKeys" in patch:
        retain = _take_list(patch, "$retainKeys")
        original = {key: value for key, value in original.items() if key in retain}
    for field in [name for name in patch if name.startswith(_DELETE)]:
        gone = _take_list(patch, field)
        name = field.removeprefix(_DELETE)
        if isinstance(original.get(name), list):
            original[name] = [value for value in original[name] if value not in gone]
    orders = {
        name.removeprefix(_ORDER): _take_list(patch, name)
        for name in list(patch)
        if name.startswith(_ORDER)
    }
    for name, value in patch.items():
        if value is None:
            original.pop(name, None)
        else:
            place = (*path, name)
            original[name] = _merge_value(
                keys, place, original.get(name), value, orders.pop(name, None)
            )
    for name, order in orders.items():  # lists that only change their order
        if isinstance(original.get(name), list):
            original[name] = _ordered(
                keys.get((*path, name)), original[name], original[name], order
            )
    return original


def _merge_value(keys: _Keys, path: Path, old: Any, value: Any, order: Any) -> Any:
    if isinstance(value, dict):
        return _merge_map(keys, path, old if isinstance(old, dict) else {}, value)
    if isinstance(value, list) and path in keys:
        return _merge_list(keys, path, old if isinstance(old, list) else [], value, order)
    return value


def _merge_list(
    keys: _Keys, path: Path, old: list[Any], patch: list[Any], order: list[Any] | None
) -> list[Any]:
    key = keys[path]
    if key == _PRIMITIVE:
        merged = old + [value for value in patch if value not in old]
        return _ordered(None, merged, old, order) if order is not None else merged
    if any(isinstance(item, dict) and _is_replace(item) for item in patch):
        return [item for item in patch if not _is_replace(item)]
    result = list(old)
    for item in patch:
        if not isinstance(item, dict):
            raise ValueError(f"{'.'.join(path)}: expected objects in the list")
        _merge_item(keys, path, key, result, item)
    return _ordered(key, result, old, order) if order is not None else result


def _is_replace(item: dict[str, Any]) -> bool:
    return item.get("$patch") == "replace"


def _merge_item(keys: _Keys, path: Path, key: str, result: list[Any], item: dict[str, Any]) -> None:
    if key not in item:
        raise ValueError(f"map: {item} does not contain declared merge key: {key}")
    places = [i for i, old in enumerate(result) if old.get(key) == item[key]]
    if item.get("$patch") == "delete":
        for i in reversed(places):
            del result[i]
    elif places:
        merged = _merge_map(keys, path, result[places[0]], item)
        result[places[0]] = merged
    else:
        result.append(_merge_map(keys, path, {}, item))


def _ordered(key: str | None, merged: list[Any], old: list[Any], order: list[Any]) -> list[Any]:
    """normalizeElementOrder: the patch's order, with what only the server has kept in place."""

    def name(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    wanted = [name(item) for item in order]
    server = [name(item) for item in old]
    named = sorted(
        (item for item in merged if name(item) in wanted), key=lambda i: wanted.index(name(i))
    )
    others = [item for item in merged if name(item) not in wanted]
    result: list[Any] = []
    while others and named:
        left, right = name(others[0]), name(named[0])
        before = left in server and right in server and server.index(left) < server.index(right)
        result.append(others.pop(0) if before else named.pop(0))
    return result + others + named
