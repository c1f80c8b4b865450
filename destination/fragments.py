"""What a dialect makes of one object: a fragment for the compiler, problems, and a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from destination.facts import Key
from mesh.core.model import (
    Budget,
    Filters,
    Match,
    Policy,
    Problem,
    RouteClass,
    Severity,
    Source,
    Verdict,
)

# Reasons, fixed words. Those in NOTES tell the user something and take nothing away.
ACCEPTED_SPELLING: Final = "AcceptedSpelling"
RESOLVED_NAME: Final = "ResolvedName"
NOT_RECURSIVE: Final = "NotRecursive"
UNKNOWN_FIELD: Final = "UnknownField"
NOT_SUPPORTED: Final = "NotSupported"
MALFORMED: Final = "Malformed"
EMPTY_CONDITION: Final = "EmptyCondition"
INVALID_REGEX: Final = "InvalidRegex"
INVALID_DURATION: Final = "InvalidDuration"
INVALID_STATUS: Final = "InvalidStatus"
INVALID_WEIGHT: Final = "InvalidWeight"
INVALID_PORTS: Final = "InvalidPorts"
NO_BACKENDS: Final = "NoBackends"
NO_WEIGHT: Final = "AllWeightsZero"
NO_SUCH_SERVICE: Final = "NoSuchService"
PORT_MISMATCH: Final = "PortMismatch"
HEADLESS_APEX: Final = "HeadlessApex"
EXTERNAL_SERVICE: Final = "ExternalService"
NOT_HTTP: Final = "NotHttp"
CROSS_NAMESPACE: Final = "CrossNamespace"
SHADOWED: Final = "ShadowedBy"
OVERRULED: Final = "OverruledBy"
NO_SUCH_GROUP: Final = "NoSuchRouteGroup"
INVALID_BUDGET: Final = "InvalidBudget"
INVALID_VALUE: Final = "InvalidValue"
IGNORED_FIELD: Final = "IgnoredField"
INVALID_FILTER: Final = "InvalidFilter"
UNSUPPORTED_FILTER: Final = "UnsupportedFilter"
NO_MATCHING_PARENT: Final = "NoMatchingParent"
CONFLICTED: Final = "Conflicted"
BACKEND_NOT_FOUND: Final = "BackendNotFound"
INVALID_KIND: Final = "InvalidKind"
REF_NOT_PERMITTED: Final = "RefNotPermitted"
UNREACHABLE: Final = "UnreachableRule"
NOTES: Final = frozenset((ACCEPTED_SPELLING, RESOLVED_NAME, NOT_RECURSIVE, IGNORED_FIELD))


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """One object of the API: `resource` is plural and group, as in `services` or
    `serviceprofiles.linkerd.io`."""

    resource: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class WeightedLeaf:
    """One backend of a split or of overrides. `index` is for messages; `port` None is that of
    the request."""

    service: Key
    weight: int
    index: int
    port: int | None = None


@dataclass(frozen=True, slots=True)
class SplitFragment:
    """A TrafficSplit: the default route of `apex`, expanded. `field` holds the backends.

    With `groups` it acts only on requests that one of these HTTPRouteGroups describes.
    """

    ref: Ref
    source: Source
    apex: Key
    leaves: tuple[WeightedLeaf, ...]
    field: str
    created: str = ""
    problems: tuple[Problem, ...] = ()
    groups: tuple[Ref, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupFragment:
    """An HTTPRouteGroup: named descriptions of requests, which splits refer to."""

    ref: Ref
    source: Source
    matches: tuple[Match, ...]
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class ProfileFragment:
    """A ServiceProfile: an overlay on one Service.

    `candidates` are the Services that its name may mean, the likeliest first; `rank` orders
    profiles of one namespace that mean the same Service (0 is the full name).
    """

    ref: Ref
    source: Source
    candidates: tuple[Key, ...]
    rank: int
    routes: tuple[RouteClass, ...] = ()
    created: str = ""
    problems: tuple[Problem, ...] = ()
    budget: Budget | None = None
    overrides: tuple[WeightedLeaf, ...] = ()
    opaque: tuple[tuple[int, int], ...] = ()  # port ranges


class RouteKind(IntEnum):
    """The kinds of route, in the order in which they win a Service port (GEP-1426)."""

    GRPC = 0
    HTTP = 1
    TLS = 2
    TCP = 3


@dataclass(frozen=True, slots=True)
class Parent:
    """One Service that a route attaches to: all its ports, one by number, or one by name.

    `ref` is the parentRef as it was written, for the status; `index` its place.
    """

    service: Key
    index: int
    ref: Mapping[str, Any]
    port: int | None = None
    section: str = ""


@dataclass(frozen=True, slots=True)
class BackendRef:
    """One backend or mirror of a route's rule. `path` is its field, for messages.

    `refused` is the reason why it may not be used at all, "" where only the cluster decides.
    """

    service: Key
    port: int
    path: str
    weight: int = 1
    filters: Filters | None = None
    refused: str = ""


@dataclass(frozen=True, slots=True)
class RouteRule:
    """One rule of a route as read. No backends: those of the parent Service.

    `refused` says that its requests must be answered with an error, since what it asks for
    cannot be done and leaving it out would change what they mean.
    """

    index: int
    matches: tuple[Match, ...]
    backends: tuple[BackendRef, ...] = ()
    mirrors: tuple[BackendRef, ...] = ()
    name: str = ""
    filters: Filters | None = None
    policy: Policy | None = None
    refused: str = ""


@dataclass(frozen=True, slots=True)
class RouteFragment:
    """An HTTPRoute, GRPCRoute, TLSRoute or TCPRoute with Services as parents.

    `is_annotated`: it carries retry or timeout annotations, which replace the Service's.
    `dropped` holds the indexes of rules that do not read.
    """

    ref: Ref
    source: Source
    kind: RouteKind
    parents: tuple[Parent, ...]
    rules: tuple[RouteRule, ...]
    created: str = ""
    problems: tuple[Problem, ...] = ()
    is_annotated: bool = False
    dropped: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class GrantFragment:
    """A ReferenceGrant, as far as it is about Services. `names` holds "" for all of them."""

    ref: Ref
    source: Source
    sources: frozenset[tuple[str, str, str]]  # group, kind, namespace
    names: frozenset[str]
    problems: tuple[Problem, ...] = ()

    def permits(self, route: RouteFragment, service: Key) -> bool:
        group = route.ref.resource.partition(".")[2]
        source = (group, route.source.kind, route.ref.namespace)
        return source in self.sources and bool(self.names & {"", service[1]})


@dataclass(frozen=True, slots=True)
class RejectedFragment:
    """An object that cannot be compiled at all; it takes part in nothing."""

    ref: Ref
    source: Source
    problems: tuple[Problem, ...]
    parents: tuple[Parent, ...] = ()  # of a route, which must hear of it


Acting = SplitFragment | ProfileFragment
Fragment = Acting | RouteFragment | GroupFragment | GrantFragment | RejectedFragment


@dataclass(frozen=True, slots=True)
class ParentOutcome:
    """What became of a route at one of its parents: the words of a RouteParentStatus."""

    ref: Mapping[str, Any]
    accepted: str = "Accepted"  # or the reason why not
    accepted_message: str = ""
    resolved: str = "ResolvedRefs"  # or the reason why not
    resolved_message: str = ""
    partial: str = ""  # which rules were dropped


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one object, as its status shows it.

    `service` is the `namespace/name` that it acts on, `shadowed_by` the object that wins.
    """

    verdict: Verdict
    problems: tuple[Problem, ...] = ()
    service: str = ""
    shadowed_by: Source | None = None
    parents: tuple[ParentOutcome, ...] = ()


def verdict_of(problems: Iterable[Problem]) -> Verdict:
    """The verdict on an object that takes effect, all but what `problems` name."""
    problems = tuple(problems)
    if any(problem.severity is Severity.ERROR for problem in problems):
        return Verdict.REJECTED
    if any(problem.reason not in NOTES for problem in problems):
        return Verdict.PARTIAL
    return Verdict.EFFECTIVE
