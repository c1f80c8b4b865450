"""Rows -> the table or the JSON that users see. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from mesh.stat.rows import Row
from mesh.stat.selection import KINDS

_SHORT = {kind.name: kind.short for kind in KINDS}
_GAP = " " * 3
_Column = tuple[str, Callable[[Row], str]]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value * 100:.2f}%"


def _rps(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}rps"


def _milliseconds(seconds: float | None) -> str:
    """Whole milliseconds; what is faster than one reads as one."""
    return "-" if seconds is None else f"{max(1, round(seconds * 1000))}ms"


def _bytes(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}B/s"


def _meshed(row: Row) -> str:
    return "-" if row.meshed is None else f"{row.meshed[0]}/{row.meshed[1]}"


def _connections(row: Row) -> str:
    return "-" if row.figures.connections is None else str(row.figures.connections)


_TRAFFIC: tuple[_Column, ...] = (
    ("SUCCESS", lambda row: _percent(row.figures.success)),
    ("RPS", lambda row: _rps(row.figures.rps)),
    ("LATENCY_P50", lambda row: _milliseconds(row.figures.p50)),
    ("LATENCY_P95", lambda row: _milliseconds(row.figures.p95)),
    ("LATENCY_P99", lambda row: _milliseconds(row.figures.p99)),
)
_SPLIT: tuple[_Column, ...] = (
    ("APEX", lambda row: row.apex),
    ("LEAF", lambda row: row.leaf),
    ("WEIGHT", lambda row: row.weight),
    ("SHARE", lambda row: _percent(row.share)),
)
_WIDE: tuple[_Column, ...] = (
    ("READ_BYTES/SEC", lambda row: _bytes(row.figures.read_rate)),
    ("WRITE_BYTES/SEC", lambda row: _bytes(row.figures.write_rate)),
)


def render_table(rows: Sequence[Row], *, namespaces: bool = False, wide: bool = False) -> str:
    """Tables as `kubectl` prints them, one for each kind, a blank line between; no row: "".

    `namespaces` adds the NAMESPACE column. All columns but the first names are right-aligned.
    """
    groups = [(kind, list(group)) for kind, group in groupby(rows, key=lambda row: row.kind)]
    prefixed = len(groups) > 1
    return "\n".join(
        _table(kind, group, namespaces=namespaces, wide=wide, prefixed=prefixed)
        for kind, group in groups
    )


def _table(kind: str, rows: list[Row], *, namespaces: bool, wide: bool, prefixed: bool) -> str:
    prefix = f"{_SHORT[kind]}/" if prefixed else ""
    columns: list[_Column] = [("NAME", lambda row: prefix + row.name)]
    left = 1
    if namespaces and kind != "namespace":
        columns.insert(0, ("NAMESPACE", lambda row: row.namespace))
        left = 2
    if kind == "pod":
        columns.append(("STATUS", lambda row: row.status))
    if kind == "trafficsplit":
        columns += _SPLIT
    else:
        columns.append(("MESHED", _meshed))
    columns += _TRAFFIC
    if kind != "trafficsplit":
        columns.append(("TCP_CONN", _connections))
    if wide:
        columns += _WIDE
    cells = [[title for title, _ in columns]]
    cells += [[show(row) for _, show in columns] for row in rows]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    return "".join(_line(line, widths, left) for line in cells)


def _line(cells: list[str], widths: list[int], left: int) -> str:
    padded = [
        cell.ljust(width) if index < left else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return _GAP.join(padded).rstrip() + "\n"


def render_json(rows: Sequence[Row]) -> str:
    """Linkerd's array, with the exact counts and the covered seconds besides."""
    return json.dumps([_object(row) for row in rows], indent=2) + "\n"


def _object(row: Row) -> dict[str, Any]:
    figures = row.figures
    out: dict[str, Any] = {"namespace": row.namespace, "kind": row.kind, "name": row.name}
    if row.kind == "trafficsplit":
        out |= {"apex": row.apex, "leaf": row.leaf, "weight": row.weight, "share": row.share}
    else:
        out["meshed"] = _meshed(row)
    if row.kind == "pod":
        out["status"] = row.status
    out |= {
        "success": figures.success,
        "rps": figures.rps,
        "latency_ms_p50": _exact_ms(figures.p50),
        "latency_ms_p95": _exact_ms(figures.p95),
        "latency_ms_p99": _exact_ms(figures.p99),
        "requests": figures.requests,
        "failures": figures.failures,
        "covered_seconds": round(figures.covered, 3),
    }
    if row.kind != "trafficsplit":
        out["tcp_open_connections"] = figures.connections
    out["tcp_read_bytes_rate"] = figures.read_rate
    out["tcp_write_bytes_rate"] = figures.write_rate
    return out


def _exact_ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
