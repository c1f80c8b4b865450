"""Series -> Prometheus' text format, with Linkerd's names and labels. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Final

import mesh
from proxy.telemetry import BOUNDS, BOUNDS_MS, Cell, HttpSeries, Labels, Telemetry
from proxy.verdicts import BOUNDS as DETECT_BOUNDS

_ROUTE_LABELS: Final = ("direction",)
_HELP: Final = {
    "request_total": "Requests, by target and peer.",
    "response_total": "Responses, by status and classification.",
    "response_latency_ms": "From request head to end of response.",
    "route_request_total": "Requests, by ServiceProfile route.",
    "route_actual_request_total": "Tries, retries included, by ServiceProfile route.",
    "route_response_total": "Responses, by ServiceProfile route.",
    "route_response_latency_ms": "From request head to end of response, by route.",
    "tcp_open_total": "Connections opened.",
    "tcp_open_connections": "Connections open now.",
    "tcp_close_total": "Connections closed.",
    "tcp_read_bytes_total": "Bytes read from peers.",
    "tcp_write_bytes_total": "Bytes written to peers.",
    "inbound_tcp_detect_duration_seconds": "From connect to knowing what a client speaks.",
    "outbound_tcp_detect_duration_seconds": "From connect to knowing what a client speaks.",
}


def write_metrics(telemetry: Telemetry, gauges: Mapping[str, float]) -> str:
    """All metrics of the process. `gauges` are single values made by the shell."""
    out: list[str] = []
    series = list(telemetry.http.values())
    _write_http(out, "", [(s.labels, [s]) for s in series])
    _write_http(out, "route_", _by_route(series))
    _write_tcp(out, telemetry)
    _write_events(out, telemetry)
    _write_detections(out, telemetry)
    for name, value in gauges.items():
        kind = "counter" if name.endswith("_total") else "gauge"
        out.append(f"# TYPE {name} {kind}\n{name} {_number(value)}\n")
    out.append(
        f'# TYPE proxy_build_info gauge\nproxy_build_info{{version="{mesh.__version__}"}} 1\n'
    )
    return "".join(out)


def _by_route(series: Iterable[HttpSeries]) -> list[tuple[Labels, list[HttpSeries]]]:
    groups: dict[Labels, list[HttpSeries]] = {}
    for one in series:
        if one.key.apex:
            labels = (
                ("direction", one.key.direction),
                ("dst", one.key.apex),
                ("rt_route", one.key.route),
            )
            groups.setdefault(labels, []).append(one)
    return list(groups.items())


def _write_http(out: list[str], prefix: str, groups: list[tuple[Labels, list[HttpSeries]]]) -> None:
    if not groups:
        return
    merged: dict[str, list[HttpSeries]] = {}
    for labels, series in groups:
        merged.setdefault(_labels(labels), []).extend(series)
    _head(out, f"{prefix}request_total", "counter")
    for text, series in merged.items():
        out.append(f"{prefix}request_total{{{text}}} {sum(s.requests for s in series)}\n")
    if prefix:
        _head(out, "route_actual_request_total", "counter")
        for text, series in merged.items():
            tries = sum(s.requests + s.retried for s in series)
            out.append(f"route_actual_request_total{{{text}}} {tries}\n")
    _head(out, f"{prefix}response_total", "counter")
    for text, series in merged.items():
        _write_responses(out, f"{prefix}response_total", text, series)
    _head(out, f"{prefix}response_latency_ms", "histogram")
    for text, series in merged.items():
        _write_latency(out, f"{prefix}response_latency_ms", text, series)


def _write_responses(out: list[str], name: str, text: str, series: list[HttpSeries]) -> None:
    counts: dict[str, int] = {}
    for one in series:
        for cell in one.cells.values():
            extra = f'classification="{"failure" if cell.failed else "success"}"'
            if cell.status:
                extra += f',status_code="{cell.status}"'
            if cell.error:
                extra += f',error="{_escape(cell.error)}"'
            counts[extra] = counts.get(extra, 0) + cell.count
    for extra, count in counts.items():
        out.append(f"{name}{{{text},{extra}}} {count}\n")


def _write_latency(out: list[str], name: str, text: str, series: list[HttpSeries]) -> None:
    by_status: dict[int, list[Cell]] = {}
    for one in series:
        for cell in one.cells.values():
            by_status.setdefault(cell.status, []).append(cell)
    for status, cells in by_status.items():
        labels = f'{text},status_code="{status}"'
        columns = zip(*(cell.up_to(BOUNDS) for cell in cells), strict=True)
        for bound, column in zip(BOUNDS_MS, columns, strict=True):
            out.append(f'{name}_bucket{{{labels},le="{bound}"}} {sum(column)}\n')
        count = sum(cell.count for cell in cells)
        out.append(f'{name}_bucket{{{labels},le="+Inf"}} {count}\n')
        out.append(f"{name}_count{{{labels}}} {count}\n")
        total = sum(cell.sum for cell in cells)
        out.append(f"{name}_sum{{{labels}}} {_number(round(total * 1000, 3))}\n")


def _write_tcp(out: list[str], telemetry: Telemetry) -> None:
    series = list(telemetry.tcp.values())
    if not series:
        return
    texts = [(_labels((*s.labels, ("peer", s.peer))), s) for s in series]
    for name, kind, read in (
        ("tcp_open_total", "counter", lambda s: s.opened),
        ("tcp_open_connections", "gauge", lambda s: len(s.open)),
        ("tcp_read_bytes_total", "counter", lambda s: s.read_bytes),
        ("tcp_write_bytes_total", "counter", lambda s: s.written_bytes),
    ):
        _head(out, name, kind)
        merged: dict[str, int] = {}
        for text, one in texts:
            merged[text] = merged.get(text, 0) + read(one)
        out += [f"{name}{{{text}}} {value}\n" for text, value in merged.items()]
    _head(out, "tcp_close_total", "counter")
    closed: dict[str, int] = {}
    for text, one in texts:
        for errno, count in one.closed.items():
            key = f'{text},errno="{errno}"'
            closed[key] = closed.get(key, 0) + count
    out += [f"tcp_close_total{{{text}}} {value}\n" for text, value in closed.items()]


def _write_events(out: list[str], telemetry: Telemetry) -> None:
    names: dict[str, list[tuple[Labels, int]]] = {}
    for (name, labels), count in telemetry.errors.items():
        names.setdefault(name, []).append((labels, count))
    for name, entries in names.items():
        out.append(f"# TYPE {name} counter\n")
        out += [f"{name}{{{_labels(labels)}}} {count}\n" for labels, count in entries]


def _write_detections(out: list[str], telemetry: Telemetry) -> None:
    for direction in ("inbound", "outbound"):
        name = f"{direction}_tcp_detect_duration_seconds"
        found = [(p, d) for (way, p), d in telemetry.detections.items() if way == direction]
        if found:
            _head(out, name, "histogram")
        for protocol, detection in found:
            counts = list(accumulate(detection.counts))
            for bound, count in zip((*map(str, DETECT_BOUNDS), "+Inf"), counts, strict=True):
                out.append(f'{name}_bucket{{protocol="{protocol}",le="{bound}"}} {count}\n')
            out.append(f'{name}_count{{protocol="{protocol}"}} {counts[-1]}\n')
            out.append(f'{name}_sum{{protocol="{protocol}"}} {_number(round(detection.sum, 6))}\n')


def _head(out: list[str], name: str, kind: str) -> None:
    out.append(f"# HELP {name} {_HELP[name]}\n# TYPE {name} {kind}\n")


def _labels(labels: Labels) -> str:
    return ",".join(f'{_name(name)}="{_escape(value)}"' for name, value in labels)


def _name(name: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
