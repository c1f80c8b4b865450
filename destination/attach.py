"""Which routes govern a Service port, for whom; pure.

GEP-1426: routes of the Service's own namespace act on all clients, those of another one on the
clients there, and go before the former. Of several kinds on one port only the first in the
order GRPCRoute, HTTPRoute, TLSRoute, TCPRoute acts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from destination.facts import ServiceFacts, ServicePort
from destination.fragments import Parent, RouteFragment, RouteKind
from destination.snapshot import EVERYONE

Attached = Sequence[RouteFragment]


@dataclass(frozen=True, slots=True)
class Governing:
    """The routes in force on one port for one group of clients, the oldest first."""

    kind: RouteKind
    routes: tuple[RouteFragment, ...]


def attaches(parent: Parent, service: ServiceFacts, port: ServicePort) -> bool:
    """Whether a parentRef means this port: by number, by name, or as one of all."""
    return (
        parent.service == service.key
        and parent.port in (None, port.number)
        and parent.section in ("", port.name)
    )


def attached_routes(
    routes: Iterable[RouteFragment], service: ServiceFacts, port: ServicePort
) -> list[RouteFragment]:
    """The routes of all namespaces that name this port, the oldest first, then by name."""
    if service.headless or service.external_name:
        return []
    found = [
        route
        for route in routes
        if any(attaches(parent, service, port) for parent in route.parents)
    ]
    return sorted(found, key=lambda route: (route.created, route.ref.namespace, route.ref.name))


def clients_of(route: RouteFragment, service: ServiceFacts) -> str:
    """The namespace of the clients that a route acts on; EVERYONE for a producer's route."""
    home = route.ref.namespace
    return EVERYONE if home == service.namespace else home


def govern(routes: Attached, service: ServiceFacts) -> Mapping[str, Governing]:
    """The routes in force on one port, by namespace of the clients."""
    groups: dict[str, list[RouteFragment]] = {}
    for route in routes:
        groups.setdefault(clients_of(route, service), []).append(route)
    governing = {}
    for clients, group in groups.items():
        kind = min(route.kind for route in group)
        chosen = tuple(route for route in group if route.kind is kind)
        governing[clients] = Governing(kind, chosen)
    return governing
