"""The compiled state of the cluster: what compiling makes and views are cut from.

Immutable. A unit is one Service with everything that clients need of it; routing is kept per
client namespace, so that objects of the client's namespace can go before the Service's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from destination.endpoints import Cluster
from destination.facts import Key, Pod
from destination.fragments import Outcome, Ref
from destination.layered import Layered
from mesh.core.model import Budget, Profile, Protocol, Rule, Service, Target

EVERYONE = ""  # the client namespace that stands for all without objects of their own


@dataclass(frozen=True, slots=True)
class Routing:
    """How requests of one client namespace to one port are routed and classified.

    `protocol` is the port's, or opaque where a profile says so.
    """

    rules: tuple[Rule, ...]
    profile: Profile | None
    connections: tuple[Rule, ...] = ()
    budget: Budget | None = None
    protocol: Protocol = Protocol.DETECT


@dataclass(frozen=True, slots=True)
class Port:
    """One compiled port of a Service.

    `routing` and `targets` are by client namespace, EVERYONE for the rest; targets are by
    cluster address besides. `nodes` names the node of each endpoint when only endpoints of
    the client's own node may be used; `for_zones` and `for_nodes` those that each endpoint is
    meant for, where every one has such a hint. `behind` holds the target port of each address.
    """

    service: Service
    protocol: Protocol
    routing: Mapping[str, Routing]
    targets: Mapping[tuple[str, str], Target]
    behind: Mapping[str, int]
    nodes: tuple[str, ...] | None = None
    for_zones: tuple[tuple[str, ...], ...] | None = None
    for_nodes: tuple[tuple[str, ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class Unit:
    """One Service, compiled."""

    key: Key
    headless: bool
    ports: Mapping[int, Port]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The compiled state of the cluster. Immutable; `recompile` gives the next one."""

    version: int = 0
    cluster: Cluster = field(default_factory=Cluster)
    units: Layered[Key, Unit] = field(default_factory=Layered)
    cluster_ips: Layered[str, Key] = field(default_factory=Layered)  # address -> Service
    pods: Layered[Key, Pod] = field(default_factory=Layered)
    pod_ips: Layered[str, Key] = field(default_factory=Layered)
    members: Layered[Key, tuple[Key, ...]] = field(default_factory=Layered)  # pod -> Services
    zones: Layered[str, str] = field(default_factory=Layered)  # node -> zone
    outcomes: Layered[Ref, Outcome] = field(default_factory=Layered)
    bundle: str = ""


@dataclass(frozen=True, slots=True)
class Reach:
    """What a recompilation really changed; who depends on none of it need not look.

    `objects` holds besides those whose outcome changed the ones that arrived anew, since their
    status may have been overwritten or be about an older generation. `broken` names Services
    that a bug of ours kept from compiling, with its text: they stay as they were.
    """

    services: frozenset[Key] = frozenset()
    pods: frozenset[Key] = frozenset()
    addresses: frozenset[str] = frozenset()
    objects: frozenset[Ref] = frozenset()
    broken: tuple[tuple[Key, str], ...] = ()
    bundle: bool = False
