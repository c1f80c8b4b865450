"""One Service, compiled, with the verdicts on the objects that act on it; pure.

Precedence between objects lives here. Composition is design decision 3: the default route of
a Service is expanded by its TrafficSplit, and a ServiceProfile lies over it without switching
anything off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from destination.endpoints import Cluster, find_endpoints
from destination.facts import Key, ServiceFacts, ServicePort
from destination.fragments import (
    EXTERNAL_SERVICE,
    HEADLESS_APEX,
    NO_SUCH_SERVICE,
    NOT_HTTP,
    NOT_RECURSIVE,
    PORT_MISMATCH,
    RESOLVED_NAME,
    SHADOWED,
    Outcome,
    ProfileFragment,
    Ref,
    SplitFragment,
    verdict_of,
)
from destination.notes import judge_service
from destination.protocols import port_protocol
from destination.snapshot import EVERYONE, Port, Routing, Unit
from destination.store import SERVICES, Store
from mesh.core.model import (
    Backend,
    Problem,
    Profile,
    Protocol,
    Rule,
    Service,
    Severity,
    Source,
    Target,
    Verdict,
)
from mesh.core.names import join_address, service_authority


def compile_unit(
    store: Store, cluster: Cluster, key: Key
) -> tuple[Unit | None, dict[Ref, Outcome | None]]:
    """One Service and the verdicts on it and on all objects that act on it."""
    fragments = [store.fragments[ref] for ref in sorted(store.objects_of.get(key, ()))]
    splits = [item for item in fragments if isinstance(item, SplitFragment)]
    profiles = [
        item
        for item in fragments
        if isinstance(item, ProfileFragment) and store.target_of(item) == key
    ]
    service = store.services.get(key)
    verdicts: dict[Ref, Outcome | None] = {}
    if service is None:
        acting: list[SplitFragment | ProfileFragment] = [*splits, *profiles]
        verdicts.update((item.ref, _no_such_service(item, key)) for item in acting)
        verdicts[Ref(SERVICES, *key)] = None
        return None, verdicts
    verdicts[Ref(SERVICES, *key)] = judge_service(service)
    split = _choose_split(store, service, splits, verdicts)
    chosen = _choose_profiles(service, profiles)
    ports = {
        port.number: _compile_port(store, cluster, service, port, split, chosen)
        for port in service.ports
    }
    _judge_profiles(service, profiles, chosen, ports, verdicts)
    leaves = {leaf.service for leaf in split.leaves} if split is not None else set()
    return Unit(key, service.headless, ports, frozenset(leaves)), verdicts


def _compile_port(
    store: Store,
    cluster: Cluster,
    service: ServiceFacts,
    port: ServicePort,
    split: SplitFragment | None,
    profiles: Mapping[str, ProfileFragment],
) -> Port:
    found = find_endpoints(store, cluster, service, port)
    authority = service_authority(
        service.name, service.namespace, port.number, cluster.cluster_domain
    )
    protocol = port_protocol(port, service, store.namespaces.get(service.namespace))
    if protocol is Protocol.DETECT and any(endpoint.opaque for endpoint in found.endpoints):
        protocol = Protocol.OPAQUE
    rule = _default_rule(authority, split, port.number, cluster.cluster_domain)
    routing = {
        namespace: Routing((rule,), _profile(profiles.get(namespace) or profiles.get(EVERYONE)))
        for namespace in (EVERYONE, *profiles)
    }
    targets = {
        (namespace, address): Target(
            address=join_address(address, port.number),
            protocol=protocol,
            authority=authority,
            rules=part.rules,
            profile=part.profile,
        )
        for namespace, part in routing.items()
        for address in service.ips
    }
    return Port(
        service=Service(authority, service.namespace, service.name, port.number, found.endpoints),
        protocol=protocol,
        routing=routing,
        targets=targets,
        behind=found.behind,
        nodes=found.nodes if service.local_only else None,
    )


def _default_rule(
    authority: str, split: SplitFragment | None, port: int, cluster_domain: str
) -> Rule:
    """The rule that matches always: the Service itself, or what its split makes of it."""
    if split is None:
        return Rule((Backend(authority),))
    return Rule(
        tuple(
            Backend(
                service_authority(leaf.service[1], leaf.service[0], port, cluster_domain),
                leaf.weight,
            )
            for leaf in split.leaves
        ),
        source=split.source,
    )


# -- splits --------------------------------------------------------------------------------


def _choose_split(
    store: Store,
    apex: ServiceFacts,
    splits: Sequence[SplitFragment],
    verdicts: dict[Ref, Outcome | None],
) -> SplitFragment | None:
    """The oldest split of a Service, then by name; the others are shadowed by it."""
    if apex.headless or apex.external_name:
        for split in splits:
            verdicts[split.ref] = _refused_apex(split, apex)
        return None
    winner: SplitFragment | None = None
    for split in sorted(splits, key=lambda item: (item.created, item.ref)):
        problems = (*split.problems, *_leaf_problems(store, apex, split))
        if winner is None:
            winner = split
            verdicts[split.ref] = _outcome(verdict_of(problems), problems, apex.key)
        else:
            verdicts[split.ref] = _shadowed(split, winner.source, apex.key)
    return winner


def _leaf_problems(store: Store, apex: ServiceFacts, split: SplitFragment) -> Iterable[Problem]:
    for leaf in split.leaves:
        path = f"{split.field}[{leaf.index}].service"
        name = _print_key(leaf.service)
        service = store.services.get(leaf.service)
        if service is None:
            message = f"no Service {name}: its share is answered with 503"
            yield Problem(split.source, path, NO_SUCH_SERVICE, message)
            continue
        if service.external_name:
            message = f"Service {name} is an ExternalName and has no endpoints to split to"
            yield Problem(split.source, path, EXTERNAL_SERVICE, message)
            continue
        missing = {port.number for port in apex.ports} - {port.number for port in service.ports}
        if missing:
            ports = ", ".join(map(str, sorted(missing)))
            message = (
                f"Service {name} has no port {ports} as {_print_key(apex.key)} has: "
                "its share there is answered with 503"
            )
            yield Problem(split.source, path, PORT_MISMATCH, message)
        if leaf.service != apex.key and _has_split(store, leaf.service):
            message = f"{name} has a split of its own, which does not act on this share"
            yield Problem(split.source, path, NOT_RECURSIVE, message)


def _has_split(store: Store, key: Key) -> bool:
    return any(
        isinstance(store.fragments[ref], SplitFragment) for ref in store.objects_of.get(key, ())
    )


def _refused_apex(split: SplitFragment, apex: ServiceFacts) -> Outcome:
    name = _print_key(apex.key)
    if apex.headless:
        message = f"Service {name} is headless: clients pick pods themselves, nothing can be split"
        return _rejected(split, HEADLESS_APEX, message, apex.key, "spec.service")
    message = f"Service {name} is an ExternalName: its traffic leaves the mesh"
    return _rejected(split, EXTERNAL_SERVICE, message, apex.key, "spec.service")


# -- profiles ------------------------------------------------------------------------------


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


def _judge_profiles(
    service: ServiceFacts,
    profiles: Sequence[ProfileFragment],
    chosen: Mapping[str, ProfileFragment],
    ports: Mapping[int, Port],
    verdicts: dict[Ref, Outcome | None],
) -> None:
    for profile in profiles:
        home = profile.ref.namespace
        winner = chosen[EVERYONE if home == service.namespace else home]
        if winner is not profile:
            verdicts[profile.ref] = _shadowed(profile, winner.source, service.key)
            continue
        problems = (*profile.problems, *_profile_problems(service, profile, ports))
        verdicts[profile.ref] = _outcome(verdict_of(problems), problems, service.key)


def _profile_problems(
    service: ServiceFacts, profile: ProfileFragment, ports: Mapping[int, Port]
) -> Iterable[Problem]:
    name = _print_key(service.key)
    if profile.rank > 0:
        message = f"taken as Service {name}; Linkerd itself knows only its full name"
        yield Problem(profile.source, "metadata.name", RESOLVED_NAME, message)
    if service.external_name:
        message = f"Service {name} is an ExternalName: its traffic leaves the mesh"
        yield Problem(profile.source, "metadata.name", EXTERNAL_SERVICE, message, Severity.ERROR)
    unread = {Protocol.OPAQUE, Protocol.TLS}
    if ports and all(port.protocol in unread for port in ports.values()):
        message = f"no port of Service {name} is read as HTTP: its routes match nothing"
        yield Problem(profile.source, "spec.routes", NOT_HTTP, message)


def _profile(fragment: ProfileFragment | None) -> Profile | None:
    return None if fragment is None else Profile(fragment.source, fragment.routes)


# -- outcomes ------------------------------------------------------------------------------


def _no_such_service(fragment: SplitFragment | ProfileFragment, key: Key) -> Outcome:
    is_split = isinstance(fragment, SplitFragment)
    path = "spec.service" if is_split else "metadata.name"
    message = f"no Service {_print_key(key)}; nothing is changed until there is one"
    return _rejected(fragment, NO_SUCH_SERVICE, message, key, path)


def _rejected(
    fragment: SplitFragment | ProfileFragment, reason: str, message: str, key: Key, path: str
) -> Outcome:
    problem = Problem(fragment.source, path, reason, message, Severity.ERROR)
    return _outcome(Verdict.REJECTED, (problem, *fragment.problems), key)


def _shadowed(fragment: SplitFragment | ProfileFragment, winner: Source, key: Key) -> Outcome:
    message = f"{winner} acts on {_print_key(key)} and goes before this object"
    problem = Problem(fragment.source, "", SHADOWED, message)
    return Outcome(
        Verdict.SHADOWED, (problem, *fragment.problems), _print_key(key), shadowed_by=winner
    )


def _outcome(verdict: Verdict, problems: Iterable[Problem], key: Key) -> Outcome:
    return Outcome(verdict, tuple(problems), _print_key(key))


def _print_key(key: Key) -> str:
    return f"{key[0]}/{key[1]}"
