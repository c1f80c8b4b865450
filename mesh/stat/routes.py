"""Reports -> the table of `mesh routes`: requests by ServiceProfile route. Pure.

What came into a workload is told by its own proxies; with a Service asked for (`--to`), what
the workload sent there, where tries beside requests show what retries did.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from mesh.core import labels
from mesh.core.names import split_authority
from mesh.core.report import Series, SeriesKey, WindowReport
from mesh.stat.figures import Figures, figures_of, part_of

DEFAULT: Final = "[DEFAULT]"  # requests that no route of the profile meets, as Linkerd says it


@dataclass(frozen=True, slots=True)
class RouteRow:
    """One route of one Service. `retried` are tries that failed and were followed by another."""

    route: str
    service: str
    figures: Figures
    retried: int = 0

    @property
    def actual_success(self) -> float | None:
        """Of all tries, retries included."""
        figures = self.figures
        tries = figures.requests + self.retried
        return (figures.requests - figures.failures) / tries if tries else None

    @property
    def actual_rps(self) -> float | None:
        figures = self.figures
        if figures.rps is None or not figures.requests:
            return None
        return figures.rps * (figures.requests + self.retried) / figures.requests


def route_rows(
    reports: Iterable[WindowReport], *, of: Callable[[WindowReport], bool], to: str = ""
) -> list[RouteRow]:
    """The rows of those pods that `of` means; `to` is the name.namespace of a Service."""
    found: dict[tuple[str, str], list[tuple[WindowReport, list[Series]]]] = defaultdict(list)
    for report in reports:
        if not of(report):
            continue
        mine: dict[tuple[str, str], list[Series]] = defaultdict(list)
        for series in report.series:
            if _is_meant(series.key, to):
                host = split_authority(series.key.apex)[0] if series.key.apex else ""
                mine[host, series.key.route or DEFAULT].append(series)
        for key, many in mine.items():
            found[key].append((report, many))
    rows = [
        RouteRow(
            route,
            service,
            figures_of(part_of(report, many) for report, many in parts),
            sum(series.counts.retried for _, many in parts for series in many),
        )
        for (service, route), parts in found.items()
    ]
    return sorted(rows, key=lambda row: (row.service, row.route == DEFAULT, row.route))


def _is_meant(key: SeriesKey, to: str) -> bool:
    if key.kind != "http" or key.route == labels.PROBE_ROUTE:
        return False
    if not to:  # without a Service where no profile asks for it
        return key.direction == "inbound"
    return key.direction == "outbound" and key.apex.startswith(f"{to}.")


def render_routes(rows: Sequence[RouteRow], *, wide: bool) -> str:
    """The table; `wide` has effective figures beside actual ones."""
    titles = ["ROUTE", "SERVICE"]
    if wide:
        titles += ["EFFECTIVE_SUCCESS", "EFFECTIVE_RPS", "ACTUAL_SUCCESS", "ACTUAL_RPS"]
    else:
        titles += ["SUCCESS", "RPS"]
    cells = [[*titles, "LATENCY_P50", "LATENCY_P95", "LATENCY_P99"]]
    for row in rows:
        figures = row.figures
        line = [row.route, row.service.partition(".svc.")[0] or "-"]
        line += [_percent(figures.success), _rps(figures.rps)]
        if wide:
            line += [_percent(row.actual_success), _rps(row.actual_rps)]
        cells.append([*line, _ms(figures.p50), _ms(figures.p95), _ms(figures.p99)])
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return "".join(
        "   ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        + "\n"
        for line in cells
    )


def render_routes_json(rows: Sequence[RouteRow]) -> str:
    document = [
        {
            "route": row.route,
            "service": row.service,
            "requests": row.figures.requests,
            "failures": row.figures.failures,
            "retried": row.retried,
            "effective_success": row.figures.success,
            "effective_rps": row.figures.rps,
            "actual_success": row.actual_success,
            "actual_rps": row.actual_rps,
            "latency_ms_p50": _exact(row.figures.p50),
            "latency_ms_p95": _exact(row.figures.p95),
            "latency_ms_p99": _exact(row.figures.p99),
        }
        for row in rows
    ]
    return json.dumps(document, indent=2) + "\n"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value * 100:.2f}%"


def _rps(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}rps"


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{max(1, round(seconds * 1000))}ms"


def _exact(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
