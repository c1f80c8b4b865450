"""Routes of a ServiceProfile that no request reaches, and retries that repeat an effect; pure.

A route is unreachable when an earlier one is met by every request that it is met by. That is
decided on the conditions as the compiler reads them; where it cannot be proved (two patterns
that merely look alike) nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from destination.dialects.linkerd import read_service_profile
from destination.fragments import ProfileFragment
from destination.store import PROFILES
from mesh.core.match import compile_condition
from mesh.core.model import Condition
from mesh.lint.rules.finding import Finding, Level
from mesh.lint.rules.source import Manifest
from proxy.patterns import compile_pattern

_EVERYTHING: Final = frozenset((".*", "/.*", "^.*$", "^/.*$", "(.*)", "/(.*)", "^/.*", "^.*"))
_REPEATING: Final = ("POST", "PATCH")  # not idempotent (RFC 9110 §9.2.2)


@dataclass(frozen=True, slots=True)
class _Head:
    method: str
    path: str
    query: str = ""

    def values(self, name: str, /) -> list[str]:
        return []


def find_route_faults(item: Manifest) -> Iterator[Finding]:
    """Unreachable routes and doubtful retries of one ServiceProfile."""
    earlier: list[tuple[int, str, Condition]] = []
    for index, (route, name, condition) in _read(item):
        path = f"spec.routes[{index}]"
        cover = next((e for e in earlier if covers(e[2], condition)), None)
        if cover is not None:
            yield _finding(
                item, path, "UnreachableRoute",
                f'route "{name}" is never met: routes[{cover[0]}] "{cover[1]}" stands before it '
                "and is met by all of its requests",
                f"move it above routes[{cover[0]}], or remove it", Level.ERROR,
            )  # fmt: skip
        earlier.append((index, name, condition))
        methods = [method for method in _REPEATING if _may_meet(condition, method)]
        if route.get("isRetryable") is True and methods:
            yield _finding(
                item, f"{path}.isRetryable", "UnsafeRetry",
                f"a retry may repeat the effect of {' and '.join(methods)} requests",
                "limit the route to GET, PUT or DELETE, or make sure that repeating does no harm",
                Level.WARNING,
            )  # fmt: skip


def covers(first: Condition, then: Condition) -> bool:
    """Whether every request that meets `then` provably meets `first` as well."""
    if first == then:
        return True
    if then.any is not None and _is_only(then, "any"):
        return all(covers(first, part) for part in then.any)
    if first.all is not None and _is_only(first, "all"):
        return all(covers(part, then) for part in first.all)
    if first.any is not None and _is_only(first, "any"):
        return any(covers(part, then) for part in first.any)
    if then.all is not None and _is_only(then, "all"):
        return any(covers(first, part) for part in then.all)
    return _is_plain(first) and _is_plain(then) and _plain_covers(first, then)


def _plain_covers(first: Condition, then: Condition) -> bool:
    if first.method is not None and first.method != then.method:
        return False
    if first.path is not None and first.path != then.path:
        return False
    if first.path_regex is None or first.path_regex in _EVERYTHING:
        return True
    if first.path_regex == then.path_regex:
        return True
    if then.path is None:
        return False
    test = compile_condition(Condition(path_regex=first.path_regex), compile_pattern)
    return test(_Head(then.method or "GET", then.path))


def _is_plain(condition: Condition) -> bool:
    return (condition.all, condition.any, condition.negated) == (None, None, None)


def _is_only(condition: Condition, part: str) -> bool:
    return condition == Condition(**{part: getattr(condition, part)})


def _may_meet(condition: Condition, method: str) -> bool:
    """Whether some request of this method may meet the condition, whatever its path."""
    if condition.method is not None and condition.method != method:
        return False
    if condition.all is not None and not all(_may_meet(part, method) for part in condition.all):
        return False
    if condition.any is not None and not any(_may_meet(part, method) for part in condition.any):
        return False
    negated = condition.negated
    return negated is None or negated != Condition(method=method)


def _read(item: Manifest) -> Iterator[tuple[int, tuple[dict[str, Any], str, Condition]]]:
    """Index, raw route, name and condition of each route that the compiler takes."""
    spec = item.obj.get("spec")
    routes = spec.get("routes") if isinstance(spec, dict) else None
    for index, route in enumerate(routes if isinstance(routes, list) else []):
        alone = {**item.obj, "spec": {"routes": [route]}}
        fragment = read_service_profile(alone, PROFILES)
        if isinstance(fragment, ProfileFragment) and fragment.routes:
            found = fragment.routes[0]
            yield index, (route, found.name, found.condition)


def _finding(
    item: Manifest, path: str, reason: str, message: str, remedy: str, level: Level
) -> Finding:
    line = item.line_of(path)
    return Finding(item.file, line, str(item), path, reason, message, remedy, level)
