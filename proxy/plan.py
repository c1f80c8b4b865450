"""Where requests of one rule, backend and route class go: all that is known before one comes.

A plan is made on the first request that needs it and thrown away with its view. What a rule
does not use is None here, and costs a request one look.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from mesh.core.model import Backend, Policy, Retry, Source
from mesh.core.route import CompiledClass, NoBackend, RuleWeights, failure_status, settle
from proxy.answer import Outcome, origin_of
from proxy.backends import BackendState
from proxy.budget import RetryBudget
from proxy.filters import FilterSet, compile_filters
from proxy.hop import Hop
from proxy.telemetry import HttpSeries

CANONICAL: Final = b"l5d-dst-canonical"  # which service was addressed, for the peer's proxy
DENIALS: Final = {
    NoBackend.NO_RULE: Outcome.NO_RULE,
    NoBackend.NO_WEIGHT: Outcome.NO_WEIGHT,
    NoBackend.NO_SERVICE: Outcome.NO_SERVICE,
    NoBackend.NO_ENDPOINTS: Outcome.NO_ENDPOINTS,
    NoBackend.INVALID_BACKEND: Outcome.INVALID_BACKEND,
}
_FROM_RULE: Final = {  # denials whose status is the rule's to say
    Outcome.NO_WEIGHT: NoBackend.NO_WEIGHT,
    Outcome.NO_SERVICE: NoBackend.NO_SERVICE,
    Outcome.INVALID_BACKEND: NoBackend.INVALID_BACKEND,
}


class Routed(Protocol):
    """The original destination that a plan belongs to."""

    def redraw(self, plan: Plan) -> Plan: ...


class Plan:
    """See the module. `drawn` is the rule with its weights, None where there is no rule."""

    __slots__ = (
        "apex",
        "backend",
        "budget",
        "denial",
        "drawn",
        "extra",
        "filters",
        "found",
        "has_timers",
        "is_failure",
        "is_watched",
        "leaf",
        "origin",
        "policy",
        "profile",
        "retry",
        "route",
        "series",
        "state",
        "statuses",
    )

    def __init__(
        self,
        *,
        apex: str,
        leaf: str,
        backend: BackendState,
        budget: RetryBudget,
        state: Routed | None = None,
        drawn: RuleWeights | None = None,
        chosen: Backend | None = None,
        found: CompiledClass | None = None,
        profile: Source | None = None,
        denial: Outcome | None = None,
    ) -> None:
        rule = drawn.rule if drawn is not None else None
        self.apex = apex
        self.extra = [CANONICAL, b": ", apex.encode(), b"\r\n"] if apex else []
        self.leaf = leaf
        self.profile = f"{profile.namespace}/{profile.name}" if profile and found else ""
        self.backend = backend
        self.budget = budget
        self.state = state
        self.drawn = drawn
        self.denial = denial
        self.found = found
        self.origin = origin_of(rule, apex)
        self.route = found.route.name if found is not None else ""
        self.is_failure: Callable[[int], bool | None] | None = (
            found.is_failure if found is not None and found.route.response_classes else None
        )
        self.policy: Policy = settle(rule, found.route if found is not None else None)
        self.has_timers = self.policy != Policy(retry=self.policy.retry)
        self.retry: Retry | None = self.policy.retry
        self.statuses = self._retried_statuses()
        self.filters: FilterSet | None = compile_filters(
            rule.filters if rule is not None else None,
            chosen.filters if chosen is not None else None,
        )
        changes = self.filters is not None and self.filters.changes_response
        self.is_watched = self.retry is not None or self.has_timers or changes
        self.series: dict[Hop | None, HttpSeries] = {}

    @property
    def timeout(self) -> float | None:
        """Seconds for a whole request, retries included."""
        return self.policy.request

    def failed(self, status: int) -> bool:
        """Whether a response counts as failure: by the route's classes, else 5xx."""
        found = self.is_failure(status) if self.is_failure is not None else None
        return status >= 500 if found is None else found

    def why_nobody(self) -> tuple[Outcome, int]:
        """Why there is no endpoint to ask, and the status to say so with."""
        outcome = self.denial or self.backend.why_empty()
        reason = _FROM_RULE.get(outcome)
        if reason is None:
            return outcome, outcome.value.status
        return outcome, failure_status(self.drawn.rule if self.drawn is not None else None, reason)

    def _retried_statuses(self) -> frozenset[int]:
        retry = self.retry
        if retry is None:
            return frozenset()
        listed = {
            status for low, high in retry.statuses for status in range(low, min(high, 599) + 1)
        }
        if retry.on_failure:
            listed |= {status for status in range(100, 600) if self.failed(status)}
        return frozenset(listed)
