"""Increments of many proxies -> the figures of one row. Pure.

Rates come from the time that was really observed, on each proxy's own clock, never from the
nominal window: from the last report before the window (or the birth of the series) to the
newest report (or the newest request, where traffic has just ended). So a rate is right from
the first report on, and reports of several proxies need not come at the same moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mesh.core.report import REPORT_INTERVAL, Counts, Series, WindowReport, merge, quantile

_ALIVE = 2 * REPORT_INTERVAL  # seconds without a report after which a proxy is taken as gone
_SHORTEST = 1.0  # seconds: a single request just made must not read as hundreds a second


@dataclass(frozen=True, slots=True)
class Figures:
    """The numbers of one row; None where nothing was seen. Latencies in seconds.

    `connections` is a gauge; `read_rate` and `write_rate` are bytes a second; `covered` is
    how many seconds `requests` stand for.
    """

    requests: int = 0
    failures: int = 0
    success: float | None = None  # 0 to 1
    rps: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    connections: int | None = None
    read_rate: float | None = None
    write_rate: float | None = None
    covered: float = 0.0


NOTHING = Figures()


@dataclass(frozen=True, slots=True)
class Part:
    """What one proxy contributes to a row: its matching series, merged, and when it ran.

    `begins` and `ends` are seconds before now; `open_start` says that what was observed
    begins before the window, `alive` that it goes on.
    """

    counts: Counts
    begins: float
    ends: float
    open_start: bool
    alive: bool

    @property
    def covered(self) -> float:
        return max(self.begins - self.ends, _SHORTEST)


def part_of(report: WindowReport, series: Sequence[Series]) -> Part:
    """The part of a row that `series` of one proxy's report make."""
    counts = merge(item.counts for item in series)
    asked = [item for item in series if item.counts.requests]
    births = [item.counts.born for item in asked or series if _moved(item.counts)]
    start = max(report.started, min(births)) if births and min(births) > 0 else report.started
    end = _end_of_traffic(counts.requests, start, report.ended, series)
    is_alive = report.age <= _ALIVE
    if not is_alive:
        counts.open = 0
    return Part(
        counts=counts,
        begins=report.age + report.ended - start,
        ends=report.age + report.ended - end,
        open_start=report.whole and start == report.started,
        alive=is_alive and end == report.ended,
    )


def figures_of(parts: Iterable[Part]) -> Figures:
    """The figures of a row. No part at all: no figures."""
    parts = list(parts)
    if not parts:
        return NOTHING
    total = merge(part.counts for part in parts)
    busy = [part for part in parts if _moved(part.counts)]
    weights = _weights(busy)
    answered = total.successes + total.failures
    return Figures(
        requests=total.requests,
        failures=total.failures,
        success=total.successes / answered if answered else None,
        rps=_rate([part.counts.requests for part in busy], busy, weights)
        if total.requests
        else None,
        p50=quantile(total.latency, 0.50),
        p95=quantile(total.latency, 0.95),
        p99=quantile(total.latency, 0.99),
        connections=total.open,
        read_rate=_rate([part.counts.read_bytes for part in busy], busy, weights),
        write_rate=_rate([part.counts.written_bytes for part in busy], busy, weights),
        covered=max((part.covered for part in busy), default=0.0),
    )


def _moved(counts: Counts) -> bool:
    return bool(counts.requests or counts.opened or counts.read_bytes or counts.written_bytes)


def _end_of_traffic(requests: int, start: float, end: float, series: Sequence[Series]) -> float:
    """Where the observed time ends: at the newest report, or, when traffic has visibly just
    stopped (silence of more than three times the mean gap), one gap after its last request."""
    last = max((item.counts.last for item in series), default=0.0)
    if requests < 2 or not start < last < end:
        return end
    gap = (last - start) / (requests - 1)
    silence = end - last
    return last + gap if 3 * gap < silence <= _ALIVE else end


def _weights(parts: Sequence[Part]) -> list[float]:
    """The share of the row's time that each part was there.

    Parts that were there before the window, or still are, reach to its edge: reports come at
    different moments, and that must not read as absence.
    """
    if not parts:
        return []
    first = max(part.begins for part in parts)
    last = 0.0 if any(part.alive for part in parts) else min(part.ends for part in parts)
    span = max(first - last, _SHORTEST)
    return [
        min(
            1.0,
            max(
                (first if part.open_start else part.begins) - (last if part.alive else part.ends),
                _SHORTEST,
            )
            / span,
        )
        for part in parts
    ]


def _rate(amounts: Sequence[int], parts: Sequence[Part], weights: Sequence[float]) -> float:
    """Each part's own rate, weighted by the share of the time for which it holds."""
    return sum(
        amount / part.covered * weight
        for amount, part, weight in zip(amounts, parts, weights, strict=True)
    )
