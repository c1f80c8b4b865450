"""What proxies count and how counts merge: cumulative counters and log-linear histograms.

A proxy sends its series whole, cumulative since its start, so that a lost report loses
nothing; the receiver subtracts. Histograms are sparse and log-linear: 32 buckets an octave,
so a quantile read from one is within 2.2 % of the true sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

STEPS = 32  # buckets per doubling
_FLOOR = 1e-6  # seconds; everything faster shares bucket 0
REPORT_INTERVAL = 5.0  # seconds between reports of a proxy


def bucket_of(seconds: float) -> int:
    """The bucket of a duration: 0 up to a microsecond, then 32 a doubling."""
    if seconds <= _FLOOR:
        return 0
    return 1 + int(math.log2(seconds / _FLOOR) * STEPS)


def bucket_middle(bucket: int) -> float:
    """The geometric middle of a bucket, in seconds."""
    return _FLOOR if bucket <= 0 else _FLOOR * float(2.0 ** ((bucket - 0.5) / STEPS))


def quantile(buckets: Mapping[int, int], q: float) -> float | None:
    """The q-quantile (0 to 1) in seconds, None of an empty histogram."""
    total = sum(buckets.values())
    if total <= 0:
        return None
    rank = max(1, math.ceil(q * total))
    seen = 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen >= rank:
            return bucket_middle(bucket)
    return None


@dataclass(frozen=True, slots=True)
class SeriesKey:
    """What one series counts. All values are names of objects, never text from a client.

    `apex` is the authority that was addressed (outbound) or served (inbound, where known);
    `leaf` the backend that a split chose. `peer_*` is the far end: the endpoint outbound, the
    client's identity inbound. `route` is the ServiceProfile route ("" for none matched).
    """

    direction: str  # inbound | outbound
    kind: str  # http | tcp
    apex: str = ""
    leaf: str = ""
    port: int = 0  # inbound: the port of this pod
    peer_pod: str = ""
    peer_namespace: str = ""
    peer_workload: str = ""
    peer_identity: str = ""
    route: str = ""
    profile: str = ""  # namespace/name of the ServiceProfile behind `route`
    tls: bool = False


@dataclass(slots=True)
class Counts:
    """Cumulative counts of one series. `open` is a gauge; bytes are of both directions."""

    requests: int = 0
    successes: int = 0
    failures: int = 0
    latency: dict[int, int] = field(default_factory=dict)
    opened: int = 0
    open: int = 0
    read_bytes: int = 0
    written_bytes: int = 0

    def since(self, earlier: Counts | None) -> Counts:
        """The increase over `earlier`; gauges as they are now."""
        if earlier is None:
            return self
        return Counts(
            requests=self.requests - earlier.requests,
            successes=self.successes - earlier.successes,
            failures=self.failures - earlier.failures,
            latency={
                bucket: count - earlier.latency.get(bucket, 0)
                for bucket, count in self.latency.items()
                if count > earlier.latency.get(bucket, 0)
            },
            opened=self.opened - earlier.opened,
            open=self.open,
            read_bytes=self.read_bytes - earlier.read_bytes,
            written_bytes=self.written_bytes - earlier.written_bytes,
        )


def merge(parts: Iterable[Counts]) -> Counts:
    """The sum of several series."""
    total = Counts()
    for part in parts:
        total.requests += part.requests
        total.successes += part.successes
        total.failures += part.failures
        total.opened += part.opened
        total.open += part.open
        total.read_bytes += part.read_bytes
        total.written_bytes += part.written_bytes
        for bucket, count in part.latency.items():
            total.latency[bucket] = total.latency.get(bucket, 0) + count
    return total


@dataclass(frozen=True, slots=True)
class Series:
    """One key with its counts, as it travels."""

    key: SeriesKey
    counts: Counts


@dataclass(frozen=True, slots=True)
class Report:
    """All series of one proxy at one moment.

    `incarnation` changes when the proxy restarts (its counts start at 0 again); `at` is
    seconds on the proxy's own monotonic clock.
    """

    incarnation: str
    at: float
    series: tuple[Series, ...] = ()
    version: str = ""  # of the proxy
    view_version: int = 0
    bundle_hash: str = ""  # sha256 of the bundle in use
    leaf_not_after: float = 0.0  # unix seconds
