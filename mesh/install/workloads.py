"""The three Deployments of the control plane and their Services.

The pods run unprivileged with a read-only root and carry no sidecar: they speak mesh TLS
themselves. The same container commands run in `mesh local`.
"""

from __future__ import annotations

from typing import Any, Final

from mesh.core import labels
from mesh.inject.environ import KEY_FOLDER, STATE_FOLDER, TOKEN_FOLDER
from mesh.inject.sidecar import unprivileged
from mesh.install.values import Role, Values

Manifest = dict[str, Any]
EnvVar = dict[str, Any]

_TOKEN_SECONDS: Final = 3600
_KEYS: Final = "keys"
_STATE: Final = "state"
_TOKEN: Final = "token"
_ISSUER: Final = "issuer"
_ISSUER_FOLDER: Final = "/var/run/mesh/issuer"

_DOWNWARD: Final = {
    "MESH_POD_NAME": "metadata.name",
    "MESH_POD_NAMESPACE": "metadata.namespace",
    "MESH_POD_UID": "metadata.uid",
    "MESH_POD_IPS": "status.podIPs",
    "MESH_NODE_NAME": "spec.nodeName",
    "MESH_SERVICE_ACCOUNT": "spec.serviceAccountName",
}


def services(values: Values) -> list[Manifest]:
    """Headless for identity and destination (proxies pick a pod); a ClusterIP for the webhook,
    which the API server calls."""
    admin = ("admin", labels.CONTROL_ADMIN_PORT, labels.CONTROL_ADMIN_PORT)
    identity = ("https", labels.IDENTITY_PORT, labels.IDENTITY_PORT)
    destination = ("stream", labels.DESTINATION_PORT, labels.DESTINATION_PORT)
    webhook = ("https", 443, labels.INJECT_PORT)
    return [
        _service(values, labels.IDENTITY, "identity", [identity, admin], headless=True),
        _service(values, labels.DESTINATION, "destination", [destination, admin], headless=True),
        _service(values, labels.INJECT, "inject", [webhook], headless=False),
    ]


def deployments(values: Values) -> list[Manifest]:
    return [
        _identity(values),
        _deployment(
            values,
            labels.DESTINATION,
            "destination",
            values.destination,
            module="destination",
            port=("stream", labels.DESTINATION_PORT),
        ),
        _deployment(
            values,
            labels.INJECT,
            "inject",
            values.inject,
            module="mesh.inject",
            port=("https", labels.INJECT_PORT),
        ),
    ]


def _identity(values: Values) -> Manifest:
    """With an issuer of the operator's own it is mounted, and reloaded when it changes."""
    extra = {"MESH_IDENTITY_LEAF_LIFETIME": values.identity.leaf_lifetime}
    secret = values.identity.issuer_secret
    if secret:
        extra["MESH_IDENTITY_ISSUER_DIR"] = _ISSUER_FOLDER
    deployment = _deployment(
        values,
        labels.IDENTITY,
        "identity",
        values.identity,
        module="identity",
        port=("https", labels.IDENTITY_PORT),
        extra=extra,
    )
    if secret:
        pod = deployment["spec"]["template"]["spec"]
        pod["volumes"].append({"name": _ISSUER, "secret": {"secretName": secret}})
        mount = {"name": _ISSUER, "mountPath": _ISSUER_FOLDER, "readOnly": True}
        pod["containers"][0]["volumeMounts"].append(mount)
    return deployment


def component(role: str) -> dict[str, str]:
    """What selects the pods of one role."""
    return {labels.L_COMPONENT: role}


def _deployment(
    values: Values,
    name: str,
    role: str,
    sizing: Role,
    *,
    module: str,
    port: tuple[str, int],
    extra: dict[str, str] | None = None,
) -> Manifest:
    container = {
        "name": role,
        "image": values.image,
        "imagePullPolicy": values.image_pull_policy,
        "command": ["python", "-m", module],
        "env": _environment(values, extra or {}),
        "ports": [
            {"name": port[0], "containerPort": port[1], "protocol": "TCP"},
            {"name": "admin", "containerPort": labels.CONTROL_ADMIN_PORT, "protocol": "TCP"},
        ],
        "livenessProbe": _probe("/live", initial=10, period=10),
        "readinessProbe": _probe("/ready", initial=0, period=2),
        "resources": _resources(sizing),
        "securityContext": unprivileged(labels.CONTROL_UID),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": _KEYS, "mountPath": KEY_FOLDER},
            {"name": _STATE, "mountPath": STATE_FOLDER},
            {"name": _TOKEN, "mountPath": TOKEN_FOLDER, "readOnly": True},
        ],
    }
    selected = component(role)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": values.namespace, "labels": dict(selected)},
        "spec": {
            "replicas": sizing.replicas,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": selected},
            "template": {
                "metadata": {"labels": {**selected, labels.L_PART_OF: labels.PART_OF}},
                "spec": _pod(values, name, role, sizing, container),
            },
        },
    }


def _pod(
    values: Values, name: str, role: str, sizing: Role, container: dict[str, Any]
) -> dict[str, Any]:
    token = {
        "audience": labels.IDENTITY_AUDIENCE,
        "expirationSeconds": _TOKEN_SECONDS,
        "path": "token",
    }
    spec: dict[str, Any] = {
        "serviceAccountName": name,
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": labels.CONTROL_UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": _KEYS, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": _STATE, "emptyDir": {"sizeLimit": "8Mi"}},
            {"name": _TOKEN, "projected": {"sources": [{"serviceAccountToken": token}]}},
        ],
    }
    if values.control_plane.priority_class_name:
        spec["priorityClassName"] = values.control_plane.priority_class_name
    if sizing.replicas > 1:
        spec["affinity"] = _apart(role)
    return spec


def disruption_budgets(values: Values) -> list[Manifest]:
    """One per role that has several pods: a drained node takes one at a time."""
    found: list[Manifest] = []
    for name, role, sizing in (
        (labels.IDENTITY, "identity", values.identity),
        (labels.DESTINATION, "destination", values.destination),
        (labels.INJECT, "inject", values.inject),
    ):
        if sizing.replicas > 1:
            selector = {"matchLabels": component(role)}
            found.append(
                {
                    "apiVersion": "policy/v1",
                    "kind": "PodDisruptionBudget",
                    "metadata": {"name": name, "namespace": values.namespace},
                    "spec": {"maxUnavailable": 1, "selector": selector},
                }
            )
    return found


def network_policies(values: Values) -> list[Manifest]:
    """Only the ports that a role serves. Who may call is decided by certificates, not here."""
    if not values.control_plane.network_policy:
        return []
    found: list[Manifest] = []
    for name, role, port in (
        (labels.IDENTITY, "identity", labels.IDENTITY_PORT),
        (labels.DESTINATION, "destination", labels.DESTINATION_PORT),
        (labels.INJECT, "inject", labels.INJECT_PORT),
    ):
        ports = [{"port": p, "protocol": "TCP"} for p in (port, labels.CONTROL_ADMIN_PORT)]
        found.append(
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": name, "namespace": values.namespace},
                "spec": {
                    "podSelector": {"matchLabels": component(role)},
                    "policyTypes": ["Ingress"],
                    "ingress": [{"ports": ports}],
                },
            }
        )
    return found


def _service(
    values: Values,
    name: str,
    role: str,
    ports: list[tuple[str, int, int]],
    *,
    headless: bool,
) -> Manifest:
    spec: dict[str, Any] = {
        "selector": component(role),
        "ports": [
            {"name": port, "port": number, "targetPort": target, "protocol": "TCP"}
            for port, number, target in ports
        ],
    }
    if headless:
        spec["clusterIP"] = "None"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": values.namespace,
            "labels": component(role),
        },
        "spec": spec,
    }


def _environment(values: Values, extra: dict[str, str]) -> list[EnvVar]:
    domain = f"{values.namespace}.svc.{values.cluster_domain}"
    texts = {
        "MESH_NAMESPACE": values.namespace,
        "MESH_TRUST_DOMAIN": values.trust_domain,
        "MESH_CLUSTER_DOMAIN": values.cluster_domain,
        "MESH_IDENTITY_ADDRESS": f"{labels.IDENTITY}.{domain}:{labels.IDENTITY_PORT}",
        "MESH_DESTINATION_ADDRESS": f"{labels.DESTINATION}.{domain}:{labels.DESTINATION_PORT}",
        "MESH_TOKEN_FILE": f"{TOKEN_FOLDER}/token",
        "MESH_KEY_DIR": KEY_FOLDER,
        "MESH_STATE_DIR": STATE_FOLDER,
        "MESH_LOG_LEVEL": values.control_plane.log_level,
        "MESH_LOG_FORMAT": values.control_plane.log_format,
        **extra,
    }
    fields = [
        {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
        for name, path in _DOWNWARD.items()
    ]
    return [*fields, *({"name": name, "value": text} for name, text in texts.items())]


def _resources(sizing: Role) -> dict[str, dict[str, str]]:
    sections = {
        "requests": {"cpu": sizing.cpu_request, "memory": sizing.memory_request},
        "limits": {"cpu": sizing.cpu_limit, "memory": sizing.memory_limit},
    }
    kept = {
        name: {kind: text for kind, text in section.items() if text}
        for name, section in sections.items()
    }
    return {name: section for name, section in kept.items() if section}


def _probe(path: str, *, initial: int, period: int) -> dict[str, Any]:
    probe = {
        "httpGet": {"path": path, "port": labels.CONTROL_ADMIN_PORT, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": 3,
    }
    return probe | {"initialDelaySeconds": initial} if initial else probe


def _apart(role: str) -> dict[str, Any]:
    term = {
        "labelSelector": {"matchLabels": component(role)},
        "topologyKey": "kubernetes.io/hostname",
    }
    preferred = [{"weight": 100, "podAffinityTerm": term}]
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
