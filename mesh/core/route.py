"""Request head + target + a draw -> rule and backend; and the route class of a request. Pure.

The evaluator that the proxy runs and `explain` replays. A rule's weights decide alone: a
backend without endpoints, or that does not exist, still gets its share, which then fails
visibly (`Choice.denial`); it never moves to the others.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate

from mesh.core.match import (
    CompilePattern,
    Head,
    HeadTest,
    compile_condition,
    compile_matches,
    compile_response_classes,
)
from mesh.core.model import Backend, RouteClass, Rule, Service, Target


class NoBackend(StrEnum):
    """Why a request has nowhere to go; words for `mesh-reason` and metrics."""

    NO_RULE = "no-rule"
    NO_WEIGHT = "no-weight"
    NO_SERVICE = "no-service"
    NO_ENDPOINTS = "no-endpoints"


@dataclass(frozen=True, slots=True)
class Choice:
    """What became of one request: the rule it met and the backend it drew.

    `service` is the backend's Service; with `denial` set it cannot serve, or is unknown.
    """

    rule: Rule | None
    backend: Backend | None = None
    service: Service | None = None
    denial: NoBackend | None = None


class RouteTable:
    """The rules and route classes of one target, compiled. Immutable after construction."""

    __slots__ = ("_classes", "_rules", "is_simple", "target")

    def __init__(self, target: Target, pattern: CompilePattern) -> None:
        self.target = target
        self._rules: list[tuple[HeadTest | None, RuleWeights]] = [
            (compile_matches(rule.matches, pattern), RuleWeights(rule)) for rule in target.rules
        ]
        profile = target.profile
        self._classes = [
            CompiledClass(route, compile_condition(route.condition, pattern))
            for route in (profile.routes if profile is not None else ())
        ]
        # Whether the first rule is met by every request, so that heads need not be looked at.
        self.is_simple = bool(self._rules) and self._rules[0][0] is None

    @property
    def has_classes(self) -> bool:
        return bool(self._classes)

    def first_rule(self) -> RuleWeights:
        return self._rules[0][1]

    def last_rule(self) -> RuleWeights:
        return self._rules[-1][1]

    def find_rule(self, head: Head) -> RuleWeights | None:
        """The first rule that the request meets."""
        for test, rule in self._rules:
            if test is None or test(head):
                return rule
        return None

    def find_class(self, head: Head) -> CompiledClass | None:
        """The first route class that the request meets; it names, it never moves a request."""
        for entry in self._classes:
            if entry.test(head):
                return entry
        return None


class CompiledClass:
    """A route class with its tests."""

    __slots__ = ("is_failure", "route", "test")

    def __init__(self, route: RouteClass, test: HeadTest) -> None:
        self.route = route
        self.test = test
        self.is_failure = compile_response_classes(route)


class RuleWeights:
    """A rule with its weights summed up, for drawing."""

    __slots__ = ("_bounds", "_total", "only", "rule")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._bounds = list(accumulate(backend.weight for backend in rule.backends))
        self._total = self._bounds[-1] if self._bounds else 0
        weighted = [backend for backend in rule.backends if backend.weight > 0]
        # The one backend that gets everything, where drawing is pointless.
        self.only: Backend | None = weighted[0] if len(weighted) == 1 else None

    def draw_backend(self, draw: float) -> Backend | None:
        """The backend at `draw` (0 <= draw < 1) of the summed weights; None: all weights 0."""
        if self.only is not None:
            return self.only
        if self._total <= 0:
            return None
        return self.rule.backends[bisect_right(self._bounds, draw * self._total)]


def choose(table: RouteTable, head: Head, draw: float, services: Mapping[str, Service]) -> Choice:
    """Route one request: rule, backend, Service, or why there is none."""
    found = table.find_rule(head)
    if found is None:
        return Choice(None, denial=NoBackend.NO_RULE)
    backend = found.draw_backend(draw)
    if backend is None:
        return Choice(found.rule, denial=NoBackend.NO_WEIGHT)
    service = services.get(backend.authority)
    return Choice(found.rule, backend, service, why_not(service))


def why_not(service: Service | None) -> NoBackend | None:
    """Why a Service cannot serve, or None when it can."""
    if service is None or not service.exists:
        return NoBackend.NO_SERVICE
    if not service.endpoints:
        return NoBackend.NO_ENDPOINTS
    return None
