"""What proxies count and how counts merge: cumulative counters and log-linear histograms.

A proxy sends its series whole, cumulative since its start, so that a lost report loses
nothing; the receiver subtracts. Histograms are sparse and log-linear: 32 buckets an octave,
so a quantile read from one is within 2.2 % of the true sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, field

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


class SeriesKey(Struct, frozen=True):
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


class Counts(Struct):
    """Cumulative counts of one series. `open` is a gauge; bytes are of both directions.

    `born` and `last` are seconds on the proxy's monotonic clock: when the series was made
    and when its newest request ended (0.0: not kept). They make rates exact where traffic
    began or ended between two reports.
    """

    requests: int = 0
    successes: int = 0
    failures: int = 0
    latency: dict[int, int] = field(default_factory=dict)
    opened: int = 0
    open: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    born: float = 0.0
    last: float = 0.0
    retried: int = 0  # tries that failed and were followed by another one

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
            born=self.born,
            last=self.last,
            retried=self.retried - earlier.retried,
        )


def merge(parts: Iterable[Counts]) -> Counts:
    """The sum of several series: born with the first of them, last seen with the last."""
    total = Counts()
    for part in parts:
        total.requests += part.requests
        total.successes += part.successes
        total.failures += part.failures
        total.opened += part.opened
        total.open += part.open
        total.read_bytes += part.read_bytes
        total.written_bytes += part.written_bytes
        total.retried += part.retried
        total.last = max(total.last, part.last)
        if part.born:
            total.born = min(total.born or part.born, part.born)
        for bucket, count in part.latency.items():
            total.latency[bucket] = total.latency.get(bucket, 0) + count
    return total


class Series(Struct, frozen=True):
    """One key with its counts, as it travels."""

    key: SeriesKey
    counts: Counts


class Report(Struct, frozen=True):
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


class WindowReport(Struct, frozen=True):
    """What one proxy did in a window: the answer's unit of destination's GET /v1/reports.

    `series` are increments (gauges as they are now); series that neither changed nor hold a
    connection are left out. `started` and `ended` bound what was observed, on the proxy's
    clock; `whole` says that the history reaches back to the window's start. `age` is how
    many seconds ago the newest report came. A pod whose proxy restarted has one of these
    per incarnation.
    """

    namespace: str
    pod: str
    started: float
    ended: float
    age: float
    whole: bool
    series: tuple[Series, ...] = ()
    workload: str = ""  # "deployment/web", as in Endpoint
    incarnation: str = ""


class ReportsAnswer(Struct, frozen=True):
    """The body of GET /v1/reports?window=SECONDS on destination's admin port."""

    window: float
    reports: tuple[WindowReport, ...] = ()


class ProxyStatus(Struct, frozen=True):
    """One connected proxy as destination sees it.

    `sent` is the newest version of its view that was sent, `acked` the newest in force;
    `behind` is how many seconds the oldest update waits for its acknowledgement (0.0: none).
    """

    namespace: str
    pod: str
    version: str = ""
    sent: int = 0
    acked: int = 0
    bundle_hash: str = ""
    leaf_not_after: float = 0.0  # unix seconds, 0.0: not told yet
    connected: float = 0.0  # seconds since the stream was accepted
    behind: float = 0.0


class WatchStatus(Struct, frozen=True):
    """How a destination hears of one kind. `silent`: seconds since the API server's last word.

    `frozen` counts streams that fell silent without an end; the last was noticed `thawed`
    seconds ago. `pod` is filled in by whoever asked it.
    """

    resource: str
    silent: float
    frozen: int = 0
    thawed: float = 0.0
    pod: str = ""


class ProxiesAnswer(Struct, frozen=True):
    """The body of GET /v1/proxies on destination's admin port, with the bundle in force."""

    bundle_hash: str
    proxies: tuple[ProxyStatus, ...] = ()
    watches: tuple[WatchStatus, ...] = ()


class ProxyAnswer(Struct, frozen=True):
    """What one proxy said to a person's question: JSON as text."""

    namespace: str
    pod: str
    body: str


class AskedAnswer(Struct, frozen=True):
    """The body of GET /v1/ask on destination's admin port: the proxies that answered."""

    answers: tuple[ProxyAnswer, ...] = ()


def window_of(
    history: Sequence[tuple[float, Report]],
    *,
    namespace: str,
    pod: str,
    workload: str,
    now: float,
    window: float,
) -> WindowReport | None:
    """What the reports of one incarnation, oldest first, say of the last `window` seconds.

    `history` pairs each report with the time it came, on the clock of `now`. The baseline
    is the newest report from before the window, else the oldest one there is. None when no
    report came within the window.
    """
    if not history or history[-1][0] < now - window:
        return None
    before = [index for index, (came, _) in enumerate(history) if came <= now - window]
    first = history[before[-1] if before else 0][1]
    came, newest = history[-1]
    opening = newest.at - window - (now - came)  # the window's start on the proxy's clock
    earlier = {series.key: series.counts for series in first.series}
    started = first.at
    increments = []
    for series in newest.series:
        counts = series.counts
        old = earlier.get(series.key)
        if old is not None and not before and counts.born >= opening and counts.born > 0:
            old = None  # born in the window, before the first report that we hold
            started = min(started, counts.born)
        rise = counts.since(old)
        if rise.requests or rise.opened or rise.open or rise.read_bytes or rise.written_bytes:
            increments.append(Series(series.key, rise))
    return WindowReport(
        namespace=namespace,
        pod=pod,
        started=started,
        ended=newest.at,
        age=now - came,
        whole=bool(before),
        series=tuple(increments),
        workload=workload,
        incarnation=newest.incarnation,
    )
