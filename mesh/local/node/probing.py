"""Counting probe attempts until they mean something. Pure.

Before the first success an HTTP, TCP or gRPC probe is tried more often than its period, because
a pod that waits ten seconds for its second attempt keeps a person waiting. Only attempts a period
apart count as failures, the first one a period after the start: an application has periodSeconds
times failureThreshold to come up, as Kubernetes' documentation says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_EAGER_FIRST, _EAGER_LONGEST = 0.05, 0.15  # seconds


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one attempt means: `passing` None is undecided; `counted` failures make an event."""

    passing: bool | None
    counted: bool
    next_at: float


class Counter:
    """The attempts of one probe of one container run. Times are loop times in seconds.

    `first_at` is when the first attempt is due.
    """

    def __init__(self, probe: Mapping[str, Any], *, now: float, eager: bool = True) -> None:
        self.delay = float(probe.get("initialDelaySeconds") or 0)
        self.period = float(probe.get("periodSeconds") or 10)
        self._success = int(probe.get("successThreshold") or 1)
        self._failure = int(probe.get("failureThreshold") or 3)
        self._eager = eager and "exec" not in probe
        self._pause = _EAGER_FIRST
        self.first_at = now + self.delay
        self._due = self.first_at + (self.period if self._eager else 0.0)
        self._successes = 0
        self._failures = 0
        self._passed_once = False

    def noted(self, ok: bool, *, now: float) -> Verdict:
        """Count one attempt that ended at `now`."""
        counted = now >= self._due
        if counted:
            self._due = max(self._due + self.period, now)
        if ok:
            self._successes += 1
            self._failures = 0
            self._passed_once = self._passed_once or self._successes >= self._success
            passing = True if self._successes >= self._success else None
            return Verdict(passing, counted, self._due)
        self._successes = 0
        if counted:
            self._failures += 1
        passing = False if self._failures >= self._failure else None
        if self._passed_once or not self._eager:
            return Verdict(passing, counted, self._due)
        pause, self._pause = self._pause, min(self._pause * 2, _EAGER_LONGEST)
        return Verdict(passing, counted, min(self._due, now + pause))
