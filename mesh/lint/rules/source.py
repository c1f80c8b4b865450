"""Texts of manifests -> objects that know where each of their fields stands; pure.

`List`s are opened. A document that holds several objects without `---` between them gives all
of them and a finding, since YAML itself would keep the last one only. What is no Kubernetes
object (values, compose files) is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from mesh.kube.yamlread import ManifestLoader
from mesh.lint.rules.finding import Finding, Level

Object = dict[str, Any]

_MARKER: Final = re.compile(r"^---(?=[ \t\r\n]|$)", re.M)
_STEP: Final = re.compile(r"\[([^\]]*)\]|([^.\[]+)")
_MERGE: Final = "tag:yaml.org,2002:merge"
_OWN_KEYS: Final = ("apiVersion", "kind", "metadata", "spec")  # given twice: two objects
_DEEPEST: Final = 64


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object of one file. `line` counts from 1; `node` is where it was read from."""

    file: str
    line: int
    obj: Object
    node: yaml.Node = field(repr=False, compare=False)
    first: int = 1  # the line on which the document of `node` begins

    @property
    def kind(self) -> str:
        return str(self.obj.get("kind"))

    @property
    def group(self) -> str:
        group, slash, _ = str(self.obj.get("apiVersion") or "").rpartition("/")
        return group if slash else ""

    @property
    def name(self) -> str:
        return str(_meta(self.obj).get("name") or "")

    @property
    def namespace(self) -> str:
        return str(_meta(self.obj).get("namespace") or "")

    def __str__(self) -> str:
        return "/".join(part for part in (self.kind, self.namespace, self.name) if part)

    def line_of(self, path: str) -> int:
        """The line of a field such as `spec.routes[2].timeout`, or of what is nearest to it."""
        node, line = self.node, self.line
        for step in _steps(path):
            found = _child(node, step)
            if found is None:
                break
            mark, node = found
            line = self.first + mark.line
        return line


def read_manifests(files: Iterable[tuple[str, str]]) -> tuple[list[Manifest], list[Finding]]:
    """The objects of all (name, text) and what is wrong with the files themselves."""
    manifests: list[Manifest] = []
    findings: list[Finding] = []
    for name, text in files:
        for piece in pieces_of(name, text):
            read_piece(piece, manifests, findings)
    return manifests, findings


def with_namespace(manifests: Iterable[Manifest], namespace: str) -> list[Manifest]:
    """Objects that name no namespace go to this one, as `kubectl apply -n` does it."""
    done = []
    for item in manifests:
        if item.kind not in CLUSTER_WIDE and not item.namespace:
            meta = {**_meta(item.obj), "namespace": namespace}
            item = Manifest(
                item.file, item.line, {**item.obj, "metadata": meta}, item.node, item.first
            )
        done.append(item)
    return done


CLUSTER_WIDE: Final = frozenset(
    (
        *("Namespace", "Node", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"),
        *("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration", "PersistentVolume"),
        *("StorageClass", "PriorityClass", "APIService", "IngressClass"),
    )
)


@dataclass(frozen=True, slots=True)
class Piece:
    """The text of one document of a file, and the line of the file on which it begins."""

    file: str
    text: str
    first: int


def pieces_of(name: str, text: str) -> Iterator[Piece]:
    """The documents of a file. `---` at the start of a line begins one."""
    starts = [match.start() for match in _MARKER.finditer(text)]
    if not starts or starts[0] != 0:
        starts.insert(0, 0)
    line, counted = 1, 0
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        line, counted = line + text.count("\n", counted, start), start
        if text[start:end].strip():
            yield Piece(name, text[start:end], line)


def read_piece(piece: Piece, manifests: list[Manifest], findings: list[Finding]) -> None:
    """Add the objects of one document, and what is wrong with it."""
    name, first = piece.file, piece.first
    loader = None
    try:
        loader = ManifestLoader(piece.text)
        node = loader.get_single_node()
        parts = list(_parts(node, name, first, findings))
        for part in parts:
            data = loader.construct_document(part)
            manifests.extend(_objects(name, data, part, first))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        what = str(getattr(error, "problem", None) or error).partition("\n")[0]
        line = first + (mark.line if mark else 0)
        findings.append(
            Finding(
                name, line, "", "", "InvalidYaml", f"no valid YAML: {what}",
                "correct the text here; templates must be rendered first", Level.ERROR,
            )
        )  # fmt: skip
    finally:
        if loader is not None:
            loader.dispose()


def _parts(
    node: yaml.Node | None, name: str, first: int, findings: list[Finding]
) -> Iterator[yaml.Node]:
    """The nodes of single objects: one, or several where top-level keys come again."""
    if not isinstance(node, yaml.MappingNode):
        return
    groups: list[list[tuple[yaml.Node, yaml.Node]]] = [[]]
    seen: set[str] = set()
    for key, value in node.value:
        word = key.value if isinstance(key, yaml.ScalarNode) else ""
        if word in seen and word in _OWN_KEYS:
            line = first + key.start_mark.line
            findings.append(
                Finding(
                    name, line, "", word, "SeveralObjects",
                    f"{word} comes again: a second object begins here without ---, "
                    "and YAML keeps only one of the two",
                    f"put a line with --- above line {line}", Level.ERROR,
                )
            )  # fmt: skip
            groups.append([])
            seen.clear()
        seen.add(word)
        groups[-1].append((key, value))
    for group in groups:
        start = group[0][0].start_mark if group else node.start_mark
        part = yaml.MappingNode(node.tag, group, start, node.end_mark, node.flow_style)
        for key in _repeated_keys(part, set(), 0):
            findings.append(
                Finding(
                    name, first + key.start_mark.line, "", key.value, "RepeatedKey",
                    f'key "{key.value[:60]}" is given twice; one of the two is lost',
                    "keep one of them", Level.ERROR,
                )
            )  # fmt: skip
        yield part


def _repeated_keys(node: yaml.Node, done: set[int], depth: int) -> Iterator[yaml.ScalarNode]:
    """Keys that are given twice: Kubernetes refuses them, YAML would lose one of the two.

    Each node is looked at once, however many aliases lead to it. Raises ValueError for one
    that is nested too deep, or in itself.
    """
    if depth > _DEEPEST:
        raise ValueError(f"nested deeper than {_DEEPEST}")
    if id(node) in done or not isinstance(node, yaml.MappingNode | yaml.SequenceNode):
        return
    children = node.value
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                if key.value in seen:
                    yield key
                seen.add(key.value)
        children = [value for _, value in node.value]
    for child in children:
        yield from _repeated_keys(child, done, depth + 1)
    done.add(id(node))  # after its children, so that a node in itself ends at the depth


def _objects(name: str, data: Any, node: yaml.Node, first: int) -> Iterator[Manifest]:
    if not isinstance(data, dict) or not data.get("kind") or not data.get("apiVersion"):
        return
    items = data.get("items")
    if str(data["kind"]).endswith("List") and isinstance(items, list):
        found = _child(node, "items")
        nodes = found[1].value if found is not None else []
        for item, inner in zip(items, nodes, strict=False):
            yield from _objects(name, item, inner, first)
        return
    yield Manifest(name, first + node.start_mark.line, data, node, first)


def _child(node: yaml.Node, step: str) -> tuple[Any, yaml.Node] | None:
    """The mark and the node of a field or item."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if getattr(key, "value", None) == step:
                return key.start_mark, value
    elif isinstance(node, yaml.SequenceNode) and step.isdigit() and int(step) < len(node.value):
        value = node.value[int(step)]
        return value.start_mark, value
    return None


def _steps(path: str) -> list[str]:
    """`metadata.annotations[mesh/inject]` -> its three steps."""
    return [match[1] if match[1] is not None else match[2] for match in _STEP.finditer(path)]


def _meta(obj: Object) -> dict[str, Any]:
    meta = obj.get("metadata")
    return meta if isinstance(meta, dict) else {}
