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
_TOKEN: Final = re.compile(r"\s*(?:(?P<op>==|!=|[=!<>(),])|(?P<word>[^\s=!<>(),]+)|$)")
_OPERATORS: Final = {"=": "In", "==": "In", "!=": "NotIn", ">": "Gt", "<": "Lt"}
_SETS: Final = {"in": "In", "notin": "NotIn"}


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
    """The requirements of a `labelSelector` query. Raises ValueError in the server's words."""
    return _Parser(text).parse()


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
    "jobs.batch": ("status.successful",),
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


class _Parser:
    """Reads `a=b,c in (d,e),!f` as k8s.io/apimachinery/pkg/labels does."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, bool]] = []  # text, and whether it is a word
        position = 0
        while position < len(text) and (match := _TOKEN.match(text, position)) is not None:
            position = match.end()
            if match["op"] or match["word"]:
                self._tokens.append((match["op"] or match["word"], match["word"] is not None))
        self._tokens.reverse()

    def _peek(self) -> tuple[str, bool]:
        return self._tokens[-1] if self._tokens else ("", False)

    def _take(self) -> tuple[str, bool]:
        return self._tokens.pop() if self._tokens else ("", False)

    def parse(self) -> Selector:
        found: list[Requirement] = []
        while self._tokens:
            text, is_word = self._peek()
            if not is_word and text != "!":
                raise ValueError(f"found '{text}', expected: !, identifier, or 'end of string'")
            try:
                found.append(self._requirement())
            except ValueError as error:
                raise ValueError(f"unable to parse requirement: {error}") from error
            text, _ = self._take()
            if text == ",":
                following, is_word = self._peek()
                if not is_word and following != "!":
                    raise ValueError(f"found '{following}', expected: identifier after ','")
            elif text:
                raise ValueError(f"found '{text}', expected: ',' or 'end of string'")
        return tuple(found)

    def _requirement(self) -> Requirement:
        text, is_word = self._take()
        absent = text == "!"
        if absent:
            text, is_word = self._take()
        if not is_word:
            raise ValueError(f"found '{text}', expected: identifier")
        key = _key(text)
        if absent:
            return Requirement(key, "DoesNotExist")
        if self._peek()[0] in ("", ","):
            return Requirement(key, "Exists")
        text, is_word = self._take()
        if is_word and text in _SETS:
            return Requirement(key, _SETS[text], self._values())
        if text not in _OPERATORS:
            raise ValueError(f"found '{text}', expected: in, notin, =, ==, !=, gt, lt")
        return Requirement(key, _OPERATORS[text], frozenset((self._exact(),)))

    def _exact(self) -> str:
        if self._peek()[0] in ("", ","):
            return ""
        text, is_word = self._take()
        if not is_word:
            raise ValueError(f"found '{text}', expected: identifier")
        return _value(text)

    def _values(self) -> frozenset[str]:
        text, _ = self._take()
        if text != "(":
            raise ValueError(f"found '{text}' expected: '('")
        found: set[str] = set()
        last = ","
        while True:
            text, is_word = self._take()
            if is_word and last == ",":
                found.add(_value(text))
            elif text in (",", ")") and not is_word:
                if last == ",":
                    found.add("")
                if text == ")":
                    return frozenset(found)
            else:
                wanted = "',' or ')'" if last != "," else "',', ')' or identifier"
                raise ValueError(f"found '{text}', expected: {wanted}")
            last = text


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
