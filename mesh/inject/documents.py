"""Files of many manifests: split, read, change in place, print.

A document that nobody changes keeps its bytes. A changed one is printed from its own nodes,
so that quotes and key order stay and only comments and spacing go. Kubernetes' `List`s and
JSON are understood.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from mesh.core.errors import ConfigError
from mesh.inject.jsonpatch import Op, apply_patch, parse_pointer
from mesh.inject.yamltext import (
    ManifestDumper,
    describe_fault,
    dump_document,
    represent_node,
)
from mesh.kube.yamlread import ManifestLoader, is_too_deep

_MARKER: Final = re.compile(r"^---(?=[ \t\r\n]|$)", re.M)
_MERGE: Final = "tag:yaml.org,2002:merge"


@dataclass(frozen=True)
class Document:
    """One document: its text with its marker, and where it begins in the file (line from 1)."""

    text: str
    line: int
    data: Any = None
    node: yaml.Node | None = None  # None for JSON

    def changed(self, ops: Sequence[Op]) -> str:
        """The text after a patch; the same text when there is nothing to do."""
        if not ops:
            return self.text
        marker = "---\n" if self.text.startswith("---") else ""
        if self.node is None:
            return marker + json.dumps(apply_patch(self.data, ops), indent=4) + "\n"
        if _has_merge(self.text):
            return marker + dump_document(apply_patch(self.data, ops))
        node = self.node
        for op in ops:
            node = _edit(node, parse_pointer(op["path"]), op)
        return marker + _print(node)


def split_documents(text: str) -> list[tuple[str, int]]:
    """(text, first line) of each document; joined, the texts give the input.

    A `---` at the start of a line ends a document wherever it stands (YAML 1.2.2 §9.2).
    """
    starts = [match.start() for match in _MARKER.finditer(text)]
    if not starts or starts[0] != 0:
        starts.insert(0, 0)
    ends = [*starts[1:], len(text)]
    found = [(text[s:e], text.count("\n", 0, s) + 1) for s, e in zip(starts, ends, strict=True)]
    return [(piece, line) for piece, line in found if piece]


def read_document(text: str, line: int) -> Document:
    """Parse one document. Raises ConfigError with the line in the file."""
    body = text.removeprefix("---").lstrip()
    if body.startswith("{"):
        try:
            data = json.loads(body)
            if not is_too_deep(data):
                return Document(text, line, data=data)
        except (ValueError, RecursionError):
            pass  # YAML's own braces, or what its reader has words for
    loader = None
    try:
        loader = ManifestLoader(text)
        node = loader.get_single_node()
        _refuse_repeated(node)
        data = loader.construct_document(node) if node is not None else None
    except yaml.YAMLError as error:
        raise ConfigError(_shift(describe_fault(error), line)) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"line {line}: {error}") from error
    finally:
        if loader is not None:
            loader.dispose()
    return Document(text, line, data=data, node=node)


def _refuse_repeated(node: yaml.Node | None) -> None:
    """Kubernetes refuses a key that is given twice, so do we, before one of them is lost."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f'key "{key.value[:60]}" is given twice', key.start_mark
                    )
                seen.add(key.value)
            _refuse_repeated(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_repeated(item)


def _has_merge(text: str) -> bool:
    return re.search(r"^\s*(- )?<<\s*:", text, re.M) is not None


def _shift(fault: str, line: int) -> str:
    """Count the line from the start of the file."""
    return re.sub(r"^line (\d+)", lambda match: f"line {int(match[1]) + line - 1}", fault)


def _print(node: yaml.Node) -> str:
    text: str = yaml.serialize(node, Dumper=ManifestDumper, allow_unicode=True, width=2**31 - 1)
    return text


def _edit(node: yaml.Node, steps: list[str], op: Op) -> yaml.Node:
    """A copy of `node` with one operation done; nodes off the path are shared, so an anchor
    that is used twice changes in one place only."""
    step, *rest = steps
    if isinstance(node, yaml.MappingNode):
        pairs = list(node.value)
        at = next((i for i, (key, _) in enumerate(pairs) if key.value == step), None)
        if rest:
            assert at is not None, op["path"]
            pairs[at] = (pairs[at][0], _edit(pairs[at][1], rest, op))
        elif op["op"] == "remove":
            assert at is not None, op["path"]
            del pairs[at]
        else:
            pair = (represent_node(step), represent_node(op["value"]))
            pairs[len(pairs) if at is None else at : len(pairs) if at is None else at + 1] = [pair]
        return yaml.MappingNode(node.tag, pairs, flow_style=node.flow_style and bool(node.value))
    assert isinstance(node, yaml.SequenceNode), op["path"]
    items, index = list(node.value), int(step)
    if rest:
        items[index] = _edit(items[index], rest, op)
    elif op["op"] == "remove":
        del items[index]
    elif op["op"] == "add":
        items.insert(index, represent_node(op["value"]))
    else:
        items[index] = represent_node(op["value"])
    return yaml.SequenceNode(node.tag, items, flow_style=node.flow_style and bool(node.value))
