"""JSON Patch (RFC 6902) and JSON Merge Patch (RFC 7396) over JSON data. Pure.

Both give a new value and leave the given one as it was. Both raise ValueError with the
operation that could not be done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from mesh.local.api.store import copy

MAX_OPERATIONS: Final = 10_000


def merge(target: Any, patch: Any) -> Any:
    """RFC 7396 §2: null removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return copy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def apply(target: Any, operations: Sequence[Any]) -> Any:
    """RFC 6902: the operations in order; all or nothing."""
    if not isinstance(operations, list):
        raise ValueError("a JSON patch is a list of operations")
    if len(operations) > MAX_OPERATIONS:
        raise ValueError(f"a JSON patch may hold {MAX_OPERATIONS} operations")
    document = {"": copy(target)}
    for operation in operations:
        if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
            raise ValueError(f"not an operation: {operation!r}")
        _operate(document, operation)
    return document[""]


def diff(old: Any, new: Any, path: str = "") -> list[dict[str, Any]]:
    """A JSON patch from one value to the other; lists that differ are replaced as a whole."""
    if old == new and isinstance(old, bool) == isinstance(new, bool):
        return []
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [{"op": "replace", "path": path, "value": new}]
    found: list[dict[str, Any]] = []
    for key in old:
        place = f"{path}/{_escape(key)}"
        if key not in new:
            found.append({"op": "remove", "path": place})
        else:
            found.extend(diff(old[key], new[key], place))
    found.extend(
        {"op": "add", "path": f"{path}/{_escape(key)}", "value": new[key]}
        for key in new
        if key not in old
    )
    return found


def _operate(document: dict[str, Any], operation: dict[str, Any]) -> None:
    path = operation["path"]
    match operation.get("op"):
        case "add":
            _add(document, path, copy(_value(operation)))
        case "remove":
            _take(document, path)
        case "replace":
            _take(document, path)
            _add(document, path, copy(_value(operation)))
        case "move":
            source = str(operation.get("from"))
            if path.startswith(source + "/"):
                raise ValueError(f"{source} cannot be moved into itself")
            _add(document, path, _take(document, source))
        case "copy":
            _add(document, path, copy(_look(document, str(operation.get("from")))))
        case "test":
            found = _look(document, path)
            if not _same(found, _value(operation)):
                raise ValueError(f"testing value {path} failed: test failed")
        case other:
            raise ValueError(f"Unexpected kind: {other}")


def _value(operation: dict[str, Any]) -> Any:
    if "value" not in operation:
        raise ValueError(f"{operation.get('op')} {operation['path']}: the operation has no value")
    return operation["value"]


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _parts(path: str) -> list[str]:
    if path and not path.startswith("/"):
        raise ValueError(f"{path!r} is not a JSON pointer")
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")]


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _parent(document: dict[str, Any], path: str) -> tuple[Any, str]:
    *way, last = _parts(path)
    place: Any = document
    for part in way:
        place = _child(place, part, path)
    return place, last


def _child(place: Any, part: str, path: str) -> Any:
    if isinstance(place, dict) and part in place:
        return place[part]
    if isinstance(place, list):
        return place[_index(place, part, path)]
    raise ValueError(f"doc is missing path: {path}: missing value")


def _index(items: list[Any], part: str, path: str, *, room: int = 0) -> int:
    if not part.isdigit() or (part != "0" and part.startswith("0")):
        raise ValueError(f"{path}: {part!r} is not an index")
    if int(part) >= len(items) + room:
        raise ValueError(f"Unable to access invalid index: {part}: invalid index referenced")
    return int(part)


def _look(document: dict[str, Any], path: str) -> Any:
    place, last = _parent(document, path)
    return _child(place, last, path)


def _take(document: dict[str, Any], path: str) -> Any:
    place, last = _parent(document, path)
    found = _child(place, last, path)
    if isinstance(place, list):
        del place[int(last)]
    elif path:
        del place[last]
    return found


def _add(document: dict[str, Any], path: str, value: Any) -> None:
    place, last = _parent(document, path)
    if isinstance(place, dict):
        place[last] = value
    elif isinstance(place, list):
        place.insert(len(place) if last == "-" else _index(place, last, path, room=1), value)
    else:
        raise ValueError(f"add operation does not apply: doc is missing path: {path}")
