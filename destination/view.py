"""Snapshot -> what one proxy needs, and the step from what it has to that; pure.

A view is cut by what the proxy subscribed to. What it depends on is given besides, so that a
change elsewhere costs this proxy nothing. Values are shared with the snapshot: two views of
one service hold the same object, and `is` finds what changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from msgspec.structs import replace

from destination.endpoints import describe
from destination.facts import Key
from destination.snapshot import EVERYONE, Port, Snapshot, Unit
from mesh.core.model import (
    Endpoint,
    Inbound,
    InboundPort,
    Profile,
    Protocol,
    Rule,
    Service,
    Target,
    Update,
    View,
)
from mesh.core.names import split_authority

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Client:
    """The pod whose proxy asks."""

    namespace: str
    pod: str
    node: str = ""

    @property
    def key(self) -> Key:
        return self.namespace, self.pod


@dataclass(frozen=True, slots=True)
class Sight:
    """A view with what it was made of: the Services and addresses whose change may change it."""

    view: View
    services: frozenset[Key]
    addresses: frozenset[str]


def look(snapshot: Snapshot, client: Client, subscribed: Iterable[str], *, version: int) -> Sight:
    """The view of one proxy, complete for the `ip:port`s that it subscribed to."""
    targets: dict[str, Target] = {}
    services: dict[str, Service] = {}
    seen: set[Key] = set()
    addresses: set[str] = set()
    for address in subscribed:
        host, port = split_authority(address)
        if port is None:
            continue
        addresses.add(host)
        target = resolve(snapshot, client, host, port, seen)
        targets[address] = target
        for rule in (*target.rules, *target.connections):
            _collect(snapshot, client, rule, services, seen)
    view = View(
        version=version,
        targets=targets,
        services=services,
        inbound=inbound_of(snapshot, client.key, seen),
        bundle=snapshot.bundle,
        app_done=_is_app_done(snapshot, client.key),
    )
    return Sight(view, frozenset(seen), frozenset(addresses))


def resolve(snapshot: Snapshot, client: Client, host: str, port: int, seen: set[Key]) -> Target:
    """What `host:port` means to a client: a Service, a pod, or the outside. Services that the
    answer depends on are added to `seen`."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    named = _named(snapshot, host)
    if named is not None:
        return _named_target(snapshot, client, named, address, port, seen)
    service = snapshot.cluster_ips.get(host)
    if service is not None:
        seen.add(service)
        unit = snapshot.units.get(service)
        compiled = unit.ports.get(port) if unit is not None else None
        if compiled is not None:
            found = compiled.targets.get((client.namespace, host))
            return found or compiled.targets[EVERYONE, host]
        return Target(address)
    pod = snapshot.pod_ips.get(host)
    if pod is not None:
        return _pod_target(snapshot, client, pod, address, host, port, seen)
    return Target(address)


def _named(snapshot: Snapshot, host: str) -> Key | None:
    """The Service that a full name means (`l5d-dst-override` of ingress mode), or None."""
    short = host.removesuffix(f".svc.{snapshot.cluster.cluster_domain}")
    name, dot, namespace = short.partition(".")
    return (namespace, name) if short != host and dot and "." not in namespace else None


def _named_target(
    snapshot: Snapshot, client: Client, key: Key, address: str, port: int, seen: set[Key]
) -> Target:
    """A Service port by name: routed as at its cluster address, if it has one or not."""
    seen.add(key)
    unit = snapshot.units.get(key)
    compiled = unit.ports.get(port) if unit is not None else None
    if compiled is None:
        return Target(address)
    routing = compiled.routing.get(client.namespace) or compiled.routing[EVERYONE]
    return Target(
        address=address,
        protocol=routing.protocol,
        authority=compiled.service.authority,
        rules=routing.rules,
        profile=routing.profile,
        connections=routing.connections,
        budget=routing.budget,
    )


def inbound_of(snapshot: Snapshot, pod: Key, seen: set[Key]) -> Inbound:
    """How the proxy of a pod treats what comes in: by the Services that lead to the pod."""
    facts = snapshot.pods.get(pod)
    ports: dict[int, InboundPort] = {}
    profiles: dict[str, Profile] = {}
    for unit in _units_behind(snapshot, pod, seen):
        for number, compiled in sorted(unit.ports.items()):
            target = _target_port(compiled, facts.ips if facts is not None else ())
            if target is None:
                continue
            known = ports.get(target)
            if known is None or known.protocol is Protocol.DETECT:
                ports[target] = InboundPort(target, compiled.protocol, number)
            profile = compiled.routing[EVERYONE].profile
            if profile is not None:
                profiles[compiled.service.authority] = profile
    return Inbound(
        ports=tuple(ports[number] for number in sorted(ports)),
        profiles=profiles,
        require_tls=bool(facts is not None and facts.require_tls),
    )


def difference(old: View, new: View) -> Update | None:
    """The step from one view to the next, under the newer's version; None for no change."""
    update = Update(
        version=new.version,
        targets=_changed(old.targets, new.targets),
        services=_changed(old.services, new.services),
        inbound=None if new.inbound == old.inbound else new.inbound,
        bundle=None if new.bundle == old.bundle else new.bundle,
        app_done=None if new.app_done == old.app_done else new.app_done,
    )
    unchanged = Update(new.version)
    return None if update == unchanged else update


def whole(view: View) -> Update:
    """A view as the first update of a stream."""
    return Update(
        version=view.version,
        targets=view.targets,
        services=view.services,
        inbound=view.inbound,
        bundle=view.bundle,
        app_done=view.app_done,
    )


def _pod_target(
    snapshot: Snapshot,
    client: Client,
    pod: Key,
    address: str,
    host: str,
    port: int,
    seen: set[Key],
) -> Target:
    """A pod address: taken as it is, with identity, and its headless Service where it has one.

    The protocol is the one that a Service in front of this port declares, headless ones first.
    """
    endpoint = describe(snapshot.cluster, snapshot.pods.get(pod), host, port)
    matches = [
        (unit.headless, compiled)
        for unit in _units_behind(snapshot, pod, seen)
        for compiled in unit.ports.values()
        if compiled.behind.get(host) == port
    ]
    matches.sort(key=lambda match: not match[0])
    declared = [compiled.protocol for _, compiled in matches]
    protocol = next((p for p in declared if p is not Protocol.DETECT), Protocol.DETECT)
    protocol = Protocol.OPAQUE if endpoint.opaque else protocol
    if not matches:
        return Target(address, protocol, endpoint=endpoint)
    is_headless, compiled = matches[0]
    endpoint = _zoned(compiled, endpoint)
    if not is_headless:
        return Target(address, protocol, endpoint=endpoint)
    routing = compiled.routing.get(client.namespace) or compiled.routing[EVERYONE]
    return Target(
        address=address,
        protocol=protocol,
        authority=compiled.service.authority,
        profile=routing.profile,
        endpoint=endpoint,
    )


def _zoned(compiled: Port, endpoint: Endpoint) -> Endpoint:
    """The endpoint as the Service's slices describe it, zone included."""
    for known in compiled.service.endpoints:
        if known.address == endpoint.address and known.port == endpoint.port:
            return known
    return endpoint


def _collect(
    snapshot: Snapshot,
    client: Client,
    rule: Rule,
    services: dict[str, Service],
    seen: set[Key],
) -> None:
    for authority in _authorities(rule):
        if authority not in services:
            key, port = _parse(authority)
            seen.add(key)
            services[authority] = _service(snapshot, client, authority, key, port)


def _authorities(rule: Rule) -> Iterator[str]:
    """The Services that a rule may lead to, mirrors included."""
    for filters in (rule.filters, *(backend.filters for backend in rule.backends)):
        for mirror in filters.mirrors if filters is not None else ():
            yield mirror.authority
    for backend in rule.backends:
        if not backend.refused:
            yield backend.authority


def _service(snapshot: Snapshot, client: Client, authority: str, key: Key, port: int) -> Service:
    unit = snapshot.units.get(key)
    compiled = unit.ports.get(port) if unit is not None else None
    if compiled is None:
        return Service(authority, *key, port, exists=unit is not None)
    service = compiled.service
    if compiled.nodes is not None and client.node:
        near = tuple(
            endpoint
            for endpoint, node in zip(service.endpoints, compiled.nodes, strict=True)
            if node == client.node
        )
        return replace(service, endpoints=near)
    meant = _meant(service.endpoints, compiled.for_nodes, client.node)
    if not meant and compiled.for_zones is not None:
        zone = snapshot.zones.get(client.node, "")
        meant = _meant(service.endpoints, compiled.for_zones, zone)
    return replace(service, endpoints=meant) if meant else service


def _meant(
    endpoints: tuple[Endpoint, ...], hints: tuple[tuple[str, ...], ...] | None, place: str
) -> tuple[Endpoint, ...]:
    """The endpoints that are meant for clients at a place, as the EndpointSlice controller says
    for `trafficDistribution` and topology: the own node (PreferSameNode) before the own zone
    (PreferSameZone, PreferClose); none where there is no such hint (KEP-2433, KEP-3015)."""
    if hints is None or not place:
        return ()
    return tuple(
        endpoint for endpoint, places in zip(endpoints, hints, strict=True) if place in places
    )


def _units_behind(snapshot: Snapshot, pod: Key, seen: set[Key]) -> Iterable[Unit]:
    for key in snapshot.members.get(pod, ()):
        seen.add(key)
        unit = snapshot.units.get(key)
        if unit is not None:
            yield unit


def _target_port(compiled: Port, addresses: Iterable[str]) -> int | None:
    for address in addresses:
        port = compiled.behind.get(address)
        if port is not None:
            return port
    return None


def _is_app_done(snapshot: Snapshot, pod: Key) -> bool:
    facts = snapshot.pods.get(pod)
    return facts is not None and facts.app_done


@lru_cache(maxsize=16384)
def _parse(authority: str) -> tuple[Key, int]:
    """The Service key and port of one of our own authorities."""
    host, port = split_authority(authority)
    name, _, rest = host.partition(".")
    return (rest.partition(".")[0], name), port or 0


def _changed(old: Mapping[str, T], new: Mapping[str, T]) -> dict[str, T | None]:
    changes: dict[str, T | None] = {
        key: value
        for key, value in new.items()
        if (known := old.get(key)) is not value and known != value
    }
    for key in old.keys() - new.keys():
        changes[key] = None
    return changes
