"""What `mesh uninstall` asks of the cluster before it prints."""

from __future__ import annotations

from typing import Any

from mesh.core import labels
from mesh.core.errors import ApiError, ConfigError, MeshError
from mesh.inject.yamltext import load_one
from mesh.install.foreign import leave_foreign
from mesh.install.removal import plan_removal
from mesh.install.render import VALUES_KEY, Manifest
from mesh.install.values import Values, build_values
from mesh.kube.client import KubeClient


async def find_meshed(client: KubeClient, namespace: str) -> list[str]:
    """`namespace/name` of each pod that carries a proxy of the mesh in `namespace`, sorted."""
    selector = f"{labels.L_CONTROL_NAMESPACE}={namespace}"
    pods = await client.list("pods", label_selector=selector)
    done = ("Succeeded", "Failed")
    return sorted(
        f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        for pod in pods
        if (pod.get("status") or {}).get("phase") not in done
    )


async def read_installed(client: KubeClient, namespace: str) -> Values | None:
    """The values of the mesh in `namespace`, or None when there is none. Raises ApiError."""
    try:
        config = await client.get("configmaps", labels.CONFIG_MAP, namespace)
    except ApiError as error:
        if error.code == 404:
            return None
        raise
    try:
        tree: Any = load_one(str((config.get("data") or {}).get(VALUES_KEY) or ""))
        return build_values({"namespace": namespace}, tree if isinstance(tree, dict) else {})
    except (ValueError, ConfigError):
        return build_values({"namespace": namespace})  # of a version that knew other values


class MeshedPodsError(MeshError):
    """Pods still have a proxy, which would lose its control plane."""

    def __init__(self, pods: list[str]) -> None:
        shown = "".join(f"\n  {name}" for name in pods[:20])
        more = f"\n  and {len(pods) - 20} more" if len(pods) > 20 else ""
        count = "a pod still has" if len(pods) == 1 else f"{len(pods)} pods still have"
        super().__init__(
            f"{count} a proxy of this mesh:{shown}{more}\n"
            "switch injection off and restart them, or uninstall with --force"
        )


async def plan_for_cluster(
    client: KubeClient, namespace: str, *, crds: bool, force: bool
) -> list[Manifest]:
    """The removal of what is installed. Raises MeshedPodsError, ConfigError, ApiError."""
    values = await read_installed(client, namespace)
    if values is None and not force:
        raise ConfigError(
            f"no mesh in namespace {namespace} (no ConfigMap {labels.CONFIG_MAP}); "
            "name its namespace with --mesh-namespace, or print the objects anyway with --force"
        )
    meshed = await find_meshed(client, namespace)
    if meshed and not force:
        raise MeshedPodsError(meshed)
    planned = plan_removal(values or build_values({"namespace": namespace}), crds=crds)
    return await leave_foreign(client, planned)
