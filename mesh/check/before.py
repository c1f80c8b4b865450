"""Checks before an installation: is there room for the mesh, and may we install it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mesh.check.facts import Facts, Right
from mesh.check.foreign import DEFINITIONS_FREE, GATEWAY_FREE
from mesh.check.model import Category, Check, Fault, Severity
from mesh.kube.pods import name_of

_CLUSTER_WIDE: Final = (
    "namespaces",
    "customresourcedefinitions.apiextensions.k8s.io",
    "clusterroles.rbac.authorization.k8s.io",
    "clusterrolebindings.rbac.authorization.k8s.io",
    "mutatingwebhookconfigurations.admissionregistration.k8s.io",
    "validatingwebhookconfigurations.admissionregistration.k8s.io",
)
_IN_NAMESPACE: Final = (
    "serviceaccounts",
    "services",
    "configmaps",
    "deployments.apps",
    "roles.rbac.authorization.k8s.io",
    "rolebindings.rbac.authorization.k8s.io",
)


def needed_rights(mesh_namespace: str) -> list[Right]:
    """What applying the output of `mesh install` takes."""
    return [Right("create", resource) for resource in _CLUSTER_WIDE] + [
        Right("create", resource, namespace=mesh_namespace) for resource in _IN_NAMESPACE
    ]


def may_install(facts: Facts) -> Iterator[Fault]:
    for right in needed_rights(facts.mesh_namespace):
        allowed = facts.rights.get(right)
        if allowed is not None and not allowed.value:
            yield Fault(
                "you",
                f"may not {right}",
                "install as a cluster administrator, or have these rights granted; "
                "`kubectl auth can-i --list` shows what you have",
            )


def is_not_installed(facts: Facts) -> Iterator[Fault]:
    if facts.config.got is not None:
        name = f"ConfigMap {facts.mesh_namespace}/{name_of(facts.config.got)}"
        yield Fault(
            name,
            "a mesh is installed in this namespace already",
            "`mesh check` examines it; applying `mesh install` again upgrades it; "
            "--mesh-namespace chooses another place",
        )
    elif facts.config.error is not None and not facts.config.is_missing:
        raise facts.config.error


def namespace_is_usable(facts: Facts) -> Iterator[Fault]:
    for namespace in facts.namespaces.value:
        if name_of(namespace) != facts.mesh_namespace:
            continue
        if (namespace.get("status") or {}).get("phase") == "Terminating":
            yield Fault(
                f"namespace {facts.mesh_namespace}",
                "is being deleted",
                "wait until it is gone; `kubectl get ns -o yaml` shows what holds it",
            )


BEFORE: Final = Category(
    "before-installation",
    (
        Check("the mesh is not installed yet", is_not_installed, Severity.WARNING),
        Check("the mesh's namespace can be used", namespace_is_usable, retryable=True),
        Check("you may create everything that is installed", may_install),
        DEFINITIONS_FREE,
        GATEWAY_FREE,
    ),
)
