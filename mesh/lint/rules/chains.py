"""Timeouts that a chain of calls cannot meet: a caller gives up before who it asks; pure.

A request to Service A that ends after two seconds never waits five for what A's workload asks of
Service B. Deadlines travel with requests, so nothing breaks, but five is not what happens.
The calls are those that settings of the workloads show (`mesh.lint.rules.calls`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from destination.facts import Key
from destination.fragments import Ref
from destination.snapshot import EVERYONE, Snapshot
from destination.store import Store
from mesh.core.model import Source
from mesh.lint.rules.calls import Call, Caller, find_callers
from mesh.lint.rules.finding import Finding, Level
from mesh.lint.rules.source import Manifest
from mesh.lint.rules.times import InForce, Place, policies_of


@dataclass(frozen=True, slots=True)
class _Limit:
    """The longest that anybody waits for a Service, and how that came about."""

    seconds: float
    chain: tuple[str, ...]  # the first Service, and each call from there on
    place: Place


def find_chain_faults(
    manifests: Iterable[Manifest],
    items: Mapping[Ref, Manifest],
    store: Store,
    snapshot: Snapshot,
) -> Iterator[Finding]:
    """Limits of callees that their callers never wait for."""
    callers = find_callers(manifests, store)
    if not callers:
        return
    by_source = {Source(item.kind, item.namespace, item.name): item for item in items.values()}
    walk = _Walk(snapshot, _Behind(manifests, callers))
    for key in snapshot.units:
        walk.start(key)
    for place, (seconds, limit) in walk.found.items():
        item = by_source.get(place.source)
        if item is not None:
            yield _finding(item, place, seconds, limit)


class _Behind:
    """The callers behind each Service, by its selector."""

    def __init__(self, manifests: Iterable[Manifest], callers: list[Caller]) -> None:
        self._callers: dict[Key, list[Caller]] = {}
        for item in manifests:
            spec = item.obj.get("spec")
            selector = spec.get("selector") if isinstance(spec, dict) else None
            if item.kind != "Service" or not isinstance(selector, dict) or not selector:
                continue
            self._callers[item.namespace, item.name] = [
                caller
                for caller in callers
                if caller.namespace == item.namespace
                and selector.items() <= dict(caller.labels).items()
            ]

    def of(self, service: Key) -> list[Caller]:
        return self._callers.get(service, [])


class _Walk:
    """Follows calls from every Service whose requests end after a time."""

    def __init__(self, snapshot: Snapshot, behind: _Behind) -> None:
        self._snapshot = snapshot
        self._behind = behind
        self._best: dict[Key, float] = {}  # the shortest limit that has reached a Service
        self.found: dict[Place, tuple[float, _Limit]] = {}

    def start(self, key: Key) -> None:
        """Follow the calls that serve requests to one Service."""
        unit = self._snapshot.units[key]
        policies = [
            found
            for port in unit.ports.values()
            for routing in port.routing.values()
            for found in policies_of(key, routing)
        ]
        longest = _longest(policies)
        if longest is not None:
            seconds, place = longest
            self._follow(key, _Limit(seconds, (_print(key),), place))

    def _follow(self, key: Key, limit: _Limit) -> None:
        if self._best.get(key, limit.seconds + 1) <= limit.seconds:
            return  # reached before, with less time
        self._best[key] = limit.seconds
        for caller in self._behind.of(key):
            for call in caller.calls:
                self._call(caller, call, limit)

    def _call(self, caller: Caller, call: Call, limit: _Limit) -> None:
        unit = self._snapshot.units.get(call.service)
        port = unit.ports.get(call.port) if unit is not None else None
        if port is None:
            return
        routing = port.routing.get(caller.namespace) or port.routing[EVERYONE]
        policies = list(policies_of(call.service, routing))
        name = _print(call.service)
        longer = _Limit(limit.seconds, (*limit.chain, f"{caller.name} calls {name}"), limit.place)
        for found in policies:
            seconds = found.policy.request or found.policy.attempt or 0.0
            known = self.found.get(found.place)
            if seconds > limit.seconds and (known is None or known[1].seconds > limit.seconds):
                self.found[found.place] = seconds, longer
        own = _longest(policies)
        if own is not None and own[0] < limit.seconds:
            longer = _Limit(own[0], (name,), own[1])
        self._follow(call.service, longer)


def _longest(policies: list[InForce]) -> tuple[float, Place] | None:
    """The longest time for a request, and where it is said; None where one has no end."""
    ends = [(found.policy.request or 0.0, found.place) for found in policies]
    if not ends or any(not seconds for seconds, _ in ends):
        return None
    return max(ends, key=lambda end: end[0])


def _finding(item: Manifest, place: Place, seconds: float, limit: _Limit) -> Finding:
    first, *calls = limit.chain
    return Finding(
        item.file,
        item.line_of(place.path),
        str(item),
        place.path,
        "LongerThanCaller",
        f"nobody waits for {seconds:g} s: requests to Service {first} end after "
        f"{limit.seconds:g} s ({limit.place.source}), and behind it {', '.join(calls)}",
        "give the requests at the beginning of the chain more time, or these less",
        Level.WARNING,
    )


def _print(key: Key) -> str:
    return f"{key[0]}/{key[1]}"
