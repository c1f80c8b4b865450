"""The objects of the cluster as facts, by kind, with the indexes that compiling asks for.

Fed by watches or by files, one object at a time. `apply` says what the change can reach, so
that only that is compiled anew. Not thread-safe; it keeps nothing of an object but its facts,
and of routing objects the status that was last seen in them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from destination.dialects.gateway import read_route
from destination.dialects.gateway_grants import read_grant
from destination.dialects.linkerd import read_service_profile
from destination.dialects.smi import ROUTE_GROUPS, read_traffic_split
from destination.dialects.smi_groups import read_route_group
from destination.dialects.undone import RESOURCES, UNDONE, read_undone
from destination.facts import (
    Key,
    Namespace,
    Object,
    Pod,
    ServiceFacts,
    Slice,
    as_mapping,
    key_of,
    read_namespace,
    read_pod,
    read_service,
    read_slice,
    with_defaults,
)
from destination.fragments import (
    MALFORMED,
    Fragment,
    GrantFragment,
    ProfileFragment,
    Ref,
    RejectedFragment,
    RouteFragment,
    SplitFragment,
)
from destination.grants import find_forbidden
from mesh.core import labels
from mesh.core.model import Endpoint, Problem, Severity, Source

H = TypeVar("H", bound=Hashable)
J = TypeVar("J", bound=Hashable)
V = TypeVar("V")

PROFILES: Final = "serviceprofiles.linkerd.io"
SMI_SPLITS: Final = "trafficsplits.split.smi-spec.io"
LINKERD_SPLITS: Final = "linkerdtrafficsplits.linkerd.io"
HTTP_ROUTES: Final = "httproutes.gateway.networking.k8s.io"
GRPC_ROUTES: Final = "grpcroutes.gateway.networking.k8s.io"
TLS_ROUTES: Final = "tlsroutes.gateway.networking.k8s.io"
TCP_ROUTES: Final = "tcproutes.gateway.networking.k8s.io"
LINKERD_ROUTES: Final = "httproutes.policy.linkerd.io"
ROUTES: Final = (HTTP_ROUTES, GRPC_ROUTES, TLS_ROUTES, TCP_ROUTES, LINKERD_ROUTES)
GRANTS: Final = "referencegrants.gateway.networking.k8s.io"
# Kinds that a cluster may lack.
OPTIONAL: Final = (
    *(PROFILES, SMI_SPLITS, LINKERD_SPLITS, ROUTE_GROUPS),
    *ROUTES,
    GRANTS,
    *RESOURCES,
)
SERVICES: Final = "services"

# (API group, kind) -> name of the resource. Versions of a group read alike.
RESOURCE_OF: Final = {
    ("", "Namespace"): "namespaces",
    ("", "Pod"): "pods",
    ("", "Service"): SERVICES,
    ("", "ConfigMap"): "configmaps",
    ("discovery.k8s.io", "EndpointSlice"): "endpointslices.discovery.k8s.io",
    ("linkerd.io", "ServiceProfile"): PROFILES,
    ("linkerd.io", "TrafficSplit"): LINKERD_SPLITS,
    ("split.smi-spec.io", "TrafficSplit"): SMI_SPLITS,
    ("specs.smi-spec.io", "HTTPRouteGroup"): ROUTE_GROUPS,
    ("gateway.networking.k8s.io", "HTTPRoute"): HTTP_ROUTES,
    ("gateway.networking.k8s.io", "GRPCRoute"): GRPC_ROUTES,
    ("gateway.networking.k8s.io", "TLSRoute"): TLS_ROUTES,
    ("gateway.networking.k8s.io", "TCPRoute"): TCP_ROUTES,
    ("gateway.networking.k8s.io", "ReferenceGrant"): GRANTS,
    ("policy.linkerd.io", "HTTPRoute"): LINKERD_ROUTES,
    **{key: resource for key, (resource, _) in UNDONE.items()},
}
_READERS: Final[dict[str, Callable[..., Fragment]]] = {
    PROFILES: read_service_profile,
    LINKERD_SPLITS: read_traffic_split,
    SMI_SPLITS: read_traffic_split,
    ROUTE_GROUPS: read_route_group,
    **dict.fromkeys(ROUTES, read_route),
    GRANTS: read_grant,
    **dict.fromkeys(RESOURCES, read_undone),
}


@dataclass(slots=True)
class Touched:
    """What changes can reach: services and pods by key, addresses, routing objects.

    `arrived` holds the routing objects that came anew, be it only with another status.
    """

    services: set[Key] = field(default_factory=set)
    pods: set[Key] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)
    objects: set[Ref] = field(default_factory=set)
    arrived: set[Ref] = field(default_factory=set)
    nodes: set[str] = field(default_factory=set)  # whose zone is known now
    bundle: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What a status writer must know of a routing object as it was last seen."""

    ref: Ref
    api_version: str
    uid: str
    generation: int
    resource_version: str
    status: Any


class Index(dict[H, set[J]]):
    """Sets by key; an empty set is no entry."""

    def link(self, key: H, value: J) -> None:
        self.setdefault(key, set()).add(value)

    def unlink(self, key: H, value: J) -> None:
        found = self.get(key)
        if found is not None:
            found.discard(value)
            if not found:
                del self[key]


class Store:
    """Current facts of one cluster."""

    def __init__(
        self,
        *,
        cluster_domain: str = labels.CLUSTER_DOMAIN,
        mesh_namespace: str = labels.MESH_NAMESPACE,
    ) -> None:
        self.cluster_domain = cluster_domain
        self.mesh_namespace = mesh_namespace
        self.bundle = ""
        self.namespaces: dict[str, Namespace] = {}
        self.pods: dict[Key, Pod] = {}
        self.services: dict[Key, ServiceFacts] = {}
        self.slices: dict[Key, Slice] = {}
        self.fragments: dict[Ref, Fragment] = {}
        self.grants: dict[Ref, GrantFragment] = {}
        self.seen: dict[Ref, Seen] = {}
        # pod -> its endpoints by address, port and zone, as `endpoints` described them
        self.described: dict[Key, dict[tuple[str, int, str], Endpoint]] = {}
        self.slices_of: Index[Key, Key] = Index()  # service -> slices
        self.zones: dict[str, str] = {}  # node -> zone, as slices say it
        self.services_of_pod: defaultdict[Key, dict[Key, int]] = defaultdict(dict)
        self.pods_at: Index[str, Key] = Index()  # address -> pods
        self.bare_at: Index[str, Key] = Index()  # address -> Services that name no pod with it
        self.services_at: Index[str, Key] = Index()  # cluster IP -> services
        self.objects_of: Index[Key, Ref] = Index()  # service -> objects that may act on it
        self.apexes_of: Index[Key, Key] = Index()  # leaf -> Services whose objects name it
        self.leaves_of: Index[Key, Key] = Index()  # the same the other way round
        self._users_of: Index[Ref, Ref] = Index()  # route group -> splits
        self._members: Index[str, Key] = Index()  # namespace -> services
        self._inhabitants: Index[str, Key] = Index()  # namespace -> pods

    def apply(self, obj: Object, *, deleted: bool = False) -> Touched:
        """Take one object in, or out, and give what that can reach. Never raises: a kind that
        we do not know reaches nothing."""
        touched = Touched()
        self.take(obj, touched, deleted=deleted)
        return touched

    def apply_all(self, changes: Iterable[tuple[Object, bool]]) -> Touched:
        """As `apply` for many (object, deleted)."""
        touched = Touched()
        for obj, deleted in changes:
            self.take(obj, touched, deleted=deleted)
        return touched

    def take(self, obj: Object, touched: Touched, *, deleted: bool) -> None:
        group, slash, _ = str(obj.get("apiVersion") or "").rpartition("/")
        resource = RESOURCE_OF.get((group if slash else "", str(obj.get("kind"))))
        if resource in _READERS:
            self._put_fragment(resource, obj, touched, deleted)
        elif resource == "pods":
            self._put_pod(key_of(obj), None if deleted else _read(read_pod, obj), touched)
        elif resource == "endpointslices.discovery.k8s.io":
            self._put_slice(key_of(obj), None if deleted else _read(read_slice, obj), touched)
        elif resource == SERVICES:
            self._put_service(key_of(obj), None if deleted else _read(read_service, obj), touched)
        elif resource == "namespaces":
            namespace = None if deleted else _read(read_namespace, obj)
            self._put_namespace(key_of(obj)[1], namespace, touched)
        elif resource == "configmaps":
            self._put_config_map(obj, touched, deleted)

    # -- look-ups -------------------------------------------------------------------------

    def target_of(self, fragment: ProfileFragment) -> Key:
        """The Service that a profile means: the first of its candidates that exists."""
        for key in fragment.candidates:
            if key in self.services:
                return key
        return fragment.candidates[0]

    def effective_pod(self, key: Key) -> Pod | None:
        """A pod with the defaults of its namespace filled in."""
        pod = self.pods.get(key)
        namespace = self.namespaces.get(key[0])
        return pod if pod is None or namespace is None else with_defaults(pod, namespace)

    def pod_at(self, address: str) -> Pod | None:
        """The pod that has this address now. Pods of the host's network have none of theirs."""
        found = [
            pod
            for key in self.pods_at.get(address, ())
            for pod in (self.pods[key],)
            if pod.running and not pod.host_network
        ]
        # While an address changes hands, the younger pod has it.
        return max(found, key=lambda pod: (not pod.leaving, pod.created, pod.key), default=None)

    def forbidden_of(self, route: RouteFragment) -> frozenset[Key]:
        """The Services that a route names and may not lead to."""
        return find_forbidden(route, self.namespaces, self.grants.values())

    # -- by kind --------------------------------------------------------------------------

    def _touch_routes_into(self, namespace: str, touched: Touched) -> None:
        """The Services with objects that lead into a namespace."""
        for leaf, apexes in self.apexes_of.items():
            if leaf[0] == namespace:
                touched.services |= apexes

    def _put_namespace(self, name: str, new: Namespace | None, touched: Touched) -> None:
        old = self.namespaces.get(name)
        if (old is not None and old.needs_grants) != (new is not None and new.needs_grants):
            self._touch_routes_into(name, touched)
        if _swap(self.namespaces, name, new):
            touched.services |= self._members.get(name, set())
            touched.pods |= self._inhabitants.get(name, set())
            for pod in self._inhabitants.get(name, ()):
                self.described.pop(pod, None)
                touched.services.update(self.services_of_pod.get(pod, ()))
                touched.addresses.update(self.pods[pod].ips)

    def _put_pod(self, key: Key, new: Pod | None, touched: Touched) -> None:
        old = self.pods.get(key)
        if not _swap(self.pods, key, new):
            return
        self.described.pop(key, None)
        for pod, change in ((old, self.pods_at.unlink), (new, self.pods_at.link)):
            for address in pod.ips if pod is not None else ():
                change(address, key)
                touched.addresses.add(address)
                touched.services |= self.bare_at.get(address, set())
        (self._inhabitants.link if new else self._inhabitants.unlink)(key[0], key)
        touched.pods.add(key)
        touched.services.update(self.services_of_pod.get(key, ()))

    def _put_service(self, key: Key, new: ServiceFacts | None, touched: Touched) -> None:
        old = self.services.get(key)
        if not _swap(self.services, key, new):
            return
        for service, change in ((old, self.services_at.unlink), (new, self.services_at.link)):
            for address in service.ips if service is not None else ():
                change(address, key)
                touched.addresses.add(address)
        (self._members.link if new else self._members.unlink)(key[0], key)
        touched.services.add(key)
        touched.services |= self.apexes_of.get(key, set())
        for ref in self.objects_of.get(key, ()):
            self._touch_targets(self.fragments[ref], touched)

    def _put_slice(self, key: Key, new: Slice | None, touched: Touched) -> None:
        old = self.slices.get(key)
        if not _swap(self.slices, key, new):
            return
        for part, step in ((old, -1), (new, 1)):
            if part is None:
                continue
            change = self.slices_of.link if step > 0 else self.slices_of.unlink
            change(part.service, key)
            touched.services.add(part.service)
            for endpoint in part.endpoints:
                if endpoint.pod is None:
                    bare = self.bare_at.link if step > 0 else self.bare_at.unlink
                    bare(endpoint.address, part.service)
                if endpoint.node and endpoint.zone and endpoint.node not in self.zones:
                    self.zones[endpoint.node] = endpoint.zone
                    touched.nodes.add(endpoint.node)
            for pod in {endpoint.pod for endpoint in part.endpoints if endpoint.pod}:
                self._count_member(pod, part.service, step)
                touched.pods.add(pod)

    def _count_member(self, pod: Key, service: Key, step: int) -> None:
        """How many slices of `service` name `pod`."""
        counts = self.services_of_pod[pod]
        count = counts.get(service, 0) + step
        if count > 0:
            counts[service] = count
        else:
            counts.pop(service, None)
            if not counts:
                del self.services_of_pod[pod]

    def _put_config_map(self, obj: Object, touched: Touched, deleted: bool) -> None:
        if key_of(obj) != (self.mesh_namespace, labels.TRUST_ROOTS) or deleted:
            return  # a deleted bundle is not an empty one: what was trusted stays so
        bundle = as_mapping(obj.get("data")).get(labels.TRUST_ROOTS_KEY)
        if isinstance(bundle, str) and bundle and bundle != self.bundle:
            self.bundle = bundle
            touched.bundle = True

    # -- routing objects ------------------------------------------------------------------

    def _put_fragment(self, resource: str, obj: Object, touched: Touched, deleted: bool) -> None:
        ref = Ref(resource, *key_of(obj))
        old = self.fragments.get(ref)
        if deleted:
            self.seen.pop(ref, None)
        else:
            self.seen[ref] = _seen(ref, obj)
        new = None if deleted else _read_fragment(resource, obj, self.cluster_domain)
        touched.arrived.add(ref)
        if not _swap(self.fragments, ref, new):
            return
        touched.objects.add(ref)
        for fragment, is_new in ((old, False), (new, True)):
            if fragment is not None:
                self._index_fragment(fragment, is_new)
                self._touch_targets(fragment, touched)

    def _index_fragment(self, fragment: Fragment, is_new: bool) -> None:
        apexes = _targets(fragment)
        for key in apexes:
            (self.objects_of.link if is_new else self.objects_of.unlink)(key, fragment.ref)
        for leaf in _leaves(fragment):
            for apex in apexes:
                self._link_leaf(leaf, apex, is_new)
        if isinstance(fragment, SplitFragment):
            for group in fragment.groups:
                (self._users_of.link if is_new else self._users_of.unlink)(group, fragment.ref)
        if isinstance(fragment, GrantFragment):
            _swap(self.grants, fragment.ref, fragment if is_new else None)

    def _link_leaf(self, leaf: Key, apex: Key, is_new: bool) -> None:
        if is_new:
            self.apexes_of.link(leaf, apex)
            self.leaves_of.link(apex, leaf)
        elif not any(
            leaf in _leaves(other)
            for ref in self.objects_of.get(apex, ())
            for other in (self.fragments.get(ref),)
            if other is not None
        ):
            self.apexes_of.unlink(leaf, apex)
            self.leaves_of.unlink(apex, leaf)

    def _touch_targets(self, fragment: Fragment, touched: Touched) -> None:
        touched.objects.add(fragment.ref)
        touched.services.update(_targets(fragment))
        if isinstance(fragment, SplitFragment):  # splits onto its apex say that they are not it
            touched.services |= self.apexes_of.get(fragment.apex, set())
        if isinstance(fragment, GrantFragment):
            self._touch_routes_into(fragment.ref.namespace, touched)
        for ref in self._users_of.get(fragment.ref, ()):
            touched.services.update(_targets(self.fragments[ref]))


def read_object(obj: Object, cluster_domain: str = labels.CLUSTER_DOMAIN) -> Fragment | None:
    """What a dialect makes of one object; None for kinds that are no routing objects."""
    group, slash, _ = str(obj.get("apiVersion") or "").rpartition("/")
    resource = RESOURCE_OF.get((group if slash else "", str(obj.get("kind"))))
    if resource not in _READERS:
        return None
    return _read_fragment(resource, obj, cluster_domain)


def _read_fragment(resource: str, obj: Object, cluster_domain: str) -> Fragment:
    """The fragment of an object; a bug in a reader costs this object only."""
    try:
        return _READERS[resource](obj, resource, cluster_domain)
    except Exception as error:
        ref = Ref(resource, *key_of(obj))
        source = Source(str(obj.get("kind")), ref.namespace, ref.name)
        message = f"this object cannot be read: {error}"
        problem = Problem(source, "spec", MALFORMED, message, Severity.ERROR)
        return RejectedFragment(ref, source, (problem,))


def _read(reader: Callable[[Object], V | None], obj: Object) -> V | None:
    """The facts of an object; one that no reader foresaw is as if it were absent."""
    try:
        return reader(obj)
    except (TypeError, ValueError, KeyError, AttributeError):
        return None


def _targets(fragment: Fragment) -> tuple[Key, ...]:
    if isinstance(fragment, SplitFragment):
        return (fragment.apex,)
    if isinstance(fragment, ProfileFragment):
        return fragment.candidates
    if isinstance(fragment, RouteFragment):
        return tuple(dict.fromkeys(parent.service for parent in fragment.parents))
    return ()


def _leaves(fragment: Fragment) -> frozenset[Key]:
    """The Services that a fragment leads to."""
    if isinstance(fragment, SplitFragment):
        return frozenset(leaf.service for leaf in fragment.leaves)
    if isinstance(fragment, ProfileFragment):
        return frozenset(leaf.service for leaf in fragment.overrides)
    if isinstance(fragment, RouteFragment):
        return frozenset(
            ref.service for rule in fragment.rules for ref in (*rule.backends, *rule.mirrors)
        )
    return frozenset()


def _swap(mapping: dict[H, Any], key: H, new: Any) -> bool:
    """Put `new` in (None: take out); False when nothing changed."""
    if mapping.get(key) == new:
        return False
    if new is None:
        del mapping[key]
    else:
        mapping[key] = new
    return True


def _seen(ref: Ref, obj: Object) -> Seen:
    meta = as_mapping(obj.get("metadata"))
    generation = meta.get("generation")
    return Seen(
        ref=ref,
        api_version=str(obj.get("apiVersion") or ""),
        uid=str(meta.get("uid") or ""),
        generation=generation if isinstance(generation, int) else 0,
        resource_version=str(meta.get("resourceVersion") or ""),
        status=obj.get("status"),
    )
