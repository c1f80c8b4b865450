"""Store -> Snapshot: everything from scratch, or what a change can reach; pure.

A change recompiles the units it can reach and keeps all others as they are, so a bad object
can touch no other object's result. What one unit is made of is in `unit`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from destination.endpoints import Cluster
from destination.facts import Key, Pod
from destination.fragments import Outcome, Ref, RejectedFragment
from destination.snapshot import Port, Reach, Snapshot, Unit
from destination.store import Store, Touched
from destination.unit import compile_unit
from mesh.core.model import Verdict

H = TypeVar("H", bound=Hashable)
V = TypeVar("V")


def compile_store(store: Store, cluster: Cluster | None = None) -> Snapshot:
    """Everything in a store, from scratch."""
    touched = Touched(
        services=set(store.services) | set(store.objects_of),
        pods=set(store.pods) | set(store.services_of_pod),
        addresses=set(store.services_at) | set(store.pods_at),
        objects=set(store.fragments),
        bundle=True,
    )
    cluster = cluster or Cluster(cluster_domain=store.cluster_domain)
    return recompile(Snapshot(cluster=cluster), store, touched)[0]


def recompile(old: Snapshot, store: Store, touched: Touched) -> tuple[Snapshot, Reach]:
    """The next snapshot, with only what was touched made anew, and what really changed.

    What comes out equal keeps its identity, so that readers can compare with `is`.
    """
    units, outcomes = dict(old.units), dict(old.outcomes)
    services: set[Key] = set()
    objects: set[Ref] = set()
    verdicts: dict[Ref, Outcome | None] = {
        ref: _lone_outcome(store, ref) for ref in touched.objects
    }
    for key in touched.services:
        unit, found = compile_unit(store, old.cluster, key)
        verdicts.update(found)
        if _put(units, key, None if unit is None else _shared(unit, units.get(key))):
            services.add(key)
    for ref, outcome in verdicts.items():
        if _put(outcomes, ref, outcome):
            objects.add(ref)
    arrived = {ref for ref in touched.arrived if ref in outcomes}
    pods, members, changed_pods = _next_pods(old, store, touched.pods)
    cluster_ips, pod_ips, addresses = _next_addresses(old, store, touched.addresses)
    for key in changed_pods:  # what an address means hangs on its pod
        for known in (old.pods.get(key), pods.get(key)):
            addresses.update(known.ips if known is not None else ())
    reach = Reach(
        frozenset(services),
        frozenset(changed_pods),
        frozenset(addresses),
        frozenset(objects | arrived),
        touched.bundle,
    )
    snapshot = Snapshot(
        version=old.version + 1,
        cluster=old.cluster,
        units=units if services else old.units,
        cluster_ips=cluster_ips,
        pods=pods,
        pod_ips=pod_ips,
        members=members,
        outcomes=outcomes if objects else old.outcomes,
        bundle=store.bundle,
    )
    return snapshot, reach


def _lone_outcome(store: Store, ref: Ref) -> Outcome | None:
    """The outcome of an object that acts on no Service; units overwrite it for all others."""
    fragment = store.fragments.get(ref)
    if isinstance(fragment, RejectedFragment):
        return Outcome(Verdict.REJECTED, fragment.problems)
    return None


def _next_pods(
    old: Snapshot, store: Store, touched: Iterable[Key]
) -> tuple[Mapping[Key, Pod], Mapping[Key, tuple[Key, ...]], set[Key]]:
    touched = tuple(touched)
    if not touched:
        return old.pods, old.members, set()
    pods, members, changed = dict(old.pods), dict(old.members), set()
    for key in touched:
        # Both, always: `or` would skip the second.
        moved = [
            _put(pods, key, store.effective_pod(key)),
            _put(members, key, tuple(sorted(store.services_of_pod.get(key, ()))) or None),
        ]
        if any(moved):
            changed.add(key)
    return pods, members, changed


def _next_addresses(
    old: Snapshot, store: Store, touched: Iterable[str]
) -> tuple[Mapping[str, Key], Mapping[str, Key], set[str]]:
    touched = tuple(touched)
    if not touched:
        return old.cluster_ips, old.pod_ips, set()
    cluster_ips, pod_ips, changed = dict(old.cluster_ips), dict(old.pod_ips), set()
    for address in touched:
        pod = store.pod_at(address)
        moved = [
            _put(cluster_ips, address, min(store.services_at.get(address, ()), default=None)),
            _put(pod_ips, address, None if pod is None else pod.key),
        ]
        if any(moved):
            changed.add(address)
    return cluster_ips, pod_ips, changed


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


def _put(mapping: dict[H, V], key: H, value: V | None) -> bool:
    """Put `value` in (None: take out); False when nothing changed."""
    if mapping.get(key) == value:
        return False
    if value is None:
        del mapping[key]
    else:
        mapping[key] = value
    return True
