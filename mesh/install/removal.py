"""What `mesh uninstall` prints. Pure.

Webhook configurations come first, so that no pod waits for a webhook that is gone, and the
namespace last, which takes with it what the roles made (Secrets, bundle, lease). Definitions
of kinds stay unless asked for, since every ServiceProfile and TrafficSplit goes with them.
"""

from __future__ import annotations

from typing import Final

from mesh.install.render import Manifest, render
from mesh.install.values import Values

_ORDER: Final = (
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
    "Deployment",
    "PodDisruptionBudget",
    "PriorityClass",
    "NetworkPolicy",
    "Service",
    "ConfigMap",
    "RoleBinding",
    "Role",
    "ClusterRoleBinding",
    "ClusterRole",
    "ServiceAccount",
    "Namespace",
    "CustomResourceDefinition",
)


def plan_removal(values: Values, *, crds: bool) -> list[Manifest]:
    """The objects to delete, in order, by apiVersion, kind and name only."""
    kept = () if crds else ("CustomResourceDefinition",)
    found = [manifest for manifest in render(values) if manifest["kind"] not in kept]
    ordered = sorted(found, key=lambda manifest: _ORDER.index(manifest["kind"]))
    return [_bare(manifest) for manifest in ordered]


def _bare(manifest: Manifest) -> Manifest:
    meta = {k: v for k, v in manifest["metadata"].items() if k in ("name", "namespace")}
    return {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": meta}
