"""How the parts are reached: Services, and on demand NetworkPolicies; how many at once go, and
who goes first."""

from __future__ import annotations

from typing import Any

from mesh.core import labels
from mesh.install.parts import INJECT, PARTS, Part
from mesh.install.values import Values

Manifest = dict[str, Any]


def services(values: Values) -> list[Manifest]:
    """All with a ClusterIP, so that a name never leads to a pod that is gone
    (docs/decisions/control-plane-services.md)."""
    return [_service(values, part) for part in PARTS]


def _service(values: Values, part: Part) -> Manifest:
    if part is INJECT:
        spec: dict[str, Any] = {"ports": [_port(part.port_name, 443, part.port)]}
    else:
        admin = labels.CONTROL_ADMIN_PORT
        ports = [_port(part.port_name, part.port, part.port), _port("admin", admin, admin)]
        spec = {"ports": ports}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": part.name,
            "namespace": values.namespace,
            "labels": part.selector,
        },
        "spec": {"selector": part.selector, **spec},
    }


def _port(name: str, port: int, target: int) -> dict[str, Any]:
    return {"name": name, "port": port, "targetPort": target, "protocol": "TCP"}


def disruption_budgets(values: Values) -> list[Manifest]:
    """One per part that has several pods: a drained node takes one at a time."""
    return [
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": part.name, "namespace": values.namespace},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": part.selector}},
        }
        for part in PARTS
        if part.sizing(values).replicas > 1
    ]


def priority_classes(values: Values) -> list[Manifest]:
    """Ours, where it is asked for by name: below the cluster's own, above every application."""
    if values.control_plane.priority_class_name != labels.PRIORITY_CLASS:
        return []
    return [
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": labels.PRIORITY_CLASS},
            "value": 1_000_000_000,
            "globalDefault": False,
            "description": "The mesh's control plane, without which no new pod gets into the mesh.",
        }
    ]


def network_policies(values: Values) -> list[Manifest]:
    """Only the ports that a part serves. Who may call is decided by certificates, not here."""
    if not values.control_plane.network_policy:
        return []
    return [_policy(values, part) for part in PARTS]


def _policy(values: Values, part: Part) -> Manifest:
    ports = [{"port": p, "protocol": "TCP"} for p in (part.port, labels.CONTROL_ADMIN_PORT)]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": part.name, "namespace": values.namespace},
        "spec": {
            "podSelector": {"matchLabels": part.selector},
            "policyTypes": ["Ingress"],
            "ingress": [{"ports": ports}],
        },
    }
