"""What became of a route at each of its parents, in the words of the Gateway API; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from destination.attach import Governing, attached_routes, attaches, clients_of, govern
from destination.facts import Key, ServiceFacts, ServicePort
from destination.fragments import (
    BACKEND_NOT_FOUND,
    CONFLICTED,
    INVALID_KIND,
    NO_MATCHING_PARENT,
    NOT_HTTP,
    REF_NOT_PERMITTED,
    UNREACHABLE,
    BackendRef,
    Outcome,
    Parent,
    ParentOutcome,
    RejectedFragment,
    RouteFragment,
    RouteKind,
    verdict_of,
)
from destination.hidden import Cover, Place, find_hidden
from destination.protocols import port_protocol
from destination.store import Store
from mesh.core.model import BY_CONNECTION, Problem, Severity, Source, Verdict

_ACCEPTED = "Accepted"


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
    """Which routes are in force on each Service port, by its clients, and which of their rules are
    never met; found once per port for all routes that are judged together."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[tuple[Key, int], Mapping[str, Governing]] = {}
        self._hidden: dict[tuple[Key, int, str], Mapping[Place, Cover]] = {}

    def first(self, service: ServiceFacts, port: ServicePort, clients: str) -> RouteFragment:
        """The oldest route of the kind that acts. There must be one for these clients."""
        return self._governing(service, port)[clients].routes[0]

    def hidden(
        self, service: ServiceFacts, port: ServicePort, clients: str
    ) -> Mapping[Place, Cover]:
        """The rules of routes in force that are never met."""
        key = (service.key, port.number, clients)
        if key not in self._hidden:
            self._hidden[key] = find_hidden(self._governing(service, port)[clients])
        return self._hidden[key]

    def _governing(self, service: ServiceFacts, port: ServicePort) -> Mapping[str, Governing]:
        key = (service.key, port.number)
        if key not in self._known:
            fragments = (
                self._store.fragments[ref] for ref in self._store.objects_of.get(service.key, ())
            )
            routes = [item for item in fragments if isinstance(item, RouteFragment)]
            self._known[key] = govern(attached_routes(routes, service, port), service)
        return self._known[key]


def judge_route(store: Store, route: RouteFragment, winners: Winners) -> Outcome | None:
    """The outcome of a route; None when no Service is among its parents."""
    if not route.parents:
        return None
    references = list(_reference_problems(store, route))
    problems = [*route.problems, *references]
    parents: list[ParentOutcome] = []
    accepted: list[Parent] = []
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
            accepted.append(parent)
        parents.append(_parent_outcome(route, parent, reason, message, references))
    covers = _covers(store, winners, route, accepted)
    problems += [_never_met(route, index, cover) for index, cover in covers.items()]
    if covers and len(covers) == len(route.rules):
        winner = next(iter(covers.values()))[0].source
    services = ", ".join(dict.fromkeys(_print(parent.service) for parent in accepted))
    verdict = _verdict(problems, bool(accepted) and len(covers) < len(route.rules), winner)
    shadowed_by = winner if verdict is Verdict.SHADOWED else None
    services = services or _print(route.parents[0].service)
    return Outcome(verdict, tuple(problems), services, shadowed_by, tuple(parents))


def _verdict(problems: list[Problem], acts: bool, winner: Source | None) -> Verdict:
    """`acts`: some of the route does; `winner` goes before all of it, or before it somewhere."""
    if not acts:
        return Verdict.SHADOWED if winner is not None else Verdict.REJECTED
    if any(problem.severity is Severity.ERROR for problem in problems):
        return Verdict.PARTIAL
    return verdict_of(problems)


def _covers(
    store: Store, winners: Winners, route: RouteFragment, parents: Iterable[Parent]
) -> dict[int, Cover]:
    """The rules that are never met wherever the route acts, each with one that goes before it."""
    found: list[dict[int, Cover]] = []
    for parent in parents:
        service = store.services[parent.service]
        clients = clients_of(route, service)
        for port in service.ports:
            if attaches(parent, service, port) and not _winner(winners, route, service, port):
                hidden = winners.hidden(service, port, clients)
                places = ((route.ref, rule.index) for rule in route.rules)
                found.append({place[1]: hidden[place] for place in places if place in hidden})
    if not found:
        return {}
    return {index: cover for index, cover in found[0].items() if all(index in f for f in found)}


def _never_met(route: RouteFragment, index: int, cover: Cover) -> Problem:
    other, number = cover
    name = f"rules[{number}]" if other is route else f"{other.source}#{number}"
    message = f"this rule is never met: {name} is tried before it and has the same matches"
    return Problem(route.source, f"spec.rules[{index}]", UNREACHABLE, message)


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
        if protocol in BY_CONNECTION
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
