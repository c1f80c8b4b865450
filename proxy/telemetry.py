"""What one proxy counts: series bound once per target and endpoint, plain ints after that.

Label values are names of objects and addresses that discovery gave, never text from a
client. The text for Prometheus is written by `exposition`, the reports for destination are
built here; both come from the same series.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import log2
from time import monotonic
from typing import Final, Protocol

import mesh
from mesh.core.errors import PeerError
from mesh.core.report import STEPS, Counts, Report, Series, SeriesKey, bucket_middle, merge
from mesh.runtime.bundle import hash_bundle
from proxy.observed import Observed
from proxy.seams import Credentials, Discovery
from proxy.verdicts import Detection

# Linkerd's buckets of response_latency_ms, in seconds.
BOUNDS_MS: Final = tuple(
    base * scale for scale in (1, 10, 100, 1000, 10000) for base in (1, 2, 3, 4, 5)
)
BOUNDS: Final = tuple(bound / 1000 for bound in BOUNDS_MS)
FOLD: Final = 256  # latencies kept before they are counted
GAVE_UP: Final = "client-gone"  # the error of a request whose client hung up
_SHIFT: Final = STEPS.bit_length() - 1  # STEPS is a power of two
_MASK: Final = STEPS - 1
_NONE: Final = bytes(8 * STEPS)
MAX_SERIES: Final = 2000  # further ones share a series of their direction, kind and target

Labels = tuple[tuple[str, str], ...]


class Cell:
    """Responses of one status in one series."""

    __slots__ = ("_count", "_doublings", "_sum", "error", "failed", "new", "status")

    def __init__(self, status: int, error: str, failed: bool) -> None:
        self.status = status
        self.error = error
        self.failed = failed
        self.new: list[float] = []  # seconds of responses not yet counted below
        self._count = 0
        self._sum = 0.0
        # The counts of STEPS buckets each: a dict of buckets has 80 bytes for each of hundreds,
        # and grows for hours as rare ones come.
        self._doublings: dict[int, array[int]] = {}

    def fold(self) -> None:
        """Count what is new."""
        new, self.new = self.new, []
        self._count += len(new)
        self._sum += sum(new)
        doublings = self._doublings
        for seconds in new:
            # mesh.core.report.bucket_of, written out: this runs once per request
            bucket = 1 + int(log2(seconds * 1e6) * STEPS) if seconds > 1e-6 else 0
            try:
                doublings[bucket >> _SHIFT][bucket & _MASK] += 1
            except KeyError:
                doublings[bucket >> _SHIFT] = counts = array("Q", _NONE)
                counts[bucket & _MASK] = 1

    @property
    def count(self) -> int:
        return self._count + len(self.new)

    @property
    def latency(self) -> dict[int, int]:
        """Log-linear buckets, as `mesh.core.report` has them."""
        self.fold()
        return {
            doubling * STEPS + at: count
            for doubling, counts in self._doublings.items()
            for at, count in enumerate(counts)
            if count
        }

    @property
    def sum(self) -> float:
        """Seconds of all responses together."""
        self.fold()
        return self._sum

    def up_to(self, bounds: Sequence[float]) -> list[int]:
        """Responses that took at most so many seconds, for each bound; within 2.2 %."""
        counts = [0] * len(bounds)
        for bucket, count in self.latency.items():
            at = bisect_left(bounds, bucket_middle(bucket))
            if at < len(counts):
                counts[at] += count
        return list(accumulate(counts))


class HttpSeries:
    """Requests of one target, endpoint and route."""

    __slots__ = ("born", "cells", "key", "labels", "last", "requests", "retried")

    def __init__(self, key: SeriesKey, labels: Labels) -> None:
        self.born = monotonic()
        self.last = 0.0
        self.key = key
        self.labels = labels
        self.requests = 0
        self.retried = 0  # tries that failed and were followed by another one
        self.cells: dict[object, Cell] = {}

    def record(self, status: int, failed: bool, error: str, began: float, now: float) -> None:
        """Count one request: when its head came and when its response ended (monotonic)."""
        key: object = (status, failed, error) if error or failed else status
        cell = self.cells.get(key)
        if cell is None:
            cell = self.cells[key] = Cell(status, error, failed)
        new = cell.new
        new.append(now - began)
        if len(new) >= FOLD:
            cell.fold()
        if error != GAVE_UP:
            self.last = now

    def counts(self) -> Counts:
        """As it travels. A request that its client gave up is neither success nor failure."""
        told = [cell for cell in self.cells.values() if cell.error != GAVE_UP]
        failures = sum(cell.count for cell in told if cell.failed)
        requests = sum(cell.count for cell in told)
        latency: dict[int, int] = {}
        for cell in told:
            for bucket, count in cell.latency.items():
                latency[bucket] = latency.get(bucket, 0) + count
        return Counts(
            requests=requests,
            successes=requests - failures,
            failures=failures,
            latency=latency,
            born=self.born,
            last=self.last,
            retried=self.retried,
        )


class Counted(Protocol):
    """A connection that counts its bytes; read is from the far end."""

    read_bytes: int
    written_bytes: int


class TcpSeries:
    """Connections of one kind with one peer; `peer` is src (to us) or dst (by us)."""

    __slots__ = ("_read", "_written", "closed", "key", "labels", "open", "opened", "peer")

    def __init__(self, key: SeriesKey, labels: Labels, peer: str) -> None:
        self.key = key
        self.labels = labels
        self.peer = peer
        self.opened = 0
        self.open: set[Counted] = set()
        self.closed: dict[str, int] = {}  # by errno, "" for none
        self._read = 0
        self._written = 0

    def add(self, connection: Counted) -> None:
        self.opened += 1
        self.open.add(connection)

    def remove(self, connection: Counted, error: BaseException | None = None) -> None:
        if connection not in self.open:
            return
        self.open.discard(connection)
        self._read += connection.read_bytes
        self._written += connection.written_bytes
        errno = errno_name(error)
        self.closed[errno] = self.closed.get(errno, 0) + 1

    @property
    def read_bytes(self) -> int:
        return self._read + sum(connection.read_bytes for connection in self.open)

    @property
    def written_bytes(self) -> int:
        return self._written + sum(connection.written_bytes for connection in self.open)

    def counts(self) -> Counts:
        return Counts(
            opened=self.opened,
            open=len(self.open),
            read_bytes=self.read_bytes,
            written_bytes=self.written_bytes,
        )


@dataclass(slots=True)
class Telemetry:
    """All series of this process."""

    started: float  # unix seconds
    incarnation: str = field(default_factory=lambda: os.urandom(8).hex())
    http: dict[tuple[SeriesKey, Labels], HttpSeries] = field(default_factory=dict)
    tcp: dict[tuple[SeriesKey, Labels, str], TcpSeries] = field(default_factory=dict)
    errors: dict[tuple[str, Labels], int] = field(default_factory=dict)
    detections: dict[tuple[str, str], Detection] = field(default_factory=dict)
    observed: Observed = field(default_factory=lambda: Observed(monotonic()))

    def http_series(self, key: SeriesKey, labels: Labels) -> HttpSeries:
        """The series of a key, made on first use."""
        series = self.http.get((key, labels))
        if series is None:
            if len(self.http) >= MAX_SERIES:
                key, labels = _coarse(key, labels)
                series = self.http.get((key, labels))
                if series is not None:
                    return series
            series = self.http[key, labels] = HttpSeries(key, labels)
        return series

    def tcp_series(self, key: SeriesKey, labels: Labels, peer: str) -> TcpSeries:
        """The series of a key, made on first use."""
        series = self.tcp.get((key, labels, peer))
        if series is None:
            if len(self.tcp) >= MAX_SERIES:
                key, labels = _coarse(key, labels)
                series = self.tcp.get((key, labels, peer))
                if series is not None:
                    return series
            series = self.tcp[key, labels, peer] = TcpSeries(key, labels, peer)
        return series

    def count(self, name: str, **labels: str) -> None:
        """Count an event that has no series: a refusal, a verdict, an error."""
        key = (name, tuple(labels.items()))
        self.errors[key] = self.errors.get(key, 0) + 1

    def detected(self, direction: str, protocol: str, seconds: float) -> None:
        """It is known what a connection speaks, so many seconds after it came."""
        self.count(direction + "_detect_total", protocol=protocol)
        found = self.detections.get((direction, protocol))
        if found is None:
            found = self.detections[direction, protocol] = Detection()
        found.add(seconds)

    def report(self, now: float, discovery: Discovery, credentials: Credentials) -> Report:
        """Everything, cumulative. `now` is seconds on the monotonic clock."""
        parts: dict[SeriesKey, list[Counts]] = {}
        for http in self.http.values():
            parts.setdefault(http.key, []).append(http.counts())
        for tcp in self.tcp.values():
            far = "src" if tcp.key.direction == "inbound" else "dst"
            if tcp.peer == far:
                parts.setdefault(tcp.key, []).append(tcp.counts())
        return Report(
            incarnation=self.incarnation,
            at=now,
            series=tuple(Series(key, _merged(counts)) for key, counts in parts.items()),
            version=mesh.__version__,
            view_version=discovery.view.version,
            bundle_hash=hash_bundle(credentials.bundle),
            leaf_not_after=credentials.not_after,
        )


def errno_name(error: BaseException | None) -> str:
    """The symbolic name behind a socket error, the reason of a peer's, "" for a clean end."""
    if error is None:
        return ""
    if isinstance(error, PeerError):
        return error.reason.replace("_", "-")
    import errno

    number = getattr(error, "errno", None)
    return errno.errorcode.get(number, "EIO") if isinstance(number, int) else "EPROTO"


def _merged(counts: list[Counts]) -> Counts:
    return counts[0] if len(counts) == 1 else merge(counts)


def _coarse(key: SeriesKey, labels: Labels) -> tuple[SeriesKey, Labels]:
    kept: Mapping[str, str] = dict(labels)
    return (
        SeriesKey(direction=key.direction, kind=key.kind, apex=key.apex, tls=key.tls),
        (("direction", kept.get("direction", key.direction)), ("overflow", "true")),
    )
