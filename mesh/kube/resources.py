"""The kinds that we read and write, by the name that kubectl prints: `deployments.apps`.

A name is plural and group, joined by a dot (no dot for the core group). The version here is
the one that we ask for; kinds whose served version differs between clusters (CRDs of others)
are looked up in discovery by `KubeClient.discover`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of the API: how to address it and how its objects call themselves."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def name(self) -> str:
        """`deployments.apps`; the plain plural in the core group."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str = "", subresource: str = "") -> str:
        """The URL path of a collection (namespace None: of all namespaces) or of one object."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        elif self.namespaced and name:
            raise ValueError(f"{self.kind} {name}: expected a namespace, got none")
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)


def _core(plural: str, kind: str, namespaced: bool = True) -> Resource:
    return Resource("", "v1", plural, kind, namespaced)


_TABLE: Final = (
    _core("namespaces", "Namespace", False),
    _core("nodes", "Node", False),
    _core("pods", "Pod"),
    _core("services", "Service"),
    _core("configmaps", "ConfigMap"),
    _core("secrets", "Secret"),
    _core("serviceaccounts", "ServiceAccount"),
    _core("events", "Event"),
    _core("replicationcontrollers", "ReplicationController"),
    Resource("apps", "v1", "deployments", "Deployment"),
    Resource("apps", "v1", "replicasets", "ReplicaSet"),
    Resource("apps", "v1", "statefulsets", "StatefulSet"),
    Resource("apps", "v1", "daemonsets", "DaemonSet"),
    Resource("batch", "v1", "jobs", "Job"),
    Resource("batch", "v1", "cronjobs", "CronJob"),
    Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
    Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy"),
    Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", False),
    Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
    Resource("coordination.k8s.io", "v1", "leases", "Lease"),
    Resource("events.k8s.io", "v1", "events", "Event"),
    Resource("rbac.authorization.k8s.io", "v1", "roles", "Role"),
    Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding"),
    Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", False),
    Resource("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", False),
    Resource(
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        False,
    ),
    Resource(
        "admissionregistration.k8s.io",
        "v1",
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
        False,
    ),
    Resource(
        "admissionregistration.k8s.io",
        "v1",
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        False,
    ),
    Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", False),
    Resource("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", False),
    Resource(
        "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", False
    ),
    Resource("linkerd.io", "v1alpha2", "serviceprofiles", "ServiceProfile"),
    Resource("linkerd.io", "v1alpha2", "linkerdtrafficsplits", "TrafficSplit"),
    Resource("split.smi-spec.io", "v1alpha4", "trafficsplits", "TrafficSplit"),
    Resource("specs.smi-spec.io", "v1alpha4", "httproutegroups", "HTTPRouteGroup"),
    Resource("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute"),
    Resource("gateway.networking.k8s.io", "v1", "grpcroutes", "GRPCRoute"),
    Resource("gateway.networking.k8s.io", "v1", "tlsroutes", "TLSRoute"),
    Resource("gateway.networking.k8s.io", "v1", "tcproutes", "TCPRoute"),
    Resource("gateway.networking.k8s.io", "v1beta1", "referencegrants", "ReferenceGrant"),
    Resource("policy.linkerd.io", "v1beta3", "httproutes", "HTTPRoute"),
    # Kinds that destination only speaks of (destination.dialects.undone).
    Resource("gateway.networking.k8s.io", "v1alpha2", "udproutes", "UDPRoute"),
    Resource(
        "gateway.networking.x-k8s.io",
        "v1alpha1",
        "xbackendtrafficpolicies",
        "XBackendTrafficPolicy",
    ),
    Resource("policy.linkerd.io", "v1beta3", "servers", "Server"),
    Resource("policy.linkerd.io", "v1beta1", "serverauthorizations", "ServerAuthorization"),
    Resource("policy.linkerd.io", "v1alpha1", "authorizationpolicies", "AuthorizationPolicy"),
    Resource("policy.linkerd.io", "v1alpha1", "meshtlsauthentications", "MeshTLSAuthentication"),
    Resource("policy.linkerd.io", "v1alpha1", "networkauthentications", "NetworkAuthentication"),
    Resource(
        "policy.linkerd.io", "v1alpha1", "httplocalratelimitpolicies", "HTTPLocalRateLimitPolicy"
    ),
    Resource("policy.linkerd.io", "v1alpha1", "egressnetworks", "EgressNetwork"),
    Resource("access.smi-spec.io", "v1alpha3", "traffictargets", "TrafficTarget"),
    Resource("specs.smi-spec.io", "v1alpha4", "tcproutes", "TCPRoute"),
    Resource("specs.smi-spec.io", "v1alpha4", "udproutes", "UDPRoute"),
)

RESOURCES: Final[Mapping[str, Resource]] = {resource.name: resource for resource in _TABLE}


def find_resource(name: str) -> Resource:
    """The resource called `name` (`pods`, `deployments.apps`). Raises KeyError."""
    return RESOURCES[name]


def resource_of(obj: Object) -> Resource:
    """The resource of an object, by its apiVersion and kind. Raises KeyError.

    The object's own version wins over the table's.
    """
    api_version, kind = obj.get("apiVersion", ""), obj.get("kind", "")
    group, slash, version = api_version.rpartition("/")
    for resource in _TABLE:
        if resource.kind == kind and resource.group == (group if slash else ""):
            if resource.version == version:
                return resource
            return Resource(group, version, resource.plural, kind, resource.namespaced)
    raise KeyError(f"{api_version} {kind}")
