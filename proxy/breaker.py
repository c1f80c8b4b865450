"""Failures -> admit, probe or reject one endpoint. Pure.

After so many failures in a row an endpoint is asked nothing for a while; then one request
may find out. If it fails too, the wait doubles. Waits are drawn longer by up to `jitter` of
themselves, so that many proxies do not probe at the same moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Admission(Enum):
    """What may be sent to an endpoint."""

    ADMIT = auto()
    PROBE = auto()  # this one request, to learn
    REJECT = auto()


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When to stop asking, and for how many seconds. `probes` False: after the wait everything
    is let through at once (Istio's ejection)."""

    max_failures: int = 7
    min_backoff: float = 1.0
    max_backoff: float = 60.0
    jitter: float = 0.5
    probes: bool = True


class Breaker:
    """The consecutive-failure breaker of one endpoint. The caller passes time and draws.

    Closed it counts; open it waits; then one probe is out, whose answer decides. Answers to
    requests from before it opened change nothing.
    """

    __slots__ = ("_backoff", "_failures", "_is_probing", "_policy", "probe_at")

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._failures = 0
        self._backoff = 0.0  # the wait in force, without its jitter
        self._is_probing = False
        self.probe_at: float | None = None  # when to let one through; None while closed

    def admit(self, now: float) -> Admission:
        """What may be sent now. A probe that never ends lets another one through in time."""
        if self.probe_at is None:
            return Admission.ADMIT
        if now < self.probe_at:
            return Admission.REJECT
        if not self._policy.probes:
            self._close()
            return Admission.ADMIT
        self._is_probing = True
        self.probe_at = now + self._backoff
        return Admission.PROBE

    def succeeded(self) -> bool:
        """Take a success. Whether it closed the breaker."""
        if self.probe_at is None:
            self._failures = 0
            self._backoff = 0.0
            return False
        if not self._is_probing:
            return False
        self._close()
        self._backoff = 0.0
        return True

    def failed(self, now: float, draw: float = 0.0) -> bool:
        """Take a failure; `draw` is random, 0 <= draw < 1. Whether it opened the breaker,
        again or for the first time."""
        if self.probe_at is not None and not self._is_probing:
            return False
        self._failures += 1
        if self.probe_at is None and self._failures < self._policy.max_failures:
            return False
        policy = self._policy
        self._backoff = min(policy.max_backoff, self._backoff * 2 or policy.min_backoff)
        self._is_probing = False
        self.probe_at = now + min(policy.max_backoff, self._backoff * (1.0 + policy.jitter * draw))
        return True

    def _close(self) -> None:
        self._failures = 0
        self._is_probing = False
        self.probe_at = None
