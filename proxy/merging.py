"""What several workers tell, as one proxy would tell it. Pure.

Counters, histograms and gauges of workers add up. What a worker that died had told stays in the
sums, so that no counter goes back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from mesh.core.report import Counts, Series, SeriesKey, merge

GAUGES: Final = ("tcp_open_connections",)  # what dies with its worker

Values = dict[str, float]


def merge_metrics(texts: Sequence[str]) -> str:
    """One text of several in Prometheus' format: values of the same series are added."""
    heads: dict[str, list[str]] = {}
    families: dict[str, Values] = {}
    for text in texts:
        family = ""
        for line in text.splitlines():
            if line.startswith("# "):
                family = line.split(" ", 3)[2]
                known = heads.setdefault(family, [])
                if line not in known:
                    known.append(line)
                continue
            name, _, value = line.rpartition(" ")
            values = families.setdefault(family, {})
            values[name] = values.get(name, 0.0) + float(value)
    out: list[str] = []
    for family, values in families.items():
        out += heads.get(family, [])
        out += [f"{name} {write_number(value)}" for name, value in values.items()]
    return "".join(f"{line}\n" for line in out)


def without_gauges(text: str) -> str:
    """What stays of a worker's metrics when it is gone."""
    return "".join(
        f"{line}\n" for line in text.splitlines() if not any(name in line for name in GAUGES)
    )


def add_figures(parts: Iterable[Values]) -> Values:
    """Single values of several processes, added."""
    total: Values = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0.0) + value
    return total


def merge_series(parts: Iterable[Series]) -> tuple[Series, ...]:
    """Series of several reports, those of the same key added."""
    found: dict[SeriesKey, list[Counts]] = {}
    for series in parts:
        found.setdefault(series.key, []).append(series.counts)
    return tuple(
        Series(key, counts[0] if len(counts) == 1 else merge(counts))
        for key, counts in found.items()
    )


def merge_answers(what: str, answers: Sequence[str]) -> str:
    """What workers answered to a person's question, as one answer."""
    told: list[dict[str, Any]] = [json.loads(answer) for answer in answers]
    if not told:
        return json.dumps({"error": "no worker answered in time"})
    if what == "request":
        return json.dumps(next((one for one in told if one.get("request")), told[0]))
    if what == "endpoints" and all("backends" in one for one in told):
        return json.dumps(_merge_endpoints(told))
    if what == "observed" and all("kinds" in one for one in told):
        return json.dumps(_merge_observed(told))
    return answers[0]


def _merge_endpoints(told: list[dict[str, Any]]) -> dict[str, Any]:
    """Connections and requests in hand add up; broken is what any worker calls broken."""
    backends: dict[str, dict[str, Any]] = {}
    for one in told:
        for authority, backend in one["backends"].items():
            known = backends.setdefault(authority, backend)
            if known is not backend:
                _add_endpoints(known["endpoints"], backend["endpoints"])
    return {**told[0], "backends": backends}


def _add_endpoints(known: list[dict[str, Any]], more: list[dict[str, Any]]) -> None:
    by_place = {(one["address"], one["port"]): one for one in known}
    for other in more:
        one = by_place.get((other["address"], other["port"]))
        if one is None:
            known.append(other)
            continue
        one["pending"] += other["pending"]
        one["connections"] += other["connections"]
        one["latencySeconds"] = max(one["latencySeconds"], other["latencySeconds"])
        if other["isBroken"] and not one["isBroken"]:
            one["isBroken"] = True
            one["probeInSeconds"] = other["probeInSeconds"]


def _merge_observed(told: list[dict[str, Any]]) -> dict[str, Any]:
    kinds: dict[tuple[str, str, str], dict[str, Any]] = {}
    for one in told:
        for kind in one["kinds"]:
            known = kinds.setdefault((kind["place"], kind["method"], kind["path"]), kind)
            if known is not kind:
                known["count"] += kind["count"]
                known["age"] = min(known["age"], kind["age"])
    return {"seconds": max(one["seconds"] for one in told), "kinds": list(kinds.values())}


def write_number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
