"""What is doubtful in a ServiceProfile or TrafficSplit, said at `kubectl apply`. Pure.

Only warnings: the object is stored whatever it holds, and its status carries the verdict of
the compiler, which knows the Services. Here stands what an object shows by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mesh.core.quantity import parse_duration, parse_quantity


def find_doubts(kind: str, obj: Mapping[str, Any]) -> list[str]:
    """Warnings, each with the path of its field. Kinds that we do not know give none."""
    spec = obj.get("spec")
    if kind == "TrafficSplit":
        return list(_split(spec if isinstance(spec, Mapping) else {}))
    if kind == "ServiceProfile":
        return list(_profile(spec if isinstance(spec, Mapping) else {}))
    return []


def _split(spec: Mapping[str, Any]) -> Iterator[str]:
    if not spec.get("service"):
        yield "spec.service: expected the name of the service to split, got nothing"
    if spec.get("matches"):
        yield "spec.matches: splits by route group are not supported; the split will be rejected"
    field = "backends" if spec.get("backends") else "allocation"
    backends = spec.get(field) or []
    if not backends:
        yield "spec.backends: expected at least one backend, got none"
        return
    names: set[str] = set()
    total = 0
    for index, backend in enumerate(_maps(backends)):
        where = f"spec.{field}[{index}]"
        name = str(backend.get("service") or "")
        if not name:
            yield f"{where}.service: expected the name of a service, got nothing"
        elif name in names:
            yield f'{where}.service: "{name[:60]}" is listed twice'
        names.add(name)
        try:
            weight = parse_quantity(backend.get("weight", 0))
        except ValueError as error:
            yield f"{where}.weight: {error}"
            continue
        if weight < 0:
            yield f"{where}.weight: expected 0 or more, got {backend.get('weight')}"
        total += bool(weight > 0)
    if not total:
        yield f"spec.{field}: every weight is 0, so no backend gets traffic"


def _profile(spec: Mapping[str, Any]) -> Iterator[str]:
    for index, route in enumerate(_maps(spec.get("routes"))):
        where = f"spec.routes[{index}]"
        if not route.get("name"):
            yield f"{where}.name: expected a name, got nothing"
        if not route.get("condition"):
            yield f"{where}.condition: expected a condition, got nothing; the route never matches"
        else:
            yield from _condition(route["condition"], f"{where}.condition")
        timeout = route.get("timeout")
        if timeout is not None:
            yield from _duration(timeout, f"{where}.timeout")
        for at, response in enumerate(_maps(route.get("responseClasses"))):
            if not response.get("condition"):
                yield f"{where}.responseClasses[{at}].condition: expected a condition, got nothing"
    budget = spec.get("retryBudget")
    if isinstance(budget, Mapping) and budget.get("ttl") is not None:
        yield from _duration(budget["ttl"], "spec.retryBudget.ttl")


def _condition(condition: Any, where: str) -> Iterator[str]:
    if not isinstance(condition, Mapping):
        return
    pattern = condition.get("pathRegex")
    if isinstance(pattern, str):
        try:
            re.compile(pattern[:4096])
        except (re.error, RecursionError, OverflowError) as error:
            yield f"{where}.pathRegex: not a regular expression: {error}"


def _duration(value: Any, where: str) -> Iterator[str]:
    try:
        parse_duration(str(value))
    except ValueError as error:
        yield f"{where}: {error}"


def _maps(value: Any) -> list[Mapping[str, Any]]:
    items = value if isinstance(value, list) else []
    return [item for item in items if isinstance(item, Mapping)]
