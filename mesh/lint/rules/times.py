"""Timeouts and retries of one Service that do not go together, whoever says them; pure.

Each part of a policy may come from another object (rule, profile, annotations of the Service), so
it is judged as it is in force, and said of the object whose timeout for the whole request counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil

from destination.facts import Key
from destination.fragments import Ref, RouteFragment
from destination.snapshot import Routing, Snapshot
from destination.store import Store
from mesh.core.model import Policy, RouteClass, Rule, Source
from mesh.core.route import settle
from mesh.lint.rules.finding import Finding, Level
from mesh.lint.rules.source import Manifest


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one policy."""

    reason: str
    message: str
    remedy: str
    level: Level = Level.WARNING


@dataclass(frozen=True, slots=True)
class Place:
    """Where the time for a request is said: an object and a field of it."""

    source: Source
    path: str


@dataclass(frozen=True, slots=True)
class InForce:
    """One policy that requests of some clients meet, and where its time is said."""

    policy: Policy
    place: Place


def policies_of(key: Key, routing: Routing) -> Iterator[InForce]:
    """Every policy that requests to a port may meet: each rule with each class of requests."""
    profile = routing.profile
    classes: list[tuple[int, RouteClass | None]] = [(-1, None)]
    classes += enumerate(profile.routes if profile is not None else ())
    for rule in routing.rules:
        for index, route in classes:
            place = _place_of(key, rule)
            own = rule.policy is not None and rule.policy.request is not None
            if route is not None and route.timeout is not None and not own and profile is not None:
                place = Place(profile.source, f"spec.routes[{index}].timeout")
            yield InForce(settle(rule, route), place)


def _place_of(key: Key, rule: Rule) -> Place:
    """An object that says something of times or retries itself, else the Service behind it."""
    if rule.source is None or rule.policy is None:
        return Place(Source("Service", *key), "metadata.annotations")
    return Place(rule.source, f"spec.rules[{rule.index}].timeouts")


def find_time_faults(
    items: Mapping[Ref, Manifest], store: Store, snapshot: Snapshot
) -> Iterator[Finding]:
    """Faults of all policies in force, and of rules whose Service is not in the files."""
    by_source = {Source(item.kind, item.namespace, item.name): item for item in items.values()}
    for key, unit in snapshot.units.items():
        for port in unit.ports.values():
            for routing in port.routing.values():
                for found in policies_of(key, routing):
                    item = by_source.get(found.place.source)
                    if item is not None:
                        yield from _findings(item, found.place.path, found.policy)
    for ref, item in items.items():
        route = store.fragments.get(ref)
        for rule in route.rules if isinstance(route, RouteFragment) else ():
            if rule.policy is not None:
                yield from _findings(item, f"spec.rules[{rule.index}].timeouts", rule.policy)


def _findings(item: Manifest, path: str, policy: Policy) -> Iterator[Finding]:
    for fault in faults_of(policy):
        line = item.line_of(path)
        yield Finding(
            item.file, line, str(item), path, fault.reason, fault.message, fault.remedy, fault.level
        )


def faults_of(policy: Policy) -> Iterator[Fault]:
    """What cannot happen within the time for the whole request."""
    request = policy.request
    if not request:
        return
    tries = [limit for limit in (policy.attempt, policy.headers) if limit]
    shortest = min(tries, default=0.0)
    if policy.retry is not None and shortest >= request:
        yield Fault(
            "RetryInVain",
            "the first try may take as long as the whole request: nothing is left for a retry",
            "give one try a shorter timeout than the request",
        )
    elif policy.retry is not None and shortest:
        yield from _too_many(request, shortest, policy.retry.limit)
    longer = [limit for limit in (*tries, policy.response or 0.0) if limit > request]
    if longer and (policy.retry is None or shortest < request):
        yield Fault(
            "TimeoutInVain",
            f"a limit of {longer[0]:g} s within a request that ends after {request:g} s is never "
            "reached",
            "give the request more time, or remove the longer limit",
        )


def _too_many(request: float, shortest: float, limit: int | None) -> Iterator[Fault]:
    fitting = ceil(request / shortest)
    if limit is not None and limit + 1 > fitting:
        yield Fault(
            "RetriesDoNotFit",
            f"{limit + 1} tries of {shortest:g} s are more than a request of {request:g} s has "
            f"time for: where each takes its time, {fitting} are made",
            "give the request more time, or one try less",
            Level.NOTE,
        )
