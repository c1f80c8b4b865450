"""Verdicts on the splits and profiles of one Service: what acts, what does not, and why; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from destination.facts import Key, ServiceFacts
from destination.fragments import (
    EXTERNAL_SERVICE,
    HEADLESS_APEX,
    NO_SUCH_GROUP,
    NO_SUCH_SERVICE,
    NOT_HTTP,
    NOT_RECURSIVE,
    OVERRULED,
    PORT_MISMATCH,
    RESOLVED_NAME,
    SHADOWED,
    GroupFragment,
    Outcome,
    ProfileFragment,
    Ref,
    SplitFragment,
    WeightedLeaf,
    verdict_of,
)
from destination.snapshot import EVERYONE, Port
from destination.store import Store
from mesh.core.model import BY_CONNECTION, Match, Problem, Severity, Source, Verdict

Verdicts = dict[Ref, Outcome | None]


def leaf_problems(
    store: Store,
    apex: ServiceFacts,
    source: Source,
    leaves: Iterable[WeightedLeaf],
    field: str,
    name_field: str,
) -> Iterable[Problem]:
    """What is wrong with the Services that take the place of `apex`: `field[i].name_field`."""
    for leaf in leaves:
        path = f"{field}[{leaf.index}].{name_field}"
        name = print_key(leaf.service)
        service = store.services.get(leaf.service)
        if service is None:
            message = f"no Service {name}: its share is answered with 503"
            yield Problem(source, path, NO_SUCH_SERVICE, message)
            continue
        if service.external_name:
            message = f"Service {name} is an ExternalName and has no endpoints to split to"
            yield Problem(source, path, EXTERNAL_SERVICE, message)
            continue
        wanted = {port.number for port in apex.ports} if leaf.port is None else {leaf.port}
        missing = wanted - {port.number for port in service.ports}
        if missing:
            ports = ", ".join(map(str, sorted(missing)))
            message = (
                f"Service {name} has no port {ports} as {print_key(apex.key)} has: "
                "its share there is answered with 503"
            )
            yield Problem(source, path, PORT_MISMATCH, message)
        if leaf.service != apex.key and _has_split(store, leaf.service):
            message = f"{name} has a split of its own, which does not act on this share"
            yield Problem(source, path, NOT_RECURSIVE, message)


def matches_of(store: Store, split: SplitFragment) -> tuple[tuple[Match, ...], list[Problem]]:
    """The requests that a split acts on (none: all), and which of its groups are not there."""
    matches: list[Match] = []
    problems = []
    for index, ref in enumerate(split.groups):
        group = store.fragments.get(ref)
        if isinstance(group, GroupFragment):
            matches += group.matches
            continue
        what = "no" if group is None else "unreadable"
        message = (
            f"{what} HTTPRouteGroup {ref.namespace}/{ref.name}; the split is not applied, since "
            "without it it would act on other requests"
        )
        path = f"spec.matches[{index}].name"
        problems.append(Problem(split.source, path, NO_SUCH_GROUP, message, Severity.ERROR))
    return tuple(matches), problems


def judge_splits(
    store: Store,
    apex: ServiceFacts,
    splits: Sequence[SplitFragment],
    acting: Mapping[Ref, SplitFragment],
    governors: Mapping[Source, Source],
    verdicts: Verdicts,
) -> None:
    """The verdict on each split. `acting` are those in force, by Ref; `governors` names for a
    split that nothing leads to any more the route that took its place."""
    default = next((split for split in acting.values() if not split.groups), None)
    for split in splits:
        if apex.headless or apex.external_name:
            verdicts[split.ref] = refused_apex(split, apex)
            continue
        _, missing = matches_of(store, split)
        found = leaf_problems(store, apex, split.source, split.leaves, split.field, "service")
        problems = (*missing, *split.problems, *found)
        if missing:
            verdicts[split.ref] = outcome(Verdict.REJECTED, problems, apex.key)
        elif split.ref not in acting and default is not None:
            verdicts[split.ref] = shadowed(split, default.source, apex.key)
        elif split.source in governors:
            verdicts[split.ref] = shadowed(split, governors[split.source], apex.key)
        else:
            verdicts[split.ref] = outcome(verdict_of(problems), problems, apex.key)


def _has_split(store: Store, key: Key) -> bool:
    return any(
        isinstance(store.fragments[ref], SplitFragment) for ref in store.objects_of.get(key, ())
    )


def refused_apex(split: SplitFragment, apex: ServiceFacts) -> Outcome:
    name = print_key(apex.key)
    if apex.headless:
        message = f"Service {name} is headless: clients pick pods themselves, nothing can be split"
        return rejected(split, HEADLESS_APEX, message, apex.key, "spec.service")
    message = f"Service {name} is an ExternalName: its traffic leaves the mesh"
    return rejected(split, EXTERNAL_SERVICE, message, apex.key, "spec.service")


def judge_profiles(
    store: Store,
    service: ServiceFacts,
    profiles: Sequence[ProfileFragment],
    chosen: Mapping[str, ProfileFragment],
    ports: Mapping[int, Port],
    overrulers: Mapping[Source, Source],
    verdicts: Verdicts,
) -> None:
    """The verdict on each profile. `chosen` are those in force, by namespace of the clients;
    `overrulers` names what goes before a profile's overrides."""
    for profile in profiles:
        home = profile.ref.namespace
        winner = chosen[EVERYONE if home == service.namespace else home]
        if winner is not profile:
            verdicts[profile.ref] = shadowed(profile, winner.source, service.key)
            continue
        overruler = overrulers.get(profile.source)
        problems = (
            *profile.problems,
            *_profile_problems(service, profile, ports),
            *_override_problems(store, service, profile, overruler),
        )
        verdicts[profile.ref] = outcome(verdict_of(problems), problems, service.key)


def _profile_problems(
    service: ServiceFacts, profile: ProfileFragment, ports: Mapping[int, Port]
) -> Iterable[Problem]:
    name = print_key(service.key)
    if profile.rank > 0:
        message = f"taken as Service {name}; Linkerd itself knows only its full name"
        yield Problem(profile.source, "metadata.name", RESOLVED_NAME, message)
    if service.external_name:
        message = f"Service {name} is an ExternalName: its traffic leaves the mesh"
        yield Problem(profile.source, "metadata.name", EXTERNAL_SERVICE, message, Severity.ERROR)
    is_read = any(port.protocol not in BY_CONNECTION for port in ports.values())
    if ports and profile.routes and not is_read:
        message = f"no port of Service {name} is read as HTTP: its routes match nothing"
        yield Problem(profile.source, "spec.routes", NOT_HTTP, message)


def _override_problems(
    store: Store, service: ServiceFacts, profile: ProfileFragment, overruler: Source | None
) -> Iterable[Problem]:
    if not profile.overrides:
        return
    path = "spec.dstOverrides"
    if service.headless:
        message = "the Service is headless: clients pick pods themselves"
        yield Problem(profile.source, path, HEADLESS_APEX, message)
    elif overruler is not None:
        message = f"{overruler} decides where requests go; the overrides have no effect"
        yield Problem(profile.source, path, OVERRULED, message)
    else:
        yield from leaf_problems(
            store, service, profile.source, profile.overrides, path, "authority"
        )


# -- outcomes ------------------------------------------------------------------------------


def no_such_service(fragment: SplitFragment | ProfileFragment, key: Key) -> Outcome:
    is_split = isinstance(fragment, SplitFragment)
    path = "spec.service" if is_split else "metadata.name"
    message = f"no Service {print_key(key)}; nothing is changed until there is one"
    return rejected(fragment, NO_SUCH_SERVICE, message, key, path)


def rejected(
    fragment: SplitFragment | ProfileFragment, reason: str, message: str, key: Key, path: str
) -> Outcome:
    problem = Problem(fragment.source, path, reason, message, Severity.ERROR)
    return outcome(Verdict.REJECTED, (problem, *fragment.problems), key)


def shadowed(fragment: SplitFragment | ProfileFragment, winner: Source, key: Key) -> Outcome:
    message = f"{winner} acts on {print_key(key)} and goes before this object"
    problem = Problem(fragment.source, "", SHADOWED, message)
    return Outcome(
        Verdict.SHADOWED, (problem, *fragment.problems), print_key(key), shadowed_by=winner
    )


def outcome(verdict: Verdict, problems: Iterable[Problem], key: Key) -> Outcome:
    return Outcome(verdict, tuple(problems), print_key(key))


def print_key(key: Key) -> str:
    return f"{key[0]}/{key[1]}"
