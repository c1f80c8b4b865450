"""JSON Patch (RFC 6902) as far as injection needs it: build one, and apply one.

Deliberately without `move`, `copy` and array diffs: a patch here is written, not computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Op = dict[str, Any]
Path = tuple[str | int, ...]


class PatchBuilder:
    """Collects operations; `document` is what the given one is after them.

    The given document is never changed, and shares with the result whatever no operation
    touched. Missing (or null) parents are created on the way: a map, or a list where the next
    step is an index.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document: dict[str, Any] = dict(document)
        self.ops: list[Op] = []

    def add(self, path: Path, value: Any) -> None:
        """Set a member, or insert into a list before the index (its length appends)."""
        depth, parent = 0, self.document
        while depth < len(path) - 1 and _child(parent, path[depth]) is not None:
            parent = _child(parent, path[depth])
            depth += 1
        for step in reversed(path[depth + 1 :]):
            value = [value] if isinstance(step, int) else {step: value}
        self._push({"op": "add", "path": pointer(path[: depth + 1]), "value": value})

    def replace(self, path: Path, value: Any) -> None:
        self._push({"op": "replace", "path": pointer(path), "value": value})

    def remove(self, path: Path) -> None:
        self._push({"op": "remove", "path": pointer(path)})

    def _push(self, op: Op) -> None:
        self.document = apply_patch(self.document, [op])
        self.ops.append(op)


def pointer(path: Path) -> str:
    """The JSON Pointer (RFC 6901) of a path."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def parse_pointer(text: str) -> list[str]:
    """The steps of a JSON Pointer, as text."""
    return [step.replace("~1", "/").replace("~0", "~") for step in text.split("/")[1:]]


def apply_patch(document: Mapping[str, Any], ops: Iterable[Op]) -> dict[str, Any]:
    """A document after `ops`; the given one stays. Raises ValueError for a path that is not there.

    Maps and lists on a path are copied, everything beside it is shared.
    """
    result: Any = document
    for op in ops:
        result = _changed(result, parse_pointer(op["path"]), op)
    return dict(result)


def _changed(node: Any, steps: list[str], op: Op) -> Any:
    """A copy of `node` after one operation below it."""
    step, *rest = steps
    if isinstance(node, Mapping):
        members = dict(node)
        if rest and step in members:
            members[step] = _changed(members[step], rest, op)
        elif not rest and op["op"] == "remove" and step in members:
            del members[step]
        elif not rest and (op["op"] == "add" or step in members):
            members[step] = op["value"]
        else:
            raise _no_such_place(op)
        return members
    if isinstance(node, list):
        return _changed_list(node, step, rest, op)
    raise _no_such_place(op)


def _changed_list(node: list[Any], step: str, rest: list[str], op: Op) -> list[Any]:
    items = list(node)
    index = len(items) if step == "-" else int(step)
    inserts = not rest and op["op"] == "add"
    if not 0 <= index < len(items) + inserts:
        raise _no_such_place(op)
    if rest:
        items[index] = _changed(items[index], rest, op)
    elif inserts:
        items.insert(index, op["value"])
    elif op["op"] == "remove":
        del items[index]
    else:
        items[index] = op["value"]
    return items


def _no_such_place(op: Op) -> ValueError:
    return ValueError(f"patch {op['op']} {op['path']}: no such place")


def _child(parent: Any, step: str | int) -> Any:
    """The child, or None when there is none."""
    if isinstance(parent, Mapping):
        return parent.get(str(step))
    if isinstance(parent, list):
        index = int(step)
        return parent[index] if 0 <= index < len(parent) else None
    return None
