"""YAML as Kubernetes reads it, from anybody: dates are text, and nesting has an end.

libyaml builds a document by calling itself once a level, without a limit: 100,000 brackets end
the process. So the events of a text, which need no such call, are looked at first.
"""

from __future__ import annotations

from typing import Any, Final, cast

import yaml

try:
    from yaml import CSafeLoader as BaseLoader
except ImportError:  # PyYAML without its C library: slower, the same data
    from yaml import SafeLoader as BaseLoader  # type: ignore[assignment]

MAX_DEPTH: Final = 100  # levels; the deepest schemas that people publish have about 40
_TIMESTAMP: Final = "tag:yaml.org,2002:timestamp"

RESOLVERS: Final = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
    for first, resolvers in BaseLoader.yaml_implicit_resolvers.items()
}


class ManifestLoader(BaseLoader):
    """A safe loader that leaves dates alone, as JSON has none. Made from a text, it raises
    yaml.YAMLError at once when that is nested too deep."""

    yaml_implicit_resolvers = RESOLVERS

    def __init__(self, text: str) -> None:
        refuse_deep_text(text)
        super().__init__(text)


def refuse_deep_text(text: str) -> None:
    """Raises yaml.YAMLError with the place where a text is nested too deep or is no YAML."""
    depth = 0
    for event in yaml.parse(text, Loader=BaseLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise yaml.MarkedYAMLError(
                    problem=f"nested more than {MAX_DEPTH} levels deep",
                    problem_mark=cast(Any, event.start_mark),
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def is_too_deep(value: Any) -> bool:
    """Whether JSON data nests deeper than MAX_DEPTH."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for holder in level
            if isinstance(holder, dict | list)
            for item in (holder.values() if isinstance(holder, dict) else holder)
        ]
        if not level:
            return False
    return True
