"""JSON Patch (RFC 6902) as far as injection needs it: build one, and apply one.

Deliberately without `move`, `copy` and array diffs: a patch here is written, not computed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

Op = dict[str, Any]
Path = tuple[str | int, ...]


class PatchBuilder:
    """Collects operations and keeps a copy of the document as it is after them.

    Missing (or null) parents are created on the way: a map, or a list where the next step
    is an index.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = copy.deepcopy(document)
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
        apply_patch(self.document, [op], in_place=True)
        self.ops.append(op)


def pointer(path: Path) -> str:
    """The JSON Pointer (RFC 6901) of a path."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def parse_pointer(text: str) -> list[str]:
    """The steps of a JSON Pointer, as text."""
    return [step.replace("~1", "/").replace("~0", "~") for step in text.split("/")[1:]]


def apply_patch(
    document: dict[str, Any], ops: Iterable[Op], *, in_place: bool = False
) -> dict[str, Any]:
    """The document after `ops`. Raises ValueError where a path does not exist."""
    result = document if in_place else copy.deepcopy(document)
    for op in ops:
        _apply_one(result, op)
    return result


def _apply_one(document: dict[str, Any], op: Op) -> None:
    *parents, last = parse_pointer(op["path"])
    target: Any = document
    for step in parents:
        target = _child(target, step)
    kind, value = op["op"], copy.deepcopy(op.get("value"))
    if isinstance(target, list):
        _apply_to_list(target, kind, last, value)
    elif isinstance(target, dict) and (kind == "add" or last in target):
        if kind == "remove":
            del target[last]
        else:
            target[last] = value
    else:
        raise ValueError(f"patch {kind} {op['path']}: no such place")


def _apply_to_list(target: list[Any], kind: str, step: str, value: Any) -> None:
    index = len(target) if step == "-" else int(step)
    if not 0 <= index < len(target) + (kind == "add"):
        raise ValueError(f"patch {kind}: index {step} of a list of {len(target)}")
    if kind == "add":
        target.insert(index, value)
    elif kind == "remove":
        del target[index]
    else:
        target[index] = value


def _child(parent: Any, step: str | int) -> Any:
    """The child, or None when there is none."""
    if isinstance(parent, dict):
        return parent.get(str(step))
    if isinstance(parent, Sequence) and not isinstance(parent, str):
        index = int(step)
        return parent[index] if 0 <= index < len(parent) else None
    return None
