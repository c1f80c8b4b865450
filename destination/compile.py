"""Store -> Snapshot: everything from scratch, or what a change can reach; pure.

A change recompiles the units it can reach and keeps all others as they are, so a bad object
can touch no other object's result. What one unit is made of is in `unit`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import TypeVar

from destination.endpoints import Cluster
from destination.facts import Key
from destination.fragments import (
    GrantFragment,
    GroupFragment,
    Outcome,
    Ref,
    RejectedFragment,
    RouteFragment,
    verdict_of,
)
from destination.route_status import Winners, judge_route, reject_route
from destination.snapshot import Port, Reach, Snapshot, Unit
from destination.store import ROUTES, Store, Touched
from destination.unit import compile_unit
from mesh.core.model import Verdict

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def everything(store: Store) -> Touched:
    """All that a store holds, as if it had just come."""
    return Touched(
        services=set(store.services) | set(store.objects_of),
        pods=set(store.pods) | set(store.services_of_pod),
        addresses=set(store.services_at) | set(store.pods_at),
        objects=set(store.fragments),
        nodes=set(store.zones),
        bundle=True,
    )


def compile_store(store: Store, cluster: Cluster | None = None) -> Snapshot:
    """Everything in a store, from scratch."""
    cluster = cluster or Cluster(cluster_domain=store.cluster_domain)
    return recompile(Snapshot(cluster=cluster), store, everything(store))[0]


def recompile(old: Snapshot, store: Store, touched: Touched) -> tuple[Snapshot, Reach]:
    """The next snapshot, with only what was touched made anew, and what really changed.

    What comes out equal keeps its identity, so that readers can compare with `is`.
    """
    units, verdicts, broken = _compile_units(old, store, touched)
    pods = _moved(old.pods, {key: store.effective_pod(key) for key in touched.pods})
    members = _moved(old.members, {key: _services_of(store, key) for key in touched.pods})
    changed_pods = pods.keys() | members.keys()
    cluster_ips = _moved(
        old.cluster_ips,
        {ip: min(store.services_at.get(ip, ()), default=None) for ip in touched.addresses},
    )
    pod_ips = _moved(old.pod_ips, {ip: _pod_at(store, ip) for ip in touched.addresses})
    outcomes = old.outcomes.changed(verdicts)
    arrived = {ref for ref in touched.arrived if ref in outcomes}
    addresses = cluster_ips.keys() | pod_ips.keys()
    for key in changed_pods:  # what an address means hangs on its pod
        for pod in (old.pods.get(key), pods.get(key)):
            addresses.update(pod.ips if pod is not None else ())
    snapshot = Snapshot(
        version=old.version + 1,
        cluster=old.cluster,
        units=old.units.changed(units),
        cluster_ips=old.cluster_ips.changed(cluster_ips),
        pods=old.pods.changed(pods),
        pod_ips=old.pod_ips.changed(pod_ips),
        members=old.members.changed(members),
        zones=old.zones.changed({node: store.zones[node] for node in touched.nodes}),
        outcomes=outcomes,
        bundle=store.bundle,
    )
    reach = Reach(
        services=frozenset(units),
        pods=frozenset(changed_pods | _pods_on(snapshot, touched.nodes)),
        addresses=frozenset(addresses),
        objects=frozenset(verdicts.keys() | arrived),
        broken=tuple(broken),
        bundle=touched.bundle,
    )
    return snapshot, reach


def _compile_units(
    old: Snapshot, store: Store, touched: Touched
) -> tuple[dict[Key, Unit | None], dict[Ref, Outcome | None], list[tuple[Key, str]]]:
    """The units and outcomes that differ from the old snapshot's, and units that a bug kept
    from compiling: one of them must not cost all others their change."""
    broken: list[tuple[Key, str]] = []
    units: dict[Key, Unit | None] = {}
    verdicts: dict[Ref, Outcome | None] = {
        ref: _lone_outcome(store, ref) for ref in touched.objects
    }
    routes = {ref for ref in touched.objects if ref.resource in ROUTES}
    for key in touched.services:
        routes.update(ref for ref in store.objects_of.get(key, ()) if ref.resource in ROUTES)
        try:
            unit, found = compile_unit(store, old.cluster, key)
        except Exception as error:
            broken.append((key, f"{type(error).__name__}: {error}"))
            continue
        verdicts.update(found)
        units[key] = None if unit is None else _shared(unit, old.units.get(key))
    winners = Winners(store)
    for ref in routes:
        route = store.fragments.get(ref)
        if isinstance(route, RouteFragment):
            try:
                verdicts[ref] = judge_route(store, route, winners)
            except Exception as error:
                broken.append(((ref.namespace, ref.name), f"{type(error).__name__}: {error}"))
    return _moved(old.units, units), _moved(old.outcomes, verdicts), broken


def _lone_outcome(store: Store, ref: Ref) -> Outcome | None:
    """The outcome of an object that acts on no Service; units overwrite it for all others."""
    fragment = store.fragments.get(ref)
    if isinstance(fragment, RejectedFragment):
        return reject_route(fragment)
    if isinstance(fragment, GroupFragment):
        return Outcome(verdict_of(fragment.problems), fragment.problems)
    if isinstance(fragment, GrantFragment) and fragment.problems:  # else it is gateways' as well
        return Outcome(Verdict.PARTIAL, fragment.problems)
    return None


def _pods_on(snapshot: Snapshot, nodes: set[str]) -> set[Key]:
    """The pods of these nodes: what is near to them is known only now."""
    if not nodes:
        return set()
    return {key for key, pod in snapshot.pods.items() if pod.node in nodes}


def _services_of(store: Store, pod: Key) -> tuple[Key, ...] | None:
    """The Services that have a pod as an endpoint, ready or not."""
    return tuple(sorted(store.services_of_pod.get(pod, ()))) or None


def _pod_at(store: Store, address: str) -> Key | None:
    pod = store.pod_at(address)
    return None if pod is None else pod.key


def _moved(old: Mapping[K, V], new: Mapping[K, V | None]) -> dict[K, V | None]:
    """Those entries of `new` (None: no entry) that differ from `old`."""
    return {key: value for key, value in new.items() if old.get(key) != value}


def _shared(new: Unit, old: Unit | None) -> Unit:
    """`new` with the parts of `old` that are equal, or `old` itself when all are."""
    if old is None:
        return new
    if new == old:
        return old
    return replace(
        new, ports={number: _shared_port(port, old) for number, port in new.ports.items()}
    )


def _shared_port(new: Port, unit: Unit) -> Port:
    old = unit.ports.get(new.service.port)
    if old is None:
        return new
    if new == old:
        return old
    targets = {
        key: old.targets[key] if old.targets.get(key) == target else target
        for key, target in new.targets.items()
    }
    service = old.service if old.service == new.service else new.service
    return replace(new, service=service, targets=targets)
