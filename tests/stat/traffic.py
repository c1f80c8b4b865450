"""A proxy that counts a constant rate and reports every five seconds, without a clock."""

from __future__ import annotations

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

    def times(self) -> list[float]:
        number = round((self.end - self.begin) * self.rate)
        return [self.begin + index / self.rate for index in range(number)]

    def report_at(self, now: float) -> Report:
        done = [t for t in self.times() if t + self.latency <= now]
        if not done:
            return Report("a", now + self.clock)
        failures = len(done) // self.failure_every if self.failure_every else 0
        counts = Counts(
            requests=len(done),
            successes=len(done) - failures,
            failures=failures,
            latency={bucket_of(self.latency): len(done)},
            opened=1,
            open=1,
            born=self.clock + done[0] if self.kept else 0.0,
            last=self.clock + done[-1] + self.latency if self.kept else 0.0,
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
