"""Everything that checks look at, read from the cluster at one moment. Pure data.

Each fact is a `Read`: a value, or the ApiError that came instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from mesh import __version__
from mesh.core import labels
from mesh.core.errors import ApiError
from mesh.core.report import ProxiesAnswer
from mesh.kube.resources import Object

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Read(Generic[T]):
    """A value, or why there is none."""

    got: T | None = None
    error: ApiError | None = None

    @property
    def value(self) -> T:
        """The value. Raises the ApiError that came in its place."""
        if self.error is not None:
            raise self.error
        if self.got is None:
            raise ApiError(0, "NotRead", "this was not read; the API server was not reachable")
        return self.got

    @property
    def is_missing(self) -> bool:
        """Whether the API said that there is no such thing."""
        return self.error is not None and self.error.code == 404


class Right(NamedTuple):
    """A permission: verb, resource (`pods`, `deployments.apps`), subresource, namespace, name."""

    verb: str
    resource: str
    subresource: str = ""
    namespace: str | None = None
    name: str = ""

    def __str__(self) -> str:
        what = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        where = f" in namespace {self.namespace}" if self.namespace else ""
        which = f" {self.name}" if self.name else ""
        return f"{self.verb} {what}{which}{where}"


@dataclass(frozen=True, slots=True)
class Skew:
    """How far the API server's clock is ahead of ours, in seconds, give or take `within`."""

    ahead: float
    within: float


@dataclass(frozen=True, slots=True)
class Handshake:
    """What TLS with an identity pod proved: `leaf` in PEM, or the `error` that came instead."""

    pod: str
    leaf: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Clash:
    """Another Python distribution that brings one of our top-level packages."""

    package: str
    distribution: str


_UNREAD: Read[list[Object]] = Read()
_UNREAD_OBJECT: Read[Object] = Read()


@dataclass(frozen=True)
class Facts:
    """One moment of a cluster. `now` is unix seconds; `our_version` that of this command."""

    now: float
    mesh_namespace: str = labels.MESH_NAMESPACE
    namespace: str | None = None  # of --proxy -n; None: all
    our_version: str = __version__
    server: str = ""
    access_error: str = ""
    version: Read[Object] = _UNREAD_OBJECT
    skew: Read[Skew] = field(default_factory=Read)
    rights: Mapping[Right, Read[bool]] = field(default_factory=dict)
    namespaces: Read[list[Object]] = _UNREAD
    crds: Read[list[Object]] = _UNREAD
    mutating: Read[list[Object]] = _UNREAD
    validating: Read[list[Object]] = _UNREAD
    node_leases: Read[list[Object]] = _UNREAD
    config: Read[Object] = _UNREAD_OBJECT  # ConfigMap mesh-config
    trust_roots: Read[Object] = _UNREAD_OBJECT  # ConfigMap mesh-trust-roots
    issuer: Read[Object] = _UNREAD_OBJECT  # Secret mesh-identity-issuer, its certificate only
    handshakes: tuple[Handshake, ...] = ()
    mesh_deployments: Read[list[Object]] = _UNREAD
    mesh_services: Read[list[Object]] = _UNREAD
    mesh_accounts: Read[list[Object]] = _UNREAD
    mesh_pods: Read[list[Object]] = _UNREAD
    mesh_waits: Mapping[str, str] = field(default_factory=dict)  # as waits
    mesh_events: Read[list[Object]] = _UNREAD
    dry_run: Read[Object] = _UNREAD_OBJECT  # the annotated pod as admission gave it back
    proxies: Read[ProxiesAnswer] = field(default_factory=Read)
    pods: Read[list[Object]] = _UNREAD  # of all namespaces, or of one
    waits: Mapping[str, str] = field(default_factory=dict)  # namespace/pod -> what /ready said
    leaves: Mapping[str, float] = field(default_factory=dict)  # namespace/pod -> unix seconds
    refused: Read[list[Object]] = _UNREAD  # events of pods that the API server did not take
    routing: Read[list[Object]] = _UNREAD  # ServiceProfiles and TrafficSplits
    clashes: tuple[Clash, ...] = ()
