"""Request head + target + a draw -> rule and backend; and the route class of a request. Pure.

The evaluator that the proxy runs and `explain` replays. A rule's weights decide alone: a
backend without endpoints, or that does not exist, still gets its share, which then fails
visibly (`Choice.denial`); it never moves to the others. What governs a request in time is
settled here too: what its rule says, then its route class, then its Service.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Final, TypeVar

from mesh.core.match import (
    CompilePattern,
    Head,
    HeadTest,
    NameTest,
    compile_condition,
    compile_matches,
    compile_names,
    compile_response_classes,
)
from mesh.core.model import Backend, Policy, Retry, RouteClass, Rule, Service, Target

T = TypeVar("T")

# What `isRetryable` of a ServiceProfile means: budget and timeout bound it (Linkerd).
CLASS_RETRY: Final = Retry(limit=None, on_reset=True, on_timeout=True, on_failure=True)
_SILENT: Final = Policy()


class NoBackend(StrEnum):
    """Why a request has nowhere to go; words for `mesh-reason` and metrics."""

    NO_RULE = "no-rule"
    NO_WEIGHT = "no-weight"
    NO_SERVICE = "no-service"
    NO_ENDPOINTS = "no-endpoints"
    INVALID_BACKEND = "invalid-backend"


@dataclass(frozen=True, slots=True)
class Choice:
    """What became of one request: the rule it met and the backend it drew.

    `service` is the backend's Service; with `denial` set it cannot serve, or is unknown.
    Neither backend nor denial: the rule answers by itself (a redirect).
    """

    rule: Rule | None
    backend: Backend | None = None
    service: Service | None = None
    denial: NoBackend | None = None


class RouteTable:
    """The rules and route classes of one target, compiled. Immutable after construction."""

    __slots__ = ("_classes", "_connections", "_rules", "is_simple", "target")

    def __init__(self, target: Target, pattern: CompilePattern) -> None:
        self.target = target
        self._rules: list[tuple[HeadTest | None, RuleWeights]] = [
            (compile_matches(rule.matches, pattern), RuleWeights(rule)) for rule in target.rules
        ]
        # For what is not read as HTTP: the rules for it, else the last of the others.
        self._connections: list[tuple[NameTest | None, RuleWeights]] = [
            (compile_names(rule.matches), RuleWeights(rule)) for rule in target.connections
        ] or [(None, weights) for _, weights in self._rules[-1:]]
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

    def find_connection(self, server_name: str = "") -> RuleWeights | None:
        """The rule of a connection that is not read as HTTP; with the name that its ClientHello
        carries, if it has one (RFC 6066 §3)."""
        name = server_name.lower()
        for test, rule in self._connections:
            if test is None or test(name):
                return rule
        return None

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

    __slots__ = ("_bounds", "_total", "only", "redirects", "rule")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._bounds = list(accumulate(backend.weight for backend in rule.backends))
        self._total = self._bounds[-1] if self._bounds else 0
        weighted = [backend for backend in rule.backends if backend.weight > 0]
        # The one backend that gets everything, where drawing is pointless.
        self.only: Backend | None = weighted[0] if len(weighted) == 1 else None
        # Whether the rule answers by itself, so that no backend is asked.
        self.redirects = rule.filters is not None and rule.filters.redirect is not None

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
    if found.redirects:
        return Choice(found.rule)
    backend = found.draw_backend(draw)
    if backend is None:
        return Choice(found.rule, denial=NoBackend.NO_WEIGHT)
    service = services.get(backend.authority)
    return Choice(found.rule, backend, service, why_not(service, backend))


def why_not(service: Service | None, backend: Backend | None = None) -> NoBackend | None:
    """Why a Service, or a backend that it stands behind, cannot serve; None when it can."""
    if backend is not None and backend.refused:
        return NoBackend.INVALID_BACKEND
    if service is None or not service.exists:
        return NoBackend.NO_SERVICE
    if not service.endpoints:
        return NoBackend.NO_ENDPOINTS
    return None


def failure_status(rule: Rule | None, denial: NoBackend) -> int:
    """What a request gets that found no backend: no rule 404, no endpoint 503, else the rule's."""
    if denial is NoBackend.NO_RULE:
        return 404
    if rule is None or denial is NoBackend.NO_ENDPOINTS:
        return 503
    return rule.failure


def settle(rule: Rule | None, route: RouteClass | None) -> Policy:
    """The timeouts and retries in force for requests of a rule and route class.

    Each part comes from the first that says something: the rule, the class, the Service. None
    in the result means without; a `Retry` in it allows at least one.
    """
    own = (rule.policy if rule is not None else None) or _SILENT
    base = (rule.defaults if rule is not None else None) or _SILENT
    overlay = _SILENT
    if route is not None:
        retry = CLASS_RETRY if route.retryable else None
        overlay = Policy(request=route.timeout, retry=retry)
    retry = _first(own.retry, overlay.retry, base.retry)
    return Policy(
        request=_first(own.request, overlay.request, base.request) or None,
        attempt=_first(own.attempt, base.attempt) or None,
        headers=_first(own.headers, base.headers) or None,
        response=_first(own.response, base.response) or None,
        idle=_first(own.idle, base.idle) or None,
        stream=_first(own.stream, base.stream) or None,
        retry=None if retry is None or retry.limit == 0 else retry,
    )


def _first(*values: T | None) -> T | None:
    return next((value for value in values if value is not None), None)
