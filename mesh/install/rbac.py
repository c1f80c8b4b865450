"""Service accounts and rights: each role gets what it does, and nothing else.

Nobody may list Secrets. `create` cannot be limited to names, so creating a Secret is granted
in our own namespace only; reading and changing one is granted by name. What watches one named
object may list it by name too: the API server checks the field selector against the name.
"""

from __future__ import annotations

from typing import Any, Final

from mesh.core import labels

Manifest = dict[str, Any]
Rule = dict[str, Any]

READ: Final = ["get", "list", "watch"]
_ROUTING: Final = (
    ("linkerd.io", ["serviceprofiles", "linkerdtrafficsplits"]),
    ("split.smi-spec.io", ["trafficsplits"]),
    ("specs.smi-spec.io", ["httproutegroups"]),
    ("gateway.networking.k8s.io", ["httproutes", "grpcroutes", "tlsroutes", "tcproutes"]),
    ("policy.linkerd.io", ["httproutes"]),
)
# Kinds that have no effect here, which destination says of each object (as an event, or in the
# status of a UDPRoute).
UNDONE: Final = (
    ("gateway.networking.k8s.io", ["udproutes"]),
    ("gateway.networking.x-k8s.io", ["xbackendtrafficpolicies"]),
    (
        "policy.linkerd.io",
        [
            *("servers", "serverauthorizations", "authorizationpolicies"),
            *("meshtlsauthentications", "networkauthentications"),
            *("httplocalratelimitpolicies", "egressnetworks"),
        ],
    ),
    ("access.smi-spec.io", ["traffictargets"]),
    ("specs.smi-spec.io", ["tcproutes", "udproutes"]),
)


def service_account(name: str, namespace: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": namespace},
    }


def accounts(namespace: str) -> list[Manifest]:
    """One per role, and `mesh-viewer`, whose tokens read reports and which may do nothing."""
    names = (labels.IDENTITY, labels.DESTINATION, labels.INJECT, labels.VIEWER)
    return [service_account(name, namespace) for name in names]


def roles(namespace: str) -> list[Manifest]:
    """Roles and bindings of the three roles, and the unbound Role that lets a person look."""
    viewer = _role(labels.VIEWER, namespace, _viewer_rules())
    return [
        *_bound(labels.IDENTITY, namespace, _identity_cluster(), _identity_here()),
        *_bound(labels.DESTINATION, namespace, _destination_cluster(), _destination_here()),
        *_bound(labels.INJECT, namespace, _inject_cluster(), _inject_here()),
        viewer,
    ]


def _identity_cluster() -> list[Rule]:
    return [_rule("authentication.k8s.io", ["tokenreviews"], ["create"])]


def _identity_here() -> list[Rule]:
    secrets = [labels.ROOT_SECRET, labels.ISSUER_SECRET]
    return [
        _rule("", ["secrets"], ["create"]),
        _rule("", ["secrets"], ["get", "update"], names=secrets),
        _rule("", ["configmaps"], ["create"]),
        _rule("", ["configmaps"], ["get", "update"], names=[labels.TRUST_ROOTS]),
        _rule("", ["events"], ["create"]),
    ]


def _destination_cluster() -> list[Rule]:
    return [
        _rule("", ["services", "pods", "namespaces"], READ),
        _rule("discovery.k8s.io", ["endpointslices"], READ),
        *(_rule(group, kinds, READ) for group, kinds in _ROUTING),
        _rule("gateway.networking.k8s.io", ["referencegrants"], READ),
        *(_rule(group, kinds, READ) for group, kinds in UNDONE),
        _rule("gateway.networking.k8s.io", ["udproutes/status"], ["patch"]),
        *(
            _rule(group, [f"{kind}/status" for kind in kinds], ["patch"])
            for group, kinds in _ROUTING
        ),
        _rule("", ["events"], ["create"]),
        _rule("authentication.k8s.io", ["tokenreviews"], ["create"]),
    ]


def _destination_here() -> list[Rule]:
    return [
        _rule("", ["configmaps"], READ, names=[labels.TRUST_ROOTS]),
        _rule("coordination.k8s.io", ["leases"], ["create"]),
        _rule("coordination.k8s.io", ["leases"], ["get", "update"], names=[labels.STATUS_LEASE]),
    ]


def _inject_cluster() -> list[Rule]:
    group = "admissionregistration.k8s.io"
    mutating, validating = "mutatingwebhookconfigurations", "validatingwebhookconfigurations"
    return [
        _rule("", ["namespaces", "nodes", "pods"], READ),
        _rule("apps", ["replicasets"], ["get"]),
        _rule("", ["events"], ["create", "patch"]),
        _rule(group, [mutating, validating], READ),
        _rule(group, [mutating], ["patch"], names=[labels.WEBHOOK_CONFIGURATION]),
        _rule(group, [validating], ["patch"], names=[labels.VALIDATING_CONFIGURATION]),
    ]


def _inject_here() -> list[Rule]:
    return [
        _rule("", ["secrets"], ["create"]),
        _rule("", ["secrets"], ["get", "update"], names=[labels.INJECT_SECRET]),
        _rule("", ["configmaps"], READ, names=[labels.CONFIG_MAP, labels.TRUST_ROOTS]),
    ]


def _viewer_rules() -> list[Rule]:
    """For people: bind it to whoever may run `mesh stat` and its kin."""
    return [
        _rule("", ["serviceaccounts/token"], ["create"], names=[labels.VIEWER]),
        _rule("", ["pods"], ["get", "list"]),
        _rule("", ["pods/proxy"], ["get"]),
        _rule("", ["configmaps"], ["get"], names=[labels.CONFIG_MAP, labels.TRUST_ROOTS]),
    ]


def _rule(
    group: str, resources: list[str], verbs: list[str], *, names: list[str] | None = None
) -> Rule:
    rule: Rule = {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}
    if names:
        rule["resourceNames"] = names
    return rule


def _bound(name: str, namespace: str, cluster: list[Rule], here: list[Rule]) -> list[Manifest]:
    api = "rbac.authorization.k8s.io/v1"
    subjects = [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]
    found: list[Manifest] = []
    for kind, meta, rules in (
        ("ClusterRole", {"name": name}, cluster),
        ("Role", {"name": name, "namespace": namespace}, here),
    ):
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
        found += [
            {"apiVersion": api, "kind": kind, "metadata": dict(meta), "rules": rules},
            {
                "apiVersion": api,
                "kind": f"{kind}Binding",
                "metadata": dict(meta),
                "roleRef": reference,
                "subjects": subjects,
            },
        ]
    return found


def _role(name: str, namespace: str, rules: list[Rule]) -> Manifest:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": name, "namespace": namespace},
        "rules": rules,
    }
