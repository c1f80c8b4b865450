"""The Deployments of the control plane.

The pods run unprivileged with a read-only root and carry no sidecar: they speak mesh TLS
themselves. A part gets exactly the variables that its settings read, and the volumes that go
with them. The same container commands run in `mesh local`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mesh.core import labels
from mesh.inject.environ import KEY_FOLDER, STATE_FOLDER, TOKEN_FOLDER
from mesh.inject.sidecar import unprivileged
from mesh.install.parts import PARTS, Part
from mesh.install.placement import labels_of, tolerations_of
from mesh.install.values import Role, Values
from mesh.runtime.settings import describe

Manifest = dict[str, Any]
EnvVar = dict[str, Any]

_TOKEN_SECONDS: Final = 3600
_ISSUER_FOLDER: Final = "/var/run/mesh/issuer"
_DOWNWARD: Final = {
    "MESH_POD_NAME": "metadata.name",
    "MESH_POD_NAMESPACE": "metadata.namespace",
    "MESH_POD_UID": "metadata.uid",
    "MESH_POD_IPS": "status.podIPs",
    "MESH_NODE_NAME": "spec.nodeName",
    "MESH_SERVICE_ACCOUNT": "spec.serviceAccountName",
}


def deployments(values: Values) -> list[Manifest]:
    return [_deployment(values, part) for part in PARTS]


def _deployment(values: Values, part: Part) -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": part.name,
            "namespace": values.namespace,
            "labels": part.selector,
        },
        "spec": {
            "replicas": part.sizing(values).replicas,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": part.selector},
            "template": {
                "metadata": {"labels": {**part.selector, labels.L_PART_OF: labels.PART_OF}},
                "spec": _pod(values, part),
            },
        },
    }


def _pod(values: Values, part: Part) -> dict[str, Any]:
    environment = _environment(values, part.settings)
    volumes = _volumes(values, {item["name"] for item in environment})
    spec: dict[str, Any] = {
        "serviceAccountName": part.name,
        # the kubelet would set MESH_INJECT_PORT and the like to tcp://..., for our own Services
        "enableServiceLinks": False,
        "nodeSelector": {
            "kubernetes.io/os": "linux",
            **labels_of(values.control_plane.node_selector),
        },
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": labels.CONTROL_UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(values, part, environment, list(volumes))],
        "volumes": [volume for _, volume in volumes],
    }
    if values.image_pull_secret:
        spec["imagePullSecrets"] = [{"name": values.image_pull_secret}]
    if values.control_plane.priority_class_name:
        spec["priorityClassName"] = values.control_plane.priority_class_name
    if values.control_plane.tolerations:
        spec["tolerations"] = tolerations_of(values.control_plane.tolerations)
    if part.sizing(values).replicas > 1:
        spec["affinity"] = _apart(part)
    return spec


def _container(
    values: Values,
    part: Part,
    environment: list[EnvVar],
    volumes: list[tuple[str, dict[str, Any]]],
) -> dict[str, Any]:
    return {
        "name": part.role,
        "image": values.image,
        "imagePullPolicy": values.image_pull_policy,
        "command": ["python", "-m", part.module],
        "env": environment,
        "ports": [
            {"name": part.port_name, "containerPort": part.port, "protocol": "TCP"},
            {"name": "admin", "containerPort": labels.CONTROL_ADMIN_PORT, "protocol": "TCP"},
        ],
        "livenessProbe": {**_probe("/live", period=10), "initialDelaySeconds": 10},
        "readinessProbe": _probe("/ready", period=1, failures=2),
        "resources": _resources(part.sizing(values)),
        "securityContext": unprivileged(labels.CONTROL_UID),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": volume["name"], "mountPath": folder}
            | ({} if "emptyDir" in volume else {"readOnly": True})
            for folder, volume in volumes
        ],
    }


def _environment(values: Values, settings: type[Any]) -> list[EnvVar]:
    """Every variable that the settings read and that values or the kubelet know."""
    domain = f"{values.namespace}.svc.{values.cluster_domain}"
    texts = {
        "MESH_NAMESPACE": values.namespace,
        "MESH_TRUST_DOMAIN": values.trust_domain,
        "MESH_CLUSTER_DOMAIN": values.cluster_domain,
        "MESH_IDENTITY_ADDRESS": f"{labels.IDENTITY}.{domain}:{labels.IDENTITY_PORT}",
        "MESH_IDENTITY_LEAF_LIFETIME": values.identity.leaf_lifetime,
        "MESH_IDENTITY_ISSUER_DIR": _ISSUER_FOLDER if values.identity.issuer_secret else "",
        "MESH_TOKEN_FILE": f"{TOKEN_FOLDER}/token",
        "MESH_KEY_DIR": KEY_FOLDER,
        "MESH_STATE_DIR": STATE_FOLDER,
        "MESH_LOG_LEVEL": values.control_plane.log_level,
        "MESH_LOG_FORMAT": values.control_plane.log_format,
    }
    found: list[EnvVar] = []
    for item in describe(settings):
        path = _DOWNWARD.get(item.variable)
        if path is not None:
            source = {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}
            found.append({"name": item.variable, "valueFrom": source})
        elif texts.get(item.variable):
            found.append({"name": item.variable, "value": texts[item.variable]})
        elif item.default is None:
            raise KeyError(f"{item.variable}: nothing to write")
    return found


def _volumes(values: Values, variables: set[str]) -> list[tuple[str, dict[str, Any]]]:
    """(mount path, volume) for each variable that names a folder."""
    token = {
        "audience": labels.IDENTITY_AUDIENCE,
        "expirationSeconds": _TOKEN_SECONDS,
        "path": "token",
    }
    every: Mapping[str, tuple[str, dict[str, Any]]] = {
        "MESH_KEY_DIR": (
            KEY_FOLDER,
            {"name": "keys", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        ),
        "MESH_STATE_DIR": (STATE_FOLDER, {"name": "state", "emptyDir": {"sizeLimit": "8Mi"}}),
        "MESH_TOKEN_FILE": (
            TOKEN_FOLDER,
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": token}]}},
        ),
        "MESH_IDENTITY_ISSUER_DIR": (
            _ISSUER_FOLDER,
            {"name": "issuer", "secret": {"secretName": values.identity.issuer_secret}},
        ),
    }
    return [volume for variable, volume in every.items() if variable in variables]


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


def _probe(path: str, *, period: int, failures: int = 3) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": labels.CONTROL_ADMIN_PORT, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }


def _apart(part: Part) -> dict[str, Any]:
    """Preferred, not required: a cluster with fewer nodes than pods still gets them all."""
    preferred = [
        {
            "weight": weight,
            "podAffinityTerm": {
                "labelSelector": {"matchLabels": part.selector},
                "topologyKey": key,
            },
        }
        for weight, key in ((100, "kubernetes.io/hostname"), (50, "topology.kubernetes.io/zone"))
    ]
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
