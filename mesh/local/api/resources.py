"""The table of kinds: one row for each resource the server knows, and the registry of all.

A row names what discovery, the URL paths, Tables and the store need. Custom resources
become rows when their definition is established. Holds no objects and no behaviour of
single kinds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Object = dict[str, Any]

ALL_VERBS: Final = (
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a Table. `path` is a JSONPath for custom columns, else empty."""

    name: str
    type: str = "string"
    path: str = ""
    priority: int = 0
    format: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Scale:
    """Where a custom resource keeps what its scale subresource shows (dotted paths)."""

    spec_replicas: str = ".spec.replicas"
    status_replicas: str = ".status.replicas"
    selector: str = ""


@dataclass(frozen=True, slots=True)
class CustomVersion:
    """One served version of a custom resource. `schema` is its OpenAPI v3 schema as written."""

    name: str
    schema: Mapping[str, Any]
    columns: tuple[Column, ...] = ()
    has_status: bool = False
    scale: Scale | None = None
    selectable: tuple[str, ...] = ()
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource. `key` is how the store and controllers call it: `deployments.apps`."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    singular: str = ""
    list_kind: str = ""
    verbs: tuple[str, ...] = ALL_VERBS
    subresources: tuple[str, ...] = ()
    generation: bool = False  # metadata.generation counts changes of the desired state
    custom: tuple[CustomVersion, ...] = ()  # served versions of a custom resource, best first
    digest: str = ""  # of a custom definition, so that documents made of it can be cached
    stored_as: str = ""  # the key under which objects are kept, when it is another resource's

    @property
    def key(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def store_key(self) -> str:
        return self.stored_as or self.key

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def versions(self) -> tuple[str, ...]:
        """The served versions, preferred first."""
        return tuple(v.name for v in self.custom) if self.custom else (self.version,)

    @property
    def lists(self) -> str:
        return self.list_kind or f"{self.kind}List"

    @property
    def single(self) -> str:
        return self.singular or self.kind.lower()

    def custom_version(self, version: str) -> CustomVersion | None:
        return next((v for v in self.custom if v.name == version), None)

    def has_status(self, version: str | None = None) -> bool:
        """Whether status is written through its own subresource only."""
        if self.custom:
            found = self.custom_version(version or self.version)
            return found is not None and found.has_status
        return "status" in self.subresources

    def subresources_of(self, version: str) -> tuple[str, ...]:
        found = self.custom_version(version)
        if found is None:
            return self.subresources
        return (("status",) if found.has_status else ()) + (("scale",) if found.scale else ())


def _cluster(group: str, version: str, plural: str, kind: str, **more: Any) -> Resource:
    return Resource(group, version, plural, kind, namespaced=False, **more)


_WORKLOAD: Final[Mapping[str, Any]] = {
    "categories": ("all",),
    "subresources": ("scale", "status"),
    "generation": True,
}
_UNSCALED: Final[Mapping[str, Any]] = {**_WORKLOAD, "subresources": ("status",)}
_RBAC: Final = "rbac.authorization.k8s.io"
_ADMISSION: Final = "admissionregistration.k8s.io"
_CREATE_ONLY: Final = ("create",)

BUILTIN: Final[tuple[Resource, ...]] = (
    Resource("", "v1", "configmaps", "ConfigMap", short_names=("cm",)),
    Resource("", "v1", "events", "Event", short_names=("ev",)),
    _cluster(
        "",
        "v1",
        "namespaces",
        "Namespace",
        short_names=("ns",),
        subresources=("finalize", "status"),
    ),
    _cluster("", "v1", "nodes", "Node", short_names=("no",), subresources=("status",)),
    Resource(
        "",
        "v1",
        "pods",
        "Pod",
        short_names=("po",),
        categories=("all",),
        subresources=("exec", "log", "proxy", "status"),
        generation=True,
    ),
    Resource("", "v1", "secrets", "Secret"),
    Resource(
        "", "v1", "serviceaccounts", "ServiceAccount", short_names=("sa",), subresources=("token",)
    ),
    Resource(
        "",
        "v1",
        "services",
        "Service",
        short_names=("svc",),
        categories=("all",),
        subresources=("proxy", "status"),
    ),
    Resource("apps", "v1", "deployments", "Deployment", short_names=("deploy",), **_WORKLOAD),
    Resource("apps", "v1", "replicasets", "ReplicaSet", short_names=("rs",), **_WORKLOAD),
    Resource("apps", "v1", "statefulsets", "StatefulSet", short_names=("sts",), **_WORKLOAD),
    Resource("apps", "v1", "daemonsets", "DaemonSet", short_names=("ds",), **_UNSCALED),
    Resource("batch", "v1", "jobs", "Job", **_UNSCALED),
    Resource("batch", "v1", "cronjobs", "CronJob", short_names=("cj",), **_UNSCALED),
    Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", generation=True),
    Resource("coordination.k8s.io", "v1", "leases", "Lease"),
    Resource(
        "policy",
        "v1",
        "poddisruptionbudgets",
        "PodDisruptionBudget",
        short_names=("pdb",),
        subresources=("status",),
        generation=True,
    ),
    _cluster(
        "scheduling.k8s.io",
        "v1",
        "priorityclasses",
        "PriorityClass",
        short_names=("pc",),
        generation=True,
    ),
    Resource(
        "",
        "v1",
        "resourcequotas",
        "ResourceQuota",
        short_names=("quota",),
        subresources=("status",),
    ),
    Resource("", "v1", "limitranges", "LimitRange", short_names=("limits",)),
    Resource(
        "networking.k8s.io",
        "v1",
        "networkpolicies",
        "NetworkPolicy",
        short_names=("netpol",),
        generation=True,
    ),
    Resource("events.k8s.io", "v1", "events", "Event", short_names=("ev",), stored_as="events"),
    Resource(_RBAC, "v1", "roles", "Role"),
    Resource(_RBAC, "v1", "rolebindings", "RoleBinding"),
    _cluster(_RBAC, "v1", "clusterroles", "ClusterRole"),
    _cluster(_RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding"),
    _cluster(
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        short_names=("crd", "crds"),
        categories=("api-extensions",),
        subresources=("status",),
        generation=True,
    ),
    _cluster(
        _ADMISSION,
        "v1",
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
        categories=("api-extensions",),
        generation=True,
    ),
    _cluster(
        _ADMISSION,
        "v1",
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        categories=("api-extensions",),
        generation=True,
    ),
    _cluster("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", verbs=_CREATE_ONLY),
    _cluster(
        "authentication.k8s.io",
        "v1",
        "selfsubjectreviews",
        "SelfSubjectReview",
        verbs=_CREATE_ONLY,
    ),
    Resource(
        "authorization.k8s.io",
        "v1",
        "localsubjectaccessreviews",
        "LocalSubjectAccessReview",
        verbs=_CREATE_ONLY,
    ),
    _cluster(
        "authorization.k8s.io",
        "v1",
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        verbs=_CREATE_ONLY,
    ),
    _cluster(
        "authorization.k8s.io",
        "v1",
        "selfsubjectrulesreviews",
        "SelfSubjectRulesReview",
        verbs=_CREATE_ONLY,
    ),
    _cluster(
        "authorization.k8s.io",
        "v1",
        "subjectaccessreviews",
        "SubjectAccessReview",
        verbs=_CREATE_ONLY,
    ),
)


@dataclass(slots=True)
class Registry:
    """All resources by key: the built-in rows and those of custom resource definitions."""

    _rows: dict[str, Resource] = field(
        default_factory=lambda: {resource.key: resource for resource in BUILTIN}
    )
    generation: int = 0  # counts changes, for caches built from the rows

    def find(self, key: str) -> Resource | None:
        return self._rows.get(key)

    def at(self, group: str, version: str, plural: str) -> Resource | None:
        """The resource that a URL path names, if that version of it is served."""
        row = self._rows.get(f"{plural}.{group}" if group else plural)
        return row if row is not None and version in row.versions else None

    def for_kind(self, group: str, kind: str) -> Resource | None:
        return next((r for r in self if r.group == group and r.kind == kind), None)

    def put(self, resource: Resource) -> None:
        self._rows[resource.key] = resource
        self.generation += 1

    def drop(self, key: str) -> None:
        if self._rows.pop(key, None) is not None:
            self.generation += 1

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._rows.values())
