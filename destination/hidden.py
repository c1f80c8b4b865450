"""Rules that are never met, since one that is tried before has the very same matches; pure.

All routes of one kind on a port are merged, and of equal matches the older route's counts, then
the earlier rule's (HTTPRouteRule.matches). Since rules are tried from the most specific, equal
matches are how a rule comes to be hidden; what else covers it is found by `mesh lint`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import attrgetter

from msgspec.structs import replace

from destination.attach import Governing
from destination.fragments import Ref, RouteFragment, RouteRule
from mesh.core.model import Match

Place = tuple[Ref, int]  # a route, and the index of one of its rules
Cover = tuple[RouteFragment, int]


def find_hidden(governing: Governing) -> Mapping[Place, Cover]:
    """Each rule that is never met on a port, with a rule that takes its requests."""
    first: dict[Match, Cover] = {}
    hidden: dict[Place, Cover] = {}
    for route in governing.routes:
        for rule in route.rules:
            own = (route, rule.index)
            takers = [first.setdefault(match, own) for match in _single_matches(rule)]
            if all(taker is not own for taker in takers):
                hidden[route.ref, rule.index] = takers[0]
    return hidden


def _single_matches(rule: RouteRule) -> Iterator[Match]:
    """What a rule is met by, each alone: at least one; in whatever order its parts stand."""
    for match in rule.matches or (Match(),):
        if match.sni:
            yield from (Match(sni=(name,)) for name in match.sni)
        elif len(match.headers) > 1 or len(match.query) > 1:
            headers, query = (
                tuple(sorted(parts, key=attrgetter("name")))
                for parts in (match.headers, match.query)
            )
            yield replace(match, headers=headers, query=query)
        else:
            yield match
