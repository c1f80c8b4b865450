"""Rules of routes as the compiler ordered them: never met, retried in vain or at a risk; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final

from destination.fragments import UNREACHABLE, Ref, RouteFragment, RouteRule
from destination.snapshot import Snapshot
from destination.store import Store
from mesh.core.match import compile_matches
from mesh.core.model import Match, Rule, Source
from mesh.lint.rules.chains import find_chain_faults
from mesh.lint.rules.compiled import ref_of
from mesh.lint.rules.finding import Finding, Level
from mesh.lint.rules.source import Manifest
from mesh.lint.rules.times import find_time_faults
from proxy.patterns import compile_pattern

_REPEATING: Final = (None, "POST", "PATCH")  # None: any method
_EVERYTHING: Final = frozenset((".*", "/.*", "^.*$", "^/.*$"))
_MOST: Final = 200  # rules of one port that are compared with one another


def find_table_faults(
    manifests: list[Manifest], store: Store, snapshot: Snapshot
) -> Iterator[Finding]:
    """Faults that show only once all routes of a Service are put together."""
    items: dict[Ref, Manifest] = {}
    for item in manifests:
        ref = ref_of(item)
        if ref is not None:
            items[ref] = item
    hidden = _hidden_rules(snapshot)
    for ref, item in items.items():
        outcome = snapshot.outcomes.get(ref)
        said = {problem.path for problem in outcome.problems} if outcome is not None else set()
        route = store.fragments.get(ref)
        if isinstance(route, RouteFragment):
            for rule in route.rules:
                yield from _rule_faults(item, route, rule, hidden, said)
        elif item.kind == "Service":
            yield from _service_faults(item, store)
    yield from find_time_faults(items, store, snapshot)
    yield from find_chain_faults(manifests, items, store, snapshot)


def _rule_faults(
    item: Manifest,
    route: RouteFragment,
    rule: RouteRule,
    hidden: Mapping[tuple[Source, int], Rule],
    said: Collection[str],
) -> Iterator[Finding]:
    """`said`: the paths that the compiler has a word on."""
    path = f"spec.rules[{rule.index}]"
    cover = hidden.get((route.source, rule.index))
    if cover is not None and path not in said:
        name = (
            f"{cover.source}#{cover.index}"
            if cover.source != route.source
            else (f"rules[{cover.index}]")
        )
        yield _finding(
            item, path, UNREACHABLE,
            f"this rule is never met: {name} is tried before it and met by all of its requests",
            "make its matches more specific, or remove it", Level.ERROR,
        )  # fmt: skip
    policy = rule.policy
    if policy is None or policy.retry is None:
        return
    methods = {match.method for match in rule.matches} or {None}
    if policy.retry.limit != 0 and methods & set(_REPEATING):
        yield _finding(
            item, f"{path}.retry", "UnsafeRetry",
            "a retry may repeat the effect of requests such as POST",
            "limit the rule to GET, PUT or DELETE, or make sure that repeating does no harm",
            Level.WARNING,
        )  # fmt: skip


def _service_faults(item: Manifest, store: Store) -> Iterator[Finding]:
    """Retries that a Service allows for every request to it."""
    service = store.services.get((item.namespace, item.name))
    for name in service.annotations if service is not None else ():
        if name in ("mesh/retry-http", "retry.linkerd.io/http"):
            yield _finding(
                item, f"metadata.annotations[{name}]", "UnsafeRetry",
                "a retry may repeat the effect of requests such as POST",
                "let a route retry what may be repeated, or make sure that it does no harm",
                Level.WARNING,
            )  # fmt: skip


def _hidden_rules(snapshot: Snapshot) -> dict[tuple[Source, int], Rule]:
    """Rules of objects that are never met, each with one that is met by all their requests."""
    hidden: dict[tuple[Source, int], Rule] = {}
    met: set[tuple[Source, int]] = set()
    for unit in snapshot.units.values():
        for port in unit.ports.values():
            for routing in port.routing.values():
                _compare(routing.rules[:_MOST], hidden, met)
    return {key: cover for key, cover in hidden.items() if key not in met}


def _compare(
    rules: tuple[Rule, ...],
    hidden: dict[tuple[Source, int], Rule],
    met: set[tuple[Source, int]],
) -> None:
    earlier: list[Rule] = []
    for rule in rules:
        cover = next((other for other in earlier if _covers_rule(other, rule)), None)
        if rule.source is not None and cover is None:
            met.add((rule.source, rule.index))
        elif rule.source is not None and cover is not None:
            hidden.setdefault((rule.source, rule.index), cover)
        earlier.append(rule)


def _covers_rule(first: Rule, then: Rule) -> bool:
    if not first.matches:
        return True
    return bool(then.matches) and all(
        any(covers_match(one, other) for one in first.matches) for other in then.matches
    )


def covers_match(first: Match, then: Match) -> bool:
    """Whether every request that meets `then` provably meets `first` as well."""
    if first == then:
        return True
    if first.also is not None or first.sni or first.ignore_case or first.path_start is not None:
        return False
    if first.method is not None and first.method != then.method:
        return False
    parts = ("headers", "without_headers", "query")
    if any(not set(getattr(first, part)) <= set(getattr(then, part)) for part in parts):
        return False
    return _covers_path(first, then)


def _covers_path(first: Match, then: Match) -> bool:
    if then.ignore_case and (first.path or first.path_prefix or first.path_regex):
        return False
    if first.path is not None and first.path != then.path:
        return False
    regex = first.path_regex
    if regex not in (None, then.path_regex, *_EVERYTHING) and (
        then.path is None or not _meets(Match(path_regex=regex), then.path)
    ):
        return False
    if first.path_prefix is None or not first.path_prefix.rstrip("/"):
        return True
    known = then.path if then.path is not None else then.path_prefix
    return known is not None and _meets(Match(path_prefix=first.path_prefix), known)


class _Head:
    """A request of which only the path is known."""

    method = "GET"
    query = ""

    def __init__(self, path: str) -> None:
        self.path = path

    def values(self, name: str, /) -> list[str]:
        return []


def _meets(match: Match, path: str) -> bool:
    test = compile_matches((match,), compile_pattern)
    return test is None or test(_Head(path))


def _finding(
    item: Manifest, path: str, reason: str, message: str, remedy: str, level: Level
) -> Finding:
    line = item.line_of(path)
    return Finding(item.file, line, str(item), path, reason, message, remedy, level)
