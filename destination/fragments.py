"""What a dialect makes of one object: a fragment for the compiler, problems, and a verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from destination.facts import Key
from mesh.core.model import Problem, RouteClass, Severity, Source, Verdict

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
NOTES: Final = frozenset((ACCEPTED_SPELLING, RESOLVED_NAME, NOT_RECURSIVE))


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """One object of the API: `resource` is plural and group, as in `services` or
    `serviceprofiles.linkerd.io`."""

    resource: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class WeightedLeaf:
    """One backend of a split: a Service of the split's namespace. `index` is for messages."""

    service: Key
    weight: int
    index: int


@dataclass(frozen=True, slots=True)
class SplitFragment:
    """A TrafficSplit: the default route of `apex`, expanded. `field` holds the backends."""

    ref: Ref
    source: Source
    apex: Key
    leaves: tuple[WeightedLeaf, ...]
    field: str
    created: str = ""
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


@dataclass(frozen=True, slots=True)
class RejectedFragment:
    """An object that cannot be compiled at all; it takes part in nothing."""

    ref: Ref
    source: Source
    problems: tuple[Problem, ...]


Fragment = SplitFragment | ProfileFragment | RejectedFragment


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one object, as its status shows it.

    `service` is the `namespace/name` that it acts on, `shadowed_by` the object that wins.
    """

    verdict: Verdict
    problems: tuple[Problem, ...] = ()
    service: str = ""
    shadowed_by: Source | None = None


def verdict_of(problems: Iterable[Problem]) -> Verdict:
    """The verdict on an object that takes effect, all but what `problems` name."""
    problems = tuple(problems)
    if any(problem.severity is Severity.ERROR for problem in problems):
        return Verdict.REJECTED
    if any(problem.reason not in NOTES for problem in problems):
        return Verdict.PARTIAL
    return Verdict.EFFECTIVE
