"""Routes, splits and overrides of one Service port -> its rules, in the order of trying; pure.

Composition is design decision 3: a table from routes, or else the Service itself; then each
backend that is the Service itself becomes what a TrafficSplit, or else a profile's overrides,
make of it, once and without recursion.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from destination.attach import Governing
from destination.dialects.smi import scaled
from destination.facts import Key
from destination.fragments import (
    EXTERNAL_SERVICE,
    BackendRef,
    RouteFragment,
    RouteKind,
    RouteRule,
    WeightedLeaf,
)
from mesh.core.model import (
    Backend,
    Filters,
    Match,
    PathChange,
    Policy,
    Rule,
    Source,
)
from mesh.core.names import service_authority

_NO_WEIGHT: Final = "no-weight"
_ANY: Final = (Match(), Match(path_prefix="/"))
_GATEWAY_FAILURE: Final = 500  # HTTPRouteRule.backendRefs
_GRPC_PATTERN: Final = re.compile(r"/\(\?:(.*)\)/\(\?:(.*)\)")
_ANY_SERVICE: Final = "/[^/]+/"


@dataclass(frozen=True, slots=True)
class Share:
    """What takes the Service's own place: for requests that meet one of `matches`, or for all."""

    source: Source
    leaves: tuple[WeightedLeaf, ...]
    matches: tuple[Match, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """The rules of one port for one group of clients, as `model.Target` holds them."""

    rules: tuple[Rule, ...]
    connections: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Apex:
    """One port of the Service that is called, and what belongs to it whatever the route.

    `shares` in the order of trying, the one for all requests last if there is one. `external`
    are Services that are ExternalNames, and so no backends.
    """

    service: Key
    port: int
    cluster_domain: str
    shares: tuple[Share, ...] = ()
    defaults: Policy | None = None
    external: frozenset[Key] = frozenset()

    def authority(self, service: Key, port: int | None = None) -> str:
        return service_authority(service[1], service[0], port or self.port, self.cluster_domain)


def make_table(apex: Apex, governing: Governing | None) -> Table:
    """All rules of one port for one group of clients."""
    default = _default_rules(apex)
    if governing is None:
        return Table(tuple(default))
    if governing.kind in (RouteKind.HTTP, RouteKind.GRPC):
        rules = [
            expanded for rule in _sorted_rules(apex, governing) for expanded in _expand(apex, rule)
        ]
        return Table(tuple(rules), tuple(default[-1:]))
    routed = list(_connection_rules(apex, governing.routes))
    if governing.kind is RouteKind.TCP:
        return Table(tuple(routed[:1]))
    # A TLSRoute says nothing of connections without a server name; of others, all.
    unnamed = replace(default[-1], matches=(Match(sni=("",)),))
    return Table(tuple(default), (*routed, unnamed))


def _default_rules(apex: Apex) -> list[Rule]:
    """Where requests go that no route speaks of: to the Service itself, or its shares."""
    plain = Rule((Backend(apex.authority(apex.service)),), defaults=apex.defaults)
    rules = []
    for share in apex.shares:
        backends = tuple(
            Backend(apex.authority(leaf.service, leaf.port), leaf.weight) for leaf in share.leaves
        )
        rules.append(replace(plain, backends=backends, matches=share.matches, source=share.source))
        if not share.matches:
            return rules
    return [*rules, plain]


# -- routes ------------------------------------------------------------------------------------


def _sorted_rules(apex: Apex, governing: Governing) -> list[Rule]:
    """One rule for each match of each rule, the most specific first (HTTPRouteRule.matches)."""
    rank = _grpc_rank if governing.kind is RouteKind.GRPC else _http_rank
    ranked = [
        (rank(match), at, route_rule.index, index, route, route_rule, match)
        for at, route in enumerate(governing.routes)
        for route_rule in route.rules
        for index, match in enumerate(route_rule.matches)
    ]
    ranked.sort(key=lambda entry: entry[:4])
    return [_route_rule(apex, route, rule, match) for *_, route, rule, match in ranked]


def _http_rank(match: Match) -> tuple[int, ...]:
    """Exact path, then pattern, then the longest prefix; method; most headers; most parameters.

    Where patterns stand is ours to say: before prefixes, since below `/` none would be met.
    """
    if match.path is not None:
        path = (0, -len(match.path))
    elif match.path_regex is not None:
        path = (1, -len(match.path_regex))
    else:
        path = (2, -len(match.path_prefix or "/"))
    return (*path, match.method is None, -len(match.headers), -len(match.query))


def _grpc_rank(match: Match) -> tuple[int, ...]:
    """The longest service, then the longest method, then the most headers (GRPCRouteRule)."""
    service, method = _grpc_parts(match)
    return (-len(service), -len(method), -len(match.headers))


def _grpc_parts(match: Match) -> tuple[str, str]:
    if match.path is not None:
        _, service, method = match.path.split("/", 2)
        return service, method
    if match.path_prefix is not None:
        return match.path_prefix[1:], ""
    pattern = match.path_regex or ""
    found = _GRPC_PATTERN.fullmatch(pattern)
    if found is not None:
        return found[1].replace("[^/]+", ""), found[2].replace("[^/]+", "")
    return "", pattern.removeprefix(_ANY_SERVICE)


def _route_rule(apex: Apex, route: RouteFragment, rule: RouteRule, match: Match) -> Rule:
    matches = () if match in _ANY else (match,)
    backends = tuple(_backend(apex, ref, match) for ref in rule.backends)
    filters = _bound(rule.filters, match)
    if rule.refused:
        backends, filters = (_refused(apex, rule.refused),), None
    elif not backends and (filters is None or filters.redirect is None):
        backends = (Backend(apex.authority(apex.service)),)
    return Rule(
        backends=backends,
        matches=matches,
        source=route.source,
        index=rule.index,
        name=rule.name,
        filters=filters,
        policy=rule.policy,
        defaults=None if route.is_annotated else apex.defaults,
        failure=_GATEWAY_FAILURE,
    )


def _backend(apex: Apex, ref: BackendRef, match: Match) -> Backend:
    refused = ref.refused
    if not refused and ref.service in apex.external:
        refused = EXTERNAL_SERVICE
    return Backend(
        authority=apex.authority(ref.service, ref.port),
        weight=ref.weight,
        filters=None if refused else _bound(ref.filters, match),
        refused=refused,
    )


def _refused(apex: Apex, reason: str) -> Backend:
    return Backend(apex.authority(apex.service), refused=reason)


def _bound(filters: Filters | None, match: Match) -> Filters | None:
    """Filters that know which prefix they replace."""
    if filters is None:
        return None
    redirect, rewrite = filters.redirect, filters.rewrite
    if redirect is not None and redirect.path is not None:
        redirect = replace(redirect, path=_change(redirect.path, match))
    if rewrite is not None and rewrite.path is not None:
        rewrite = replace(rewrite, path=_change(rewrite.path, match))
    return replace(filters, redirect=redirect, rewrite=rewrite)


def _change(change: PathChange, match: Match) -> PathChange:
    return change if change.full is not None else replace(change, matched=match.path_prefix or "/")


def _connection_rules(apex: Apex, routes: Sequence[RouteFragment]) -> Iterator[Rule]:
    """One rule for each server name, exact ones first, then the longest; TCP's as they come."""
    entries = [
        (_name_rank(name), name, route, rule)
        for route in routes
        for rule in route.rules
        for name in (rule.matches[0].sni if rule.matches else ("",))
    ]
    entries.sort(key=lambda entry: entry[0])
    for _, name, route, rule in entries:
        match = Match(sni=(name,)) if name else Match()
        made = _route_rule(apex, route, rule, match)
        yield from _expand(apex, made)


def _name_rank(name: str) -> tuple[bool, int]:
    return name.startswith("*"), -len(name)


# -- expansion ---------------------------------------------------------------------------------


def _expand(apex: Apex, rule: Rule) -> list[Rule]:
    """A rule, with the Service itself replaced by its shares; several where some shares are
    for some requests only."""
    host = apex.authority(apex.service).rpartition(":")[0] + ":"
    if not any(_is_own(backend, host) for backend in rule.backends):
        return [rule]
    rules = []
    for share in apex.shares:
        backends = _shared(apex, rule.backends, share, host)
        matches = _both(rule.matches, share.matches)
        rules.append(replace(rule, backends=backends, matches=matches))
        if not share.matches:
            return rules
    return [*rules, rule]


def _is_own(backend: Backend, host: str) -> bool:
    return not backend.refused and backend.authority.startswith(host)


def _shared(
    apex: Apex, backends: tuple[Backend, ...], share: Share, host: str
) -> tuple[Backend, ...]:
    """The backends with the Service's own share spread over its leaves; all other shares stay
    what they are."""
    total = sum(leaf.weight for leaf in share.leaves)
    spread: list[Backend] = []
    for backend in backends:
        if not _is_own(backend, host):
            spread.append(replace(backend, weight=backend.weight * (total or 1)))
        elif not total:
            spread.append(replace(backend, refused=_NO_WEIGHT, source=share.source))
        else:
            port = int(backend.authority.removeprefix(host))
            spread += [
                replace(
                    backend,
                    authority=apex.authority(leaf.service, leaf.port or port),
                    weight=backend.weight * leaf.weight,
                    source=share.source,
                )
                for leaf in share.leaves
            ]
    weights = scaled([backend.weight for backend in spread])
    return tuple(
        replace(backend, weight=weight) for backend, weight in zip(spread, weights, strict=True)
    )


def _both(own: tuple[Match, ...], more: tuple[Match, ...]) -> tuple[Match, ...]:
    """Matches that hold where one of each holds; none means always."""
    if not own or not more:
        return own or more
    return tuple(replace(match, also=other) for match in own for other in more)
