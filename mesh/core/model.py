"""The model that every dialect compiles to and every proxy runs.

Frozen values only. `Snapshot` is the whole cluster as destination compiled it, `View` the
part that one proxy holds, `Update` the change from one view to the next, applied as one
step. Nothing here knows which dialect a route came from, except as `Source`, for messages.
Services are keyed by authority: `name.namespace.svc.<cluster domain>:port`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeVar

T = TypeVar("T")


class Protocol(StrEnum):
    """What a service port is known to speak; DETECT when nobody declared it."""

    HTTP1 = "http1"
    HTTP2 = "http2"
    GRPC = "grpc"
    TLS = "tls"
    OPAQUE = "opaque"
    DETECT = "detect"


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


class Verdict(StrEnum):
    """What became of one object that a user applied."""

    EFFECTIVE = "Effective"
    PARTIAL = "Partial"
    SHADOWED = "Shadowed"
    REJECTED = "Rejected"


@dataclass(frozen=True, slots=True)
class Source:
    """The object that a piece of the model came from."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Problem:
    """What could not be honoured in one object: where, why, and how bad it is.

    `path` is the field, as in `spec.routes[2].isRetryable`. `reason` is a fixed word.
    """

    source: Source
    path: str
    reason: str
    message: str
    severity: Severity = Severity.WARNING


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One `address:port` that serves a service.

    `identity` is the DNS identity to demand ("" where the peer has no proxy: plaintext).
    `opaque` says that the peer's proxy forwards this port without parsing it.
    """

    address: str
    port: int
    identity: str = ""
    opaque: bool = False
    pod: str = ""
    namespace: str = ""
    workload: str = ""  # "deployment/web"
    zone: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """One port of one Service with its ready endpoints. `exists` False: no such Service."""

    authority: str
    namespace: str
    name: str
    port: int
    endpoints: tuple[Endpoint, ...] = ()
    exists: bool = True


@dataclass(frozen=True, slots=True)
class Backend:
    """A weighted target of a rule. Weights are relative within the rule; 0 gets nothing."""

    authority: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class HeaderMatch:
    """One header condition; `value` is exact text or, with `regex`, a full-match pattern."""

    name: str
    value: str
    regex: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """A condition on a request head: all given parts must hold. The empty match holds always."""

    path: str | None = None
    path_prefix: str | None = None
    path_regex: str | None = None
    method: str | None = None
    headers: tuple[HeaderMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of a route table: any of `matches` (none: always) -> weighted backends."""

    backends: tuple[Backend, ...]
    matches: tuple[Match, ...] = ()
    source: Source | None = None
    index: int = 0  # position in the source object, for messages
    timeout: float | None = None  # seconds for the whole request


@dataclass(frozen=True, slots=True)
class Condition:
    """A ServiceProfile's condition: a tree of all, any and not over path and method, or status.

    Exactly one field is set, except that path and method may stand together (both must hold).
    Status bounds are inclusive and serve response conditions.
    """

    path: str | None = None
    path_regex: str | None = None
    method: str | None = None
    status_min: int | None = None
    status_max: int | None = None
    all: tuple[Condition, ...] | None = None
    any: tuple[Condition, ...] | None = None
    negated: Condition | None = None


@dataclass(frozen=True, slots=True)
class ResponseClass:
    """Which responses of a route class count as failure (or explicitly as success)."""

    condition: Condition
    is_failure: bool = True


@dataclass(frozen=True, slots=True)
class RouteClass:
    """An overlay on requests of one service: a name for metrics, classes, a timeout."""

    name: str
    condition: Condition
    response_classes: tuple[ResponseClass, ...] = ()
    timeout: float | None = None
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Profile:
    """What a ServiceProfile says of one service: its route classes in order, first match wins."""

    source: Source
    routes: tuple[RouteClass, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """What one original destination `ip:port` means to one client.

    A ClusterIP has `authority` and `rules`; a pod address has `endpoint` (and the authority
    of its headless Service, if any). An address that is neither is external: forwarded as it
    is, in plaintext, with a reason. `rules` are tried in order, the last one matches always.
    """

    address: str
    protocol: Protocol = Protocol.DETECT
    authority: str = ""
    rules: tuple[Rule, ...] = ()
    profile: Profile | None = None
    endpoint: Endpoint | None = None


@dataclass(frozen=True, slots=True)
class InboundPort:
    """One port of this pod as its proxy should treat it."""

    port: int
    protocol: Protocol = Protocol.DETECT
    service_port: int = 0


@dataclass(frozen=True, slots=True)
class Inbound:
    """The inbound side of this pod: port protocols, profiles by authority, who may come."""

    ports: tuple[InboundPort, ...] = ()
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    require_tls: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """Everything one proxy knows of the cluster. Immutable; `apply` gives the next one.

    `targets` holds what was subscribed to; `services` those that the targets' rules name.
    """

    version: int = 0
    targets: Mapping[str, Target] = field(default_factory=dict)
    services: Mapping[str, Service] = field(default_factory=dict)
    inbound: Inbound = field(default_factory=Inbound)
    bundle: str = ""  # PEM of all trust anchors
    app_done: bool = False  # every application container of this pod has ended

    def apply(self, update: Update) -> View:
        """The view after `update`; entries that are None in it are removed."""
        return replace(
            self,
            version=update.version,
            targets=_merged(self.targets, update.targets),
            services=_merged(self.services, update.services),
            inbound=self.inbound if update.inbound is None else update.inbound,
            bundle=self.bundle if update.bundle is None else update.bundle,
            app_done=self.app_done if update.app_done is None else update.app_done,
        )


@dataclass(frozen=True, slots=True)
class Update:
    """What changed for one proxy since its last version, complete and atomic.

    None as a value removes the entry; None as a field leaves it as it was.
    """

    version: int
    targets: Mapping[str, Target | None] = field(default_factory=dict)
    services: Mapping[str, Service | None] = field(default_factory=dict)
    inbound: Inbound | None = None
    bundle: str | None = None
    app_done: bool | None = None


def _merged(old: Mapping[str, T], new: Mapping[str, T | None]) -> Mapping[str, T]:
    if not new:
        return old
    merged = dict(old)
    for key, value in new.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = value
    return merged
