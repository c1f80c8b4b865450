"""Walking one manifest while collecting what cannot be honoured, with the field's path."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping
from typing import Any, Final

import re2  # type: ignore[import-untyped]

from destination.facts import Key, Object, as_mapping, as_text, key_of
from destination.fragments import MALFORMED, UNKNOWN_FIELD, Ref
from mesh.core.model import Problem, Severity, Source

_SHOWN: Final = 60  # characters of a value in a message
_REGEX_BYTES: Final = 1 << 20  # what RE2 may spend on one pattern


class Reader:
    """The problems of one object. Warnings name a part that is not honoured, errors reject."""

    __slots__ = ("annotations", "created", "key", "problems", "ref", "source", "spec")

    def __init__(self, obj: Object, resource: str, kind: str) -> None:
        namespace, name = key_of(obj)
        self.key: Key = (namespace, name)
        self.ref = Ref(resource, namespace, name)
        self.source = Source(kind, namespace, name)
        meta = as_mapping(obj.get("metadata"))
        self.created = as_text(meta.get("creationTimestamp"))
        notes = as_mapping(meta.get("annotations"))
        self.annotations = {k: v for k, v in notes.items() if isinstance(v, str)}
        self.problems: list[Problem] = []
        self.spec = self.mapping(obj.get("spec"), "spec")

    def warn(self, path: str, reason: str, message: str) -> None:
        self.problems.append(Problem(self.source, path, reason, message))

    def reject(self, path: str, reason: str, message: str) -> None:
        self.problems.append(Problem(self.source, path, reason, message, Severity.ERROR))

    @property
    def is_rejected(self) -> bool:
        return any(problem.severity is Severity.ERROR for problem in self.problems)

    def mapping(self, value: Any, path: str) -> Mapping[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.warn(path, MALFORMED, f"expected a mapping, got {shown(value)}")
        return as_mapping(value)

    def items(self, value: Any, path: str) -> list[Any]:
        if value is None:
            return []
        if not isinstance(value, list):
            self.warn(path, MALFORMED, f"expected a list, got {shown(value)}")
            return []
        return value

    def unknown(self, found: Mapping[str, Any], path: str, known: Collection[str]) -> list[str]:
        """Report each field of `found` that is not in `known`, and give their names."""
        names = [name for name in found if name not in known]
        for name in names:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
            self.warn(f"{path}.{shown(name)}", UNKNOWN_FIELD, f"no such field{hint}")
        return names


def shown(value: Any) -> str:
    """A value as messages quote it: short, strings without quotes of their own, and of what has
    parts only what it is."""
    if isinstance(value, str):
        text = value
    elif isinstance(value, bool | int | float) or value is None:
        text = json.dumps(value)
    else:
        text = type(value).__name__
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def checked_regex(pattern: str) -> str:
    """What is wrong with a pattern as RE2 sees it, "" when it compiles."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _REGEX_BYTES
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        words = error.args[0] if error.args else error
        text = words.decode("utf-8", "replace") if isinstance(words, bytes) else str(words)
        return text or "no regular expression"
    return ""
