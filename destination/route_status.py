"""What became of a route at each of its parents, in the words of the Gateway API; pure."""

from __future__ import annotations

from collections.abc import Iterator

from destination.attach import attached_routes, attaches, clients_of, govern
from destination.facts import Key, ServiceFacts, ServicePort
from destination.fragments import (
    BACKEND_NOT_FOUND,
    CONFLICTED,
    INVALID_KIND,
    NO_MATCHING_PARENT,
    NOT_HTTP,
    REF_NOT_PERMITTED,
    BackendRef,
    Outcome,
    Parent,
    ParentOutcome,
    RejectedFragment,
    RouteFragment,
    RouteKind,
    verdict_of,
)
from destination.protocols import port_protocol
from destination.store import Store
from mesh.core.model import Problem, Protocol, Severity, Source, Verdict

_ACCEPTED = "Accepted"
_UNREAD = frozenset((Protocol.OPAQUE, Protocol.TLS))


def reject_route(fragment: RejectedFragment) -> Outcome:
    """The outcome of a route that does not read."""
    text = "; ".join(f"{problem.path}: {problem.message}" for problem in _reasons(fragment))
    parents = tuple(
        ParentOutcome(parent.ref, "UnsupportedValue", text) for parent in fragment.parents
    )
    return Outcome(Verdict.REJECTED, fragment.problems, parents=parents)


def _reasons(fragment: RejectedFragment) -> tuple[Problem, ...]:
    """Why nothing of it takes effect: its errors, or all where nobody made an error."""
    errors = tuple(item for item in fragment.problems if item.severity is Severity.ERROR)
    return errors or fragment.problems


class Winners:
    """Which route comes first on each Service port, by its clients; found once per port for all
    routes that are judged together."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[tuple[Key, int], dict[str, RouteFragment]] = {}

    def first(self, service: ServiceFacts, port: ServicePort, clients: str) -> RouteFragment:
        """The oldest route of the kind that acts. There must be one for these clients."""
        key = (service.key, port.number)
        if key not in self._known:
            self._known[key] = self._find(service, port)
        return self._known[key][clients]

    def _find(self, service: ServiceFacts, port: ServicePort) -> dict[str, RouteFragment]:
        store = self._store
        fragments = (store.fragments[ref] for ref in store.objects_of.get(service.key, ()))
        routes = [item for item in fragments if isinstance(item, RouteFragment)]
        governing = govern(attached_routes(routes, service, port), service)
        return {clients: found.routes[0] for clients, found in governing.items()}


def judge_route(store: Store, route: RouteFragment, winners: Winners) -> Outcome | None:
    """The outcome of a route; None when no Service is among its parents."""
    if not route.parents:
        return None
    references = list(_reference_problems(store, route))
    problems = [*route.problems, *references]
    parents: list[ParentOutcome] = []
    winner: Source | None = None
    for parent in route.parents:
        reason, message, other = _acceptance(store, winners, route, parent)
        path = f"spec.parentRefs[{parent.index}]"
        if reason != _ACCEPTED:
            severity = Severity.WARNING if reason == CONFLICTED else Severity.ERROR
            problems.append(Problem(route.source, path, reason, message, severity))
            winner = winner or other
        else:
            problems += _unread_problems(store, route, parent, path)
        parents.append(_parent_outcome(route, parent, reason, message, references))
    accepted = [
        parent
        for parent, result in zip(route.parents, parents, strict=True)
        if result.accepted == _ACCEPTED
    ]
    services = ", ".join(dict.fromkeys(_print(parent.service) for parent in accepted))
    if accepted:
        named = [problem for problem in problems if problem.severity is not Severity.ERROR]
        verdict = Verdict.PARTIAL if len(named) < len(problems) else verdict_of(problems)
    else:
        services = _print(route.parents[0].service)
        verdict = Verdict.SHADOWED if winner is not None else Verdict.REJECTED
    shadowed_by = winner if verdict is Verdict.SHADOWED else None
    return Outcome(verdict, tuple(problems), services, shadowed_by, tuple(parents))


def _parent_outcome(
    route: RouteFragment, parent: Parent, reason: str, message: str, references: list[Problem]
) -> ParentOutcome:
    first = references[0] if references else None
    dropped = ", ".join(map(str, route.dropped))
    return ParentOutcome(
        ref=parent.ref,
        accepted=reason,
        accepted_message=message,
        resolved=first.reason if first is not None else "ResolvedRefs",
        resolved_message="; ".join(f"{item.path}: {item.message}" for item in references),
        partial=f"Dropped Rule(s) {dropped}: they do not read" if dropped else "",
    )


def _acceptance(
    store: Store, winners: Winners, route: RouteFragment, parent: Parent
) -> tuple[str, str, Source | None]:
    """Reason, message, and the route that goes before this one everywhere."""
    service = store.services.get(parent.service)
    name = _print(parent.service)
    if service is None:
        return NO_MATCHING_PARENT, f"no Service {name}", None
    if service.headless:
        return NO_MATCHING_PARENT, f"Service {name} is headless: clients pick pods", None
    if service.external_name:
        return NO_MATCHING_PARENT, f"Service {name} is an ExternalName", None
    ports = [port for port in service.ports if attaches(parent, service, port)]
    if not ports:
        wanted = " ".join(str(part) for part in (parent.section, parent.port) if part)
        return NO_MATCHING_PARENT, f"Service {name} has no port {wanted}".rstrip(), None
    others = [_winner(winners, route, service, port) for port in ports]
    first = others[0]
    if first is not None and all(others):
        message = f"{first.kind}/{first.namespace}/{first.name} goes before it on Service {name}"
        return CONFLICTED, message, first
    return _ACCEPTED, _acts(route, service), None


def _winner(
    winners: Winners, route: RouteFragment, service: ServiceFacts, port: ServicePort
) -> Source | None:
    """The route that goes before this one on a port, None when this one acts there."""
    first = winners.first(service, port, clients_of(route, service))
    if route.kind is not first.kind or (first.kind is RouteKind.TCP and first is not route):
        return first.source
    return None


def _acts(route: RouteFragment, service: ServiceFacts) -> str:
    if route.ref.namespace == service.namespace:
        return f"acts on Service {_print(service.key)}"
    return f"acts on Service {_print(service.key)} for clients in {route.ref.namespace}"


def _unread_problems(
    store: Store, route: RouteFragment, parent: Parent, path: str
) -> Iterator[Problem]:
    """A route of HTTP on ports that nobody reads as HTTP has no effect there."""
    service = store.services[parent.service]
    if route.kind not in (RouteKind.HTTP, RouteKind.GRPC):
        return
    namespace = store.namespaces.get(service.namespace)
    attached = [port for port in service.ports if attaches(parent, service, port)]
    unread = [
        (port, protocol)
        for port in attached
        for protocol in (port_protocol(port, service, namespace),)
        if protocol in _UNREAD
    ]
    if parent.port is None and not parent.section and len(unread) < len(attached):
        return  # a route of all ports is meant for those that speak HTTP
    for port, protocol in unread:
        message = f"port {port.number} is {protocol.value}, not read as HTTP: no effect there"
        yield Problem(route.source, path, NOT_HTTP, message)


def _reference_problems(store: Store, route: RouteFragment) -> Iterator[Problem]:
    forbidden = store.forbidden_of(route)
    for rule in route.rules:
        for ref in (*rule.backends, *rule.mirrors):
            found = _reference_problem(store, ref, forbidden)
            if found is not None:
                yield Problem(route.source, ref.path, *found)


def _reference_problem(
    store: Store, ref: BackendRef, forbidden: frozenset[Key]
) -> tuple[str, str] | None:
    if ref.refused == INVALID_KIND:
        return INVALID_KIND, "expected a Service"
    if ref.refused:
        return None  # said where it was read
    name = _print(ref.service)
    service = store.services.get(ref.service)
    if ref.service in forbidden:
        return REF_NOT_PERMITTED, f"no ReferenceGrant in {ref.service[0]} for Service {name}"
    if service is None:
        return BACKEND_NOT_FOUND, f"no Service {name}: its share is answered with 500"
    if service.external_name:
        return BACKEND_NOT_FOUND, f"Service {name} is an ExternalName and has no endpoints"
    if ref.port and ref.port not in {port.number for port in service.ports}:
        return BACKEND_NOT_FOUND, f"Service {name} has no port {ref.port}"
    return None


def _print(key: Key) -> str:
    return f"{key[0]}/{key[1]}"
