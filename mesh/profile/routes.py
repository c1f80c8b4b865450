"""Routes as a ServiceProfile writes them, in an order in which each can be met; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from mesh.core.names import service_fqdn

_SPECIAL: Final = re.compile(r"([\\.+*?()|\[\]{}^$])")


@dataclass(frozen=True, slots=True)
class Route:
    """One route. `segments` are the path's, each (whether it has parameters, its pattern)."""

    name: str
    method: str
    segments: tuple[tuple[bool, str], ...]
    responses: tuple[tuple[int, int], ...] = ()  # (first, last) status
    retryable: bool = False
    timeout: str = ""

    @property
    def pattern(self) -> str:
        return "/".join(text for _, text in self.segments)

    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "name": self.name,
            "condition": {"method": self.method, "pathRegex": self.pattern},
        }
        if self.responses:
            found["responseClasses"] = [
                {"condition": {"status": {"min": low, "max": high}}, "isFailure": low >= 500}
                for low, high in self.responses
            ]
        if self.retryable:
            found["isRetryable"] = True
        if self.timeout:
            found["timeout"] = self.timeout
        return found


def escape(text: str) -> str:
    """`text` as a pattern that only it meets (RE2)."""
    return _SPECIAL.sub(r"\\\1", text)


def _rank(route: Route) -> tuple[list[tuple[bool, int, str]], str]:
    """Literal segments first, then the longer pattern: /items/mine would never be met below
    /items/[^/]*."""
    return [(wild, -len(text), text) for wild, text in route.segments], route.method


def build_profile(
    service: str, namespace: str, cluster_domain: str, routes: Iterable[Route]
) -> dict[str, Any]:
    """The ServiceProfile of a Service. The first of two routes with one condition stays."""
    unique: dict[tuple[str, str], Route] = {}
    for route in sorted(routes, key=_rank):
        unique.setdefault((route.method, route.pattern), route)
    return {
        "apiVersion": "linkerd.io/v1alpha2",
        "kind": "ServiceProfile",
        "metadata": {
            "name": service_fqdn(service, namespace, cluster_domain),
            "namespace": namespace,
        },
        "spec": {"routes": [route.manifest() for route in unique.values()]},
    }
