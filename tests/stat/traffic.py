"""A proxy that counts a constant rate and reports every five seconds, without a clock."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from mesh.core.report import (
    REPORT_INTERVAL,
    Counts,
    Report,
    Series,
    SeriesKey,
    WindowReport,
    bucket_of,
    window_of,
)

INBOUND = SeriesKey("inbound", "http", apex="web.shop.svc.cluster.local:80", port=8080)


@dataclass
class ProxySim:
    """Counts as a proxy does: request number i begins at `begin + i / rate` seconds.

    `clock` is added to get the proxy's own monotonic time; `phase` shifts its reports.
    """

    pod: str
    rate: float
    begin: float
    end: float
    started: float = 0.0
    phase: float = 0.0
    clock: float = 5000.0
    latency: float = 0.004
    failure_every: int = 0
    key: SeriesKey = INBOUND
    workload: str = "deployment/web"
    kept: bool = True  # whether born and last are filled in
    history: list[tuple[float, Report]] = field(default_factory=list)

    def done_at(self, now: float) -> int:
        """Requests that have ended by `now`."""
        number = math.floor((now - self.latency - self.begin) * self.rate + 1e-6) + 1
        return max(0, min(number, round((self.end - self.begin) * self.rate)))

    def report_at(self, now: float) -> Report:
        done = self.done_at(now)
        if not done:
            return Report("a", now + self.clock)
        failures = done // self.failure_every if self.failure_every else 0
        last = self.begin + (done - 1) / self.rate + self.latency
        counts = Counts(
            requests=done,
            successes=done - failures,
            failures=failures,
            latency={bucket_of(self.latency): done},
            opened=1,
            open=1,
            born=self.clock + self.begin if self.kept else 0.0,
            last=self.clock + last if self.kept else 0.0,
        )
        return Report("a", now + self.clock, (Series(self.key, counts),))

    def window(self, now: float, seconds: float = 60.0) -> WindowReport | None:
        """What destination says at `now`, having kept every report since the proxy's start."""
        moment, history = self.started + self.phase, []
        while moment <= now:
            history.append((moment, self.report_at(moment)))
            moment += REPORT_INTERVAL
        return window_of(
            history, namespace="shop", pod=self.pod, workload=self.workload, now=now, window=seconds
        )
