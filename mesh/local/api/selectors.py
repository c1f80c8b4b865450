"""Label and field selectors: parse once, then ask. Pure.

Label selectors in both forms: the string of a query (`app=web,tier in (a,b),!old`) and the
object of a spec (`matchLabels`, `matchExpressions`). Field selectors know `=`, `==` and `!=`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

_KEY: Final = re.compile(
    r"(?:[a-z0-9A-Z.-]{1,253}/)?[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
)
_VALUE: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_TERM: Final = re.compile(
    r"\s*(?:(?P<absent>!)\s*(?P<akey>[^\s=!<>,()]+)"
    r"|(?P<key>[^\s=!<>,()]+)\s*"
    r"(?:(?P<op>==|=|!=|>|<)\s*(?P<value>[^\s=!<>,()]*)"
    r"|(?P<set>in|notin)\s*\((?P<values>[^()]*)\))?)\s*(?:,|$)"
)


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label. `op` is a word of metav1.LabelSelectorOperator, or Gt, Lt."""

    key: str
    op: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, Any]) -> bool:
        value = labels.get(self.key)
        match self.op:
            case "In":
                return value is not None and value in self.values
            case "NotIn":
                return value is None or value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
            case _:
                return _compare(value, self.op, self.values)


Selector = tuple[Requirement, ...]


def matches(selector: Iterable[Requirement], labels: Mapping[str, Any] | None) -> bool:
    """Whether all requirements hold; an empty selector matches everything."""
    known = labels or {}
    return all(requirement.matches(known) for requirement in selector)


def parse_labels(text: str) -> Selector:
    """The requirements of a `labelSelector` query. Raises ValueError with the place."""
    found: list[Requirement] = []
    position = 0
    while position < len(text):
        term = _TERM.match(text, position)
        if term is None or term.end() == position:
            raise ValueError(f"unable to parse requirement: {text[position:].strip()!r}")
        found.append(_requirement(term))
        position = term.end()
    return tuple(found)


def parse_selector(selector: Mapping[str, Any] | None) -> Selector:
    """The requirements of a metav1.LabelSelector. Raises ValueError on an unknown operator."""
    if not selector:
        return ()
    found = [
        Requirement(key, "In", frozenset((str(value),)))
        for key, value in (selector.get("matchLabels") or {}).items()
    ]
    for expression in selector.get("matchExpressions") or ():
        op = expression.get("operator", "")
        if op not in ("In", "NotIn", "Exists", "DoesNotExist"):
            raise ValueError(f'"{op}" is not a valid label selector operator')
        values = frozenset(str(value) for value in expression.get("values") or ())
        found.append(Requirement(expression.get("key", ""), op, values))
    return tuple(found)


def format_labels(selector: Mapping[str, Any] | None) -> str:
    """A metav1.LabelSelector as a query string, as kubectl and the scale subresource print it."""
    if not selector:
        return ""
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for expression in selector.get("matchExpressions") or ():
        key, op = expression.get("key", ""), expression.get("operator")
        values = ",".join(sorted(map(str, expression.get("values") or ())))
        match op:
            case "In":
                parts.append(f"{key} in ({values})")
            case "NotIn":
                parts.append(f"{key} notin ({values})")
            case "Exists":
                parts.append(key)
            case _:
                parts.append(f"!{key}")
    return ",".join(parts)


@dataclass(frozen=True, slots=True)
class FieldTerm:
    """One condition on one field, by its dotted path."""

    path: str
    equal: bool
    value: str


FieldSelector = tuple[FieldTerm, ...]


def parse_fields(text: str) -> FieldSelector:
    """The terms of a `fieldSelector` query; `\\,`, `\\=` and `\\\\` are escapes. ValueError."""
    found = []
    for part in filter(None, re.split(r"(?<!\\),", text)):
        match = re.fullmatch(r"([^=!]+)(==|!=|=)(.*)", part.strip())
        if match is None:
            raise ValueError(f"invalid selector: {text!r}; can't understand {part!r}")
        value = re.sub(r"\\([\\,=])", r"\1", match[3])
        found.append(FieldTerm(match[1].strip(), match[2] != "!=", value))
    return tuple(found)


def fields_match(selector: FieldSelector, obj: Mapping[str, Any]) -> bool:
    return all((field_text(obj, term.path) == term.value) == term.equal for term in selector)


def field_text(obj: Mapping[str, Any], path: str) -> str:
    """The text of a field as selectors compare it: absent is empty, booleans as Go prints."""
    value: Any = obj
    for part in path.split("."):
        if not isinstance(value, Mapping):
            return ""
        value = value.get(part)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


# The fields that may be selected on, beside metadata.name and metadata.namespace.
SELECTABLE: Final[Mapping[str, tuple[str, ...]]] = {
    "pods": (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.podIPs",
        "status.nominatedNodeName",
    ),
    "events": (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    "events.events.k8s.io": (
        "regarding.kind",
        "regarding.namespace",
        "regarding.name",
        "regarding.uid",
        "reason",
        "reportingController",
        "type",
    ),
    "secrets": ("type",),
    "namespaces": ("status.phase",),
    "nodes": ("spec.unschedulable",),
    "services": ("spec.clusterIP", "spec.type"),
    "replicasets.apps": ("status.replicas",),
}

_ALWAYS: Final = ("metadata.name", "metadata.namespace")


def check_fields(key: str, selector: FieldSelector, more: Iterable[str] = ()) -> None:
    """Raises ValueError for a field that this resource cannot be selected by."""
    allowed = (*_ALWAYS, *SELECTABLE.get(key, ()), *more)
    for term in selector:
        if term.path not in allowed:
            raise ValueError(f"field label not supported: {term.path}")


def predicate(labels: Selector, fields: FieldSelector) -> Callable[[Mapping[str, Any]], bool]:
    """One test for both selectors, for lists and watches."""

    def test(obj: Mapping[str, Any]) -> bool:
        meta = obj.get("metadata") or {}
        return matches(labels, meta.get("labels")) and fields_match(fields, obj)

    return test


def _requirement(term: re.Match[str]) -> Requirement:
    if term["absent"]:
        return Requirement(_key(term["akey"]), "DoesNotExist")
    key = _key(term["key"])
    if term["set"]:
        values = frozenset(_value(value.strip()) for value in term["values"].split(","))
        return Requirement(key, "In" if term["set"] == "in" else "NotIn", values)
    match term["op"]:
        case None:
            return Requirement(key, "Exists")
        case "=" | "==":
            return Requirement(key, "In", frozenset((_value(term["value"]),)))
        case "!=":
            return Requirement(key, "NotIn", frozenset((_value(term["value"]),)))
        case op:
            return Requirement(key, "Gt" if op == ">" else "Lt", frozenset((term["value"],)))


def _key(text: str) -> str:
    if not _KEY.fullmatch(text):
        raise ValueError(f"invalid label key {text!r}")
    return text


def _value(text: str) -> str:
    if not _VALUE.fullmatch(text):
        raise ValueError(f"invalid label value {text!r}")
    return text


def _compare(value: Any, op: str, bounds: frozenset[str]) -> bool:
    try:
        number, bound = int(value), int(next(iter(bounds)))
    except (TypeError, ValueError, StopIteration):
        return False
    return number > bound if op == "Gt" else number < bound
