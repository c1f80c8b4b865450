"""What destination counts about itself, for Prometheus. Label values are from fixed sets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_FAILURES: Final = frozenset(
    (
        "refused",
        "timeout",
        "reset",
        "unreachable",
        "connect-failed",
        "tls-failed",
        "tls-closed",
        "wrong-identity",
        "refused-by-peer",
        "unknown-authority",
        "certificate-expired",
    )
)
_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """All metrics of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.streams = Gauge(
            "destination_streams", "Proxies connected to this replica.", registry=registry
        )
        self.updates = Counter("destination_updates", "Updates sent to proxies.", registry=registry)
        self.refused = Counter(
            "destination_refused", "Streams refused, by reason.", ["reason"], registry=registry
        )
        self.failures = Counter(
            "destination_connect_failures",
            "Endpoints that proxies could not reach, by reason.",
            ["reason"],
            registry=registry,
        )
        self.bugs = Counter(
            "destination_bugs", "Errors that nobody foresaw; see the log.", registry=registry
        )
        self.compile_seconds = Histogram(
            "destination_compile_seconds",
            "Seconds to compile one batch of changes.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self.push_seconds = Histogram(
            "destination_push_seconds",
            "Seconds from a new snapshot until every proxy that it concerns was written to.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self.objects = Gauge(
            "destination_objects",
            "Routing objects by verdict.",
            ["verdict"],
            registry=registry,
        )
        self.watch_relists = Counter(
            "destination_watch_relists", "Lists read by watches.", ["resource"], registry=registry
        )
        self.watch_failures = Counter(
            "destination_watch_failures", "Failed watch requests.", ["resource"], registry=registry
        )
        self.watch_events = Counter(
            "destination_watch_events", "Changes seen by watches.", ["resource"], registry=registry
        )

    def count_failure(self, reason: str) -> None:
        self.failures.labels(reason if reason in _FAILURES else "other").inc()

    def count_verdicts(self, verdicts: Iterable[str]) -> None:
        counts: dict[str, int] = {}
        for verdict in verdicts:
            counts[verdict] = counts.get(verdict, 0) + 1
        for verdict in ("Effective", "Partial", "Shadowed", "Rejected"):
            self.objects.labels(verdict).set(counts.get(verdict, 0))
