"""HTTPRouteGroup of specs.smi-spec.io (v1alpha1 to v1alpha4): descriptions of requests.

Patterns are full matches, as in all our dialects. A description that does not read spoils the
whole group: a split that refers to it would act on other requests than its author meant.
"""

from __future__ import annotations

from typing import Any, Final

from destination.dialects.reading import Reader, checked_regex, shown
from destination.facts import Object, as_list, as_mapping, as_text
from destination.fragments import INVALID_REGEX, MALFORMED, GroupFragment, RejectedFragment
from mesh.core import labels
from mesh.core.model import HeaderMatch, Match

_MATCH: Final = ("name", "methods", "pathRegex", "headers")
_ANY_PATH: Final = frozenset((".*", "/.*"))
_MOST: Final = 128


def read_route_group(
    group: Object, resource: str, cluster_domain: str = labels.CLUSTER_DOMAIN
) -> GroupFragment | RejectedFragment:
    """Read an HTTPRouteGroup. Never raises: what does not read is a Problem."""
    spec = as_mapping(group.get("spec"))
    # v1alpha1 and v1alpha2 have `matches` beside the metadata.
    where = "spec.matches" if "matches" in spec or "matches" not in group else "matches"
    reader = Reader({"spec": {}, **group}, resource, "HTTPRouteGroup")
    items = reader.items(spec.get("matches") or group.get("matches"), where)
    reader.unknown(spec, "spec", ("matches",))
    matches: list[Match] = []
    for index, item in enumerate(items[:_MOST]):
        matches += _match(reader, item, f"{where}[{index}]")
    if len(items) > _MOST:
        reader.reject(where, MALFORMED, f"expected at most {_MOST} matches")
    if not items:
        reader.reject(where, MALFORMED, "expected at least one match, got none")
    problems = tuple(reader.problems)
    if reader.is_rejected:
        return RejectedFragment(reader.ref, reader.source, problems)
    return GroupFragment(reader.ref, reader.source, tuple(matches), problems)


def _match(reader: Reader, value: Any, path: str) -> list[Match]:
    """One description as matches: one for each of its methods."""
    if not isinstance(value, dict):
        reader.reject(path, MALFORMED, f"expected a mapping, got {shown(value)}")
        return []
    for name in reader.unknown(value, path, _MATCH):
        reader.reject(f"{path}.{shown(name)}", MALFORMED, "not known, so nobody can say what it is")
    pattern = value.get("pathRegex")
    if pattern is not None and not (isinstance(pattern, str) and pattern):
        reader.reject(f"{path}.pathRegex", MALFORMED, f"expected a pattern, got {shown(pattern)}")
        return []
    if pattern is not None and not _is_regex(reader, pattern, f"{path}.pathRegex"):
        return []
    headers = _headers(reader, value.get("headers"), f"{path}.headers")
    methods = _methods(reader, value.get("methods"), f"{path}.methods")
    regex = None if pattern in _ANY_PATH else pattern
    return [Match(path_regex=regex, method=method, headers=headers) for method in methods]


def _methods(reader: Reader, value: Any, path: str) -> list[str | None]:
    if value is None:
        return [None]
    methods: list[str | None] = []
    items = as_list(value)
    for index, item in enumerate(items):
        method = as_text(item).upper()
        if not method:
            reader.reject(f"{path}[{index}]", MALFORMED, f"expected a method, got {shown(item)}")
        methods.append(None if method == "*" else method)
    if not items:
        reader.reject(path, MALFORMED, f"expected a list of methods, got {shown(value)}")
    return [None] if None in methods else methods


def _headers(reader: Reader, value: Any, path: str) -> tuple[HeaderMatch, ...]:
    """A mapping of name to pattern, or a list of such mappings; all must hold."""
    if value is None:
        return ()
    parts = value if isinstance(value, list) else [value]
    found = []
    for index, part in enumerate(parts):
        here = f"{path}[{index}]" if isinstance(value, list) else path
        if not isinstance(part, dict):
            reader.reject(here, MALFORMED, f"expected names with patterns, got {shown(part)}")
            continue
        for name, pattern in part.items():
            field = f"{here}.{shown(name)}"
            if not isinstance(pattern, str) or not isinstance(name, str):
                reader.reject(field, MALFORMED, f"expected a pattern, got {shown(pattern)}")
            elif _is_regex(reader, pattern, field):
                found.append(HeaderMatch(name.lower(), pattern, regex=True))
    return tuple(found)


def _is_regex(reader: Reader, pattern: str, path: str) -> bool:
    wrong = checked_regex(pattern)
    if wrong:
        reader.reject(path, INVALID_REGEX, wrong)
    return not wrong
