"""One Service, compiled, with the verdicts on the objects that act on it; pure.

Which objects act is decided here, what they make of the rules in `table`, and what their
authors hear in `judge`. Composition is design decision 3: routes own the table, a TrafficSplit
or a profile's overrides expand it, and a ServiceProfile lies over it without switching
anything off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from destination.attach import Governing, attached_routes, govern
from destination.dialects.annotations import Annotations
from destination.endpoints import Cluster, find_endpoints
from destination.facts import Key, ServiceFacts, ServicePort
from destination.fragments import (
    Acting,
    ProfileFragment,
    Ref,
    RouteFragment,
    SplitFragment,
)
from destination.grants import without_forbidden
from destination.judge import (
    Verdicts,
    judge_profiles,
    judge_splits,
    matches_of,
    no_such_service,
)
from destination.notes import judge_service
from destination.protocols import port_protocol
from destination.snapshot import EVERYONE, Port, Routing, Unit
from destination.store import SERVICES, Store
from destination.table import Apex, Share, Table, make_table
from mesh.core.model import (
    BY_CONNECTION,
    BackendPolicy,
    Policy,
    Profile,
    Protocol,
    Rule,
    Service,
    Source,
    Target,
)
from mesh.core.names import join_address, service_authority
from mesh.core.quantity import has_port


@dataclass(frozen=True, slots=True)
class _Acting:
    """What acts on one Service: splits in order, profiles by clients, routes, annotations."""

    splits: Mapping[Ref, SplitFragment]
    profiles: Mapping[str, ProfileFragment]
    routes: Sequence[RouteFragment]
    policy: Policy | None
    backend: BackendPolicy | None
    external: frozenset[Key]


def compile_unit(store: Store, cluster: Cluster, key: Key) -> tuple[Unit | None, Verdicts]:
    """One Service and the verdicts on it and on splits and profiles that act on it."""
    fragments = [store.fragments[ref] for ref in sorted(store.objects_of.get(key, ()))]
    splits = [item for item in fragments if isinstance(item, SplitFragment)]
    profiles = [
        item
        for item in fragments
        if isinstance(item, ProfileFragment) and store.target_of(item) == key
    ]
    service = store.services.get(key)
    verdicts: Verdicts = {}
    if service is None:
        waiting: list[Acting] = [*splits, *profiles]
        verdicts.update((item.ref, no_such_service(item, key)) for item in waiting)
        verdicts[Ref(SERVICES, *key)] = None
        return None, verdicts
    notes = Annotations(service.annotations, Source("Service", *key))
    balancing, hashed = notes.balancing()
    backend = BackendPolicy(balancing, hashed, notes.breaker())
    if service.headless or service.external_name:
        notes.have_no_effect("clients of this Service pick addresses themselves")
    acting = _Acting(
        splits=_choose_splits(store, service, splits),
        profiles=_choose_profiles(service, profiles),
        routes=[
            without_forbidden(item, store.forbidden_of(item), cluster.cluster_domain)
            for item in fragments
            if isinstance(item, RouteFragment)
        ],
        policy=notes.policy(),
        backend=None if backend == BackendPolicy() else backend,
        external=_external(store, key),
    )
    ports = {
        port.number: _compile_port(store, cluster, service, port, acting) for port in service.ports
    }
    verdicts[Ref(SERVICES, *key)] = judge_service(service, notes.problems)
    unused = _unused(acting, ports)
    judge_splits(store, service, splits, acting.splits, unused, verdicts)
    judge_profiles(store, service, profiles, acting.profiles, ports, unused, verdicts)
    return Unit(key, service.headless, ports), verdicts


def _compile_port(
    store: Store, cluster: Cluster, service: ServiceFacts, port: ServicePort, acting: _Acting
) -> Port:
    found = find_endpoints(store, cluster, service, port)
    authority = service_authority(
        service.name, service.namespace, port.number, cluster.cluster_domain
    )
    protocol = port_protocol(port, service, store.namespaces.get(service.namespace))
    if protocol is Protocol.DETECT and any(endpoint.opaque for endpoint in found.endpoints):
        protocol = Protocol.OPAQUE
    routing = _routing(store, cluster, service, port, protocol, acting)
    targets = {
        (clients, address): Target(
            address=join_address(address, port.number),
            protocol=part.protocol,
            authority=authority,
            rules=part.rules,
            profile=part.profile,
            connections=part.connections,
            budget=part.budget,
        )
        for clients, part in routing.items()
        for address in service.ips
    }
    return Port(
        service=Service(
            authority,
            service.namespace,
            service.name,
            port.number,
            found.endpoints,
            policy=acting.backend,
        ),
        protocol=routing[EVERYONE].protocol,
        routing=routing,
        targets=targets,
        behind=found.behind,
        nodes=found.nodes if service.local_only else None,
        for_zones=_hints(found.for_zones),
        for_nodes=_hints(found.for_nodes),
    )


def _hints(hints: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...] | None:
    """Hints count only where all endpoints have them (KEP-2433, KEP-3015)."""
    return hints if hints and all(hints) else None


def _routing(
    store: Store,
    cluster: Cluster,
    service: ServiceFacts,
    port: ServicePort,
    protocol: Protocol,
    acting: _Acting,
) -> dict[str, Routing]:
    """Rules and overlay by namespace of the clients."""
    governing: Mapping[str, Governing] = {}
    if acting.routes:
        governing = govern(attached_routes(acting.routes, service, port), service)
    routing = {}
    for clients in (EVERYONE, *sorted(governing.keys() | acting.profiles.keys() - {EVERYONE})):
        profile = acting.profiles.get(clients) or acting.profiles.get(EVERYONE)
        apex = Apex(
            service=service.key,
            port=port.number,
            cluster_domain=cluster.cluster_domain,
            shares=_shares(store, acting, profile),
            defaults=acting.policy,
            external=acting.external,
        )
        table: Table = make_table(apex, governing.get(clients) or governing.get(EVERYONE))
        is_opaque = profile is not None and has_port(profile.opaque, port.number)
        routing[clients] = Routing(
            rules=table.rules,
            profile=_profile(profile),
            connections=table.connections,
            budget=profile.budget if profile is not None else None,
            protocol=Protocol.OPAQUE if is_opaque else protocol,
        )
    return routing


def _shares(store: Store, acting: _Acting, profile: ProfileFragment | None) -> tuple[Share, ...]:
    """What takes the Service's place: splits for some requests, then the split for all, or the
    overrides of the profile."""
    shares = [
        Share(split.source, split.leaves, matches_of(store, split)[0])
        for split in acting.splits.values()
    ]
    if profile is not None and profile.overrides and all(share.matches for share in shares):
        shares.append(Share(profile.source, profile.overrides))
    return tuple(shares)


def _choose_splits(
    store: Store, apex: ServiceFacts, splits: Sequence[SplitFragment]
) -> dict[Ref, SplitFragment]:
    """The splits in force: those for some requests, the oldest first, then the oldest for all."""
    if apex.headless or apex.external_name:
        return {}
    ordered = sorted(splits, key=lambda item: (item.created, item.ref.name, item.ref))
    chosen = {
        split.ref: split for split in ordered if split.groups and not matches_of(store, split)[1]
    }
    default = next((split for split in ordered if not split.groups), None)
    if default is not None:
        chosen[default.ref] = default
    return chosen


def _choose_profiles(
    service: ServiceFacts, profiles: Sequence[ProfileFragment]
) -> dict[str, ProfileFragment]:
    """The profile in force by client namespace, EVERYONE for that of the Service's own.

    Of several in one namespace the one with the fullest name counts, then the oldest.
    """
    chosen: dict[str, ProfileFragment] = {}
    for profile in sorted(profiles, key=lambda item: (item.rank, item.created, item.ref)):
        home = profile.ref.namespace
        chosen.setdefault(EVERYONE if home == service.namespace else home, profile)
    return chosen


def _external(store: Store, key: Key) -> frozenset[Key]:
    """The ExternalNames among the Services that the objects of a Service lead to."""
    return frozenset(
        leaf
        for leaf in store.leaves_of.get(key, ())
        for service in (store.services.get(leaf),)
        if service is not None and service.external_name
    )


def _unused(acting: _Acting, ports: Mapping[int, Port]) -> dict[Source, Source]:
    """Splits and overrides that no rule comes from, each with what took their place."""
    used: set[Source] = set()
    for port in ports.values():
        for part in port.routing.values():
            used.update(_sources(part.rules))
            if part.protocol in BY_CONNECTION:
                used.update(_sources(part.connections))
    split = next((split for split in acting.splits.values() if not split.groups), None)
    route = next(iter(acting.routes), None)
    unused = {}
    items: list[Acting] = [*acting.splits.values(), *acting.profiles.values()]
    for item in items:
        if item.source in used:
            continue
        if isinstance(item, ProfileFragment) and split is not None:
            unused[item.source] = split.source
        elif route is not None:
            unused[item.source] = route.source
    return unused


def _sources(rules: Iterable[Rule]) -> Iterable[Source]:
    for rule in rules:
        for source in (rule.source, *(backend.source for backend in rule.backends)):
            if source is not None:
                yield source


def _profile(fragment: ProfileFragment | None) -> Profile | None:
    return None if fragment is None else Profile(fragment.source, fragment.routes)
