"""YAML in and out, as Kubernetes' own reader understands it.

PyYAML speaks YAML 1.1 with its own idea of numbers: `1e3` is a string to it and a number to
Kubernetes. So whatever could be read as anything but text is quoted on the way out, texts of
several lines become blocks. `mesh.kube.yamlread` is the way in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import yaml

from mesh.kube.yamlread import RESOLVERS, ManifestLoader

try:
    from yaml import CSafeDumper as _BaseDumper
except ImportError:  # PyYAML without its C library: slower, the same text
    from yaml import SafeDumper as _BaseDumper  # type: ignore[assignment]

_NOT_PLAIN: Final = re.compile(
    r"[-+]?[.\d]|[-+.]|~$|(?i:true|false|yes|no|on|off|y|n|null|nan|inf|infinity)$"
)


class ManifestDumper(_BaseDumper):
    """Blocks for texts of several lines, quotes for what only looks like text; no aliases."""

    yaml_implicit_resolvers = RESOLVERS

    def ignore_aliases(self, data: Any) -> bool:
        return True


def represent_text(dumper: Any, text: str) -> yaml.ScalarNode:
    """Quoted where a reader could take it for something else."""
    if "\n" in text and not re.search(r"[ \t]\n|^\s|[^\n -\U0010ffff]", text):
        style = "|"
    elif _NOT_PLAIN.match(text):
        style = '"'
    else:
        style = None
    node: yaml.ScalarNode = dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)
    return node


class _Representer(yaml.representer.SafeRepresenter):
    """Data to nodes, for parts of a document that is edited as nodes."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


ManifestDumper.add_representer(str, represent_text)
_Representer.add_representer(str, represent_text)


def represent_node(data: Any) -> yaml.Node:
    """JSON-like data as a node in block style, keys in their order."""
    node: yaml.Node = _Representer(default_flow_style=False, sort_keys=False).represent_data(data)
    return node


def dump_documents(documents: Iterable[Any]) -> str:
    """YAML documents, each after a `---`; keys stay in their order, lines are not folded."""
    return "".join("---\n" + dump_document(document) for document in documents)


def dump_document(document: Any) -> str:
    """One document without a marker."""
    text: str = yaml.dump(
        document,
        Dumper=ManifestDumper,
        sort_keys=False,
        default_flow_style=False,
        allow_unicode=True,
        width=2**31 - 1,
    )
    return text


def load_one(text: str) -> Any:
    """The data of one document. Raises ValueError with the place of the fault."""
    try:
        return yaml.load(text, Loader=ManifestLoader)
    except yaml.YAMLError as error:
        raise ValueError(describe_fault(error)) from error


def describe_fault(error: yaml.YAMLError) -> str:
    """One line: what was wrong, and where."""
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}: {problem}" if mark else f"no valid YAML: {problem}"
