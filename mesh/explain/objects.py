"""The objects that have a say in one Service, and why one of them owns its table; pure."""

from __future__ import annotations

from dataclasses import dataclass

from destination.facts import Key
from destination.fragments import Outcome as Judged
from destination.fragments import Ref, RouteFragment, RouteKind, SplitFragment
from destination.snapshot import Snapshot
from destination.store import SERVICES, Store
from mesh.core.model import Rule


@dataclass(frozen=True, slots=True)
class Involved:
    """One object that acts, or would like to act, on the Service; with destination's verdict."""

    name: str
    judged: Judged


def involved(store: Store, snapshot: Snapshot, key: Key | None) -> tuple[Involved, ...]:
    """Every object that names the Service, with its verdict; the Service only with problems."""
    if key is None:
        return ()
    refs = [Ref(SERVICES, *key), *sorted(store.objects_of.get(key, ()))]
    found = []
    for ref in refs:
        judged = snapshot.outcomes.get(ref)
        names = judged.service.split(", ") if judged is not None else []
        if judged is None or (judged.service and f"{key[0]}/{key[1]}" not in names):
            continue
        fragment = store.fragments.get(ref)
        name = str(fragment.source) if fragment is not None else f"Service/{key[0]}/{key[1]}"
        found.append(Involved(name, judged))
    return tuple(found)


def why_owner(store: Store, key: Key, rule: Rule | None, clients: str) -> str:
    """Why the object that the rule comes from goes before others."""
    fragments = [store.fragments[ref] for ref in store.objects_of.get(key, ())]
    source = rule.source if rule is not None else None
    routes = [item for item in fragments if isinstance(item, RouteFragment)]
    if any(route.source == source for route in routes):
        return _why_route(routes, key, rule, clients)
    if source is not None and source.kind == "ServiceProfile":
        return f"its overrides take the place of {key[0]}/{key[1]}"
    splits = [item for item in fragments if isinstance(item, SplitFragment) and not item.groups]
    if len(splits) <= 1:
        return f"the only split of {key[0]}/{key[1]}" if splits or source is not None else ""
    if all(split.created for split in splits):
        return f"the oldest of {len(splits)} splits of {key[0]}/{key[1]}"
    return (
        f"the first by name of {len(splits)} splits of {key[0]}/{key[1]}, "
        "whose age is not known here; in a cluster the oldest wins"
    )


def _why_route(routes: list[RouteFragment], key: Key, rule: Rule | None, clients: str) -> str:
    assert rule is not None
    route = next(route for route in routes if route.source == rule.source)
    home = route.ref.namespace
    if home != key[0]:
        return f"a route of the clients in {home}, which goes before those of {key[0]}"
    others = [other for other in routes if other.kind is route.kind and other is not route]
    if others and route.kind is RouteKind.TCP:
        return f"the oldest of {len(others) + 1} TCPRoutes of {key[0]}/{key[1]}"
    if others:
        return f"rules of {len(others) + 1} routes are tried, the most specific first"
    return f"the only {rule.source.kind if rule.source else 'route'} of {key[0]}/{key[1]}"
