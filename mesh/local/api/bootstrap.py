"""The objects that every cluster has before anybody wrote one: namespaces, roles, `kubernetes`.

The roles are the part of Kubernetes' bootstrap policy that users and installers bind to.
Written when missing; changes by users stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from mesh.local.api import defaults, rbac
from mesh.local.api.addresses import ClusterIPs
from mesh.local.api.resources import Object
from mesh.local.api.store import Store

NAMESPACES: Final = ("default", "kube-system", "kube-public", "kube-node-lease")
_RBAC: Final = f"{rbac.GROUP}/v1"
_LABELS: Final = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_ADMIN: Final = f"{_RBAC.partition('/')[0]}/aggregate-to-admin"
_EDIT: Final = f"{_RBAC.partition('/')[0]}/aggregate-to-edit"
_VIEW: Final = f"{_RBAC.partition('/')[0]}/aggregate-to-view"
_READ: Final = ["get", "list", "watch"]
_WRITE: Final = ["create", "delete", "deletecollection", "patch", "update"]

_CORE_VIEW: Final = [
    "bindings",
    "configmaps",
    "endpoints",
    "events",
    "namespaces",
    "namespaces/status",
    "pods",
    "pods/log",
    "pods/status",
    "serviceaccounts",
    "services",
    "services/status",
]
_CORE_EDIT: Final = ["configmaps", "events", "secrets", "serviceaccounts", "services"]
_SCALED: Final = ("deployments", "replicasets", "statefulsets")
_APPS: Final = ["daemonsets", *_SCALED, *(f"{name}/scale" for name in _SCALED)]
_APPS_STATUS: Final = [f"{name}/status" for name in ("daemonsets", *_SCALED)]
_BATCH: Final = ["cronjobs", "jobs"]


def ensure(store: Store, cluster_ips: ClusterIPs, *, port: int = 443) -> None:
    """Write what is missing."""
    for name in NAMESPACES:
        namespace: Object = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        defaults.set_defaults("namespaces", namespace)
        _create(store, "namespaces", namespace)
    for role in _roles():
        _create(store, rbac.CLUSTER_ROLES, role)
    for binding in _bindings():
        _create(store, rbac.CLUSTER_BINDINGS, binding)
    _create(store, "services", _kubernetes(cluster_ips, port))


def endpoint_slice(store: Store, address: str, port: int) -> None:
    """Point the `kubernetes` Service to the address on which the API server listens."""
    key = "endpointslices.discovery.k8s.io"
    found = store.find(key, "default", "kubernetes")
    fresh: Object = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": "IPv6" if ":" in address else "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }
    if found is None:
        store.create(key, fresh)
    else:
        store.update(key, fresh)


def _create(store: Store, key: str, obj: Object) -> None:
    meta = obj["metadata"]
    if store.find(key, meta.get("namespace"), meta["name"]) is None:
        store.create(key, obj)


def _kubernetes(cluster_ips: ClusterIPs, port: int) -> Object:
    family = cluster_ips.families[0]
    address = cluster_ips.first(family)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "clusterIP": address,
            "clusterIPs": [address],
            "internalTrafficPolicy": "Cluster",
            "ipFamilies": [family],
            "ipFamilyPolicy": "SingleStack",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
            "sessionAffinity": "None",
            "type": "ClusterIP",
        },
        "status": {"loadBalancer": {}},
    }


def _rule(groups: list[str], resources: list[str], verbs: list[str]) -> Object:
    return {"apiGroups": groups, "resources": resources, "verbs": verbs}


def _role(name: str, rules: list[Object], *, aggregate: str = "", **more: Any) -> Object:
    labels = {**_LABELS, **({aggregate: "true"} if aggregate else {})}
    return {
        "apiVersion": _RBAC,
        "kind": "ClusterRole",
        "metadata": {
            "name": name,
            "labels": labels,
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        },
        "rules": rules,
        **more,
    }


def _roles() -> Iterator[Object]:
    yield _role("system:aggregate-to-view", _view_rules(), aggregate=_VIEW)
    yield _role("system:aggregate-to-edit", _edit_rules(), aggregate=_EDIT)
    yield _role("system:aggregate-to-admin", _admin_rules(), aggregate=_ADMIN)
    for name, selected, part_of in (
        ("view", _VIEW, _EDIT),
        ("edit", _EDIT, _ADMIN),
        ("admin", _ADMIN, ""),
    ):
        rule = {"clusterRoleSelectors": [{"matchLabels": {selected: "true"}}]}
        yield _role(name, [], aggregate=part_of, aggregationRule=rule)
    everything = {"nonResourceURLs": ["*"], "verbs": ["*"]}
    yield _role("cluster-admin", [_rule(["*"], ["*"], ["*"]), everything])
    paths = ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*"]
    more = ["/readyz", "/version", "/version/"]
    yield _role("system:discovery", [{"nonResourceURLs": [*paths, *more], "verbs": ["get"]}])
    public = ["/healthz", "/livez", "/readyz", "/version", "/version/"]
    yield _role("system:public-info-viewer", [{"nonResourceURLs": public, "verbs": ["get"]}])
    reviews = ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]
    yield _role(
        "system:basic-user",
        [
            _rule(["authorization.k8s.io"], reviews, ["create"]),
            _rule(["authentication.k8s.io"], ["selfsubjectreviews"], ["create"]),
        ],
    )
    keys = ["/.well-known/openid-configuration", "/.well-known/openid-configuration/"]
    keys += ["/openid/v1/jwks", "/openid/v1/jwks/"]
    yield _role(
        "system:service-account-issuer-discovery", [{"nonResourceURLs": keys, "verbs": ["get"]}]
    )
    yield _role(
        "system:auth-delegator",
        [
            _rule(["authentication.k8s.io"], ["tokenreviews"], ["create"]),
            _rule(["authorization.k8s.io"], ["subjectaccessreviews"], ["create"]),
        ],
    )


def _view_rules() -> list[Object]:
    return [
        _rule([""], _CORE_VIEW, _READ),
        _rule(["discovery.k8s.io"], ["endpointslices"], _READ),
        _rule(["apps"], [*_APPS, *_APPS_STATUS], _READ),
        _rule(["batch"], [*_BATCH, *(f"{name}/status" for name in _BATCH)], _READ),
        _rule(["policy"], ["poddisruptionbudgets", "poddisruptionbudgets/status"], _READ),
        _rule(["networking.k8s.io"], ["networkpolicies"], _READ),
    ]


def _edit_rules() -> list[Object]:
    connect = ["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets"]
    return [
        _rule([""], [*connect, "services/proxy"], _READ),
        _rule([""], ["serviceaccounts"], ["impersonate"]),
        _rule([""], ["pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy"], _WRITE),
        _rule([""], ["pods/eviction"], ["create"]),
        _rule([""], [*_CORE_EDIT, "services/proxy"], _WRITE),
        _rule([""], ["serviceaccounts/token"], ["create"]),
        _rule(["apps"], _APPS, _WRITE),
        _rule(["policy"], ["poddisruptionbudgets"], _WRITE),
        _rule(["networking.k8s.io"], ["networkpolicies"], _WRITE),
        _rule(["coordination.k8s.io"], ["leases"], [*_WRITE, *_READ]),
    ]


def _admin_rules() -> list[Object]:
    return [
        _rule(["authorization.k8s.io"], ["localsubjectaccessreviews"], ["create"]),
        _rule([rbac.GROUP], ["rolebindings", "roles"], [*_WRITE, *_READ]),
    ]


def _bindings() -> Iterator[Object]:
    for name, groups in (
        ("cluster-admin", ("system:masters",)),
        ("system:discovery", ("system:authenticated",)),
        ("system:basic-user", ("system:authenticated",)),
        ("system:public-info-viewer", ("system:authenticated", "system:unauthenticated")),
        ("system:service-account-issuer-discovery", ("system:serviceaccounts",)),
    ):
        yield {
            "apiVersion": _RBAC,
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name, "labels": dict(_LABELS)},
            "roleRef": {"apiGroup": rbac.GROUP, "kind": "ClusterRole", "name": name},
            "subjects": [
                {"apiGroup": rbac.GROUP, "kind": "Group", "name": group} for group in groups
            ],
        }
