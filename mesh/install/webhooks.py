"""The two webhook configurations. Without caBundle: inject writes that, and restores it.

Every pod outside kube-system and our own namespace is shown to the webhook, since the switch
may stand on the pod, on its namespace, or in another mesh's spelling; the decision is made in
code. While nobody answers, pods start unmeshed (Ignore) and `mesh check` finds them.
"""

from __future__ import annotations

from typing import Any, Final

from mesh.core import labels
from mesh.install.rbac import UNDONE
from mesh.install.values import Values

Manifest = dict[str, Any]
_GATEWAY: Final = ["httproutes", "grpcroutes", "tlsroutes", "tcproutes", "referencegrants"]
_API: Final = "admissionregistration.k8s.io/v1"


def webhook_configurations(values: Values) -> list[Manifest]:
    """Mutating, then validating."""
    return [_mutating(values), _validating(values)]


def _mutating(values: Values) -> Manifest:
    hook = {
        "name": "pods.inject.mesh",
        "admissionReviewVersions": ["v1"],
        "clientConfig": _client(values, "/inject"),
        "failurePolicy": values.inject.failure_policy,
        "matchPolicy": "Equivalent",
        "namespaceSelector": _elsewhere(values),
        "objectSelector": {
            "matchExpressions": [{"key": labels.L_COMPONENT, "operator": "DoesNotExist"}]
        },
        "reinvocationPolicy": "IfNeeded",
        "rules": [
            {
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "operations": ["CREATE"],
                "resources": ["pods"],
                "scope": "Namespaced",
            }
        ],
        "sideEffects": "NoneOnDryRun",
        "timeoutSeconds": values.inject.timeout_seconds,
    }
    return {
        "apiVersion": _API,
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": labels.WEBHOOK_CONFIGURATION},
        "webhooks": [hook],
    }


def _validating(values: Values) -> Manifest:
    """Warns; refuses only what has nothing that could take effect. What is stored says in its
    status what is wrong."""
    hook = {
        "name": "routes.validate.mesh",
        "admissionReviewVersions": ["v1"],
        "clientConfig": _client(values, "/validate"),
        "failurePolicy": "Ignore",
        "matchPolicy": "Equivalent",
        "rules": [
            _written("linkerd.io", ["serviceprofiles", "linkerdtrafficsplits"]),
            _written("split.smi-spec.io", ["trafficsplits"]),
            _written("specs.smi-spec.io", ["httproutegroups"]),
            _written("gateway.networking.k8s.io", _GATEWAY),
            _written("policy.linkerd.io", ["httproutes"]),
            *(_written(group, resources) for group, resources in UNDONE),
        ],
        "sideEffects": "None",
        "timeoutSeconds": values.inject.timeout_seconds,
    }
    return {
        "apiVersion": _API,
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": labels.VALIDATING_CONFIGURATION},
        "webhooks": [hook],
    }


def _written(group: str, resources: list[str]) -> dict[str, Any]:
    return {
        "apiGroups": [group],
        "apiVersions": ["*"],
        "operations": ["CREATE", "UPDATE"],
        "resources": resources,
        "scope": "Namespaced",
    }


def _client(values: Values, path: str) -> dict[str, Any]:
    service = {"name": labels.INJECT, "namespace": values.namespace, "path": path, "port": 443}
    return {"service": service}


def _elsewhere(values: Values) -> dict[str, Any]:
    return {
        "matchExpressions": [
            {
                "key": "kubernetes.io/metadata.name",
                "operator": "NotIn",
                "values": ["kube-system", values.namespace],
            }
        ]
    }
