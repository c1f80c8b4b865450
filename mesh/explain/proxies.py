"""Proxies asked through destination by a command, which is not async itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesh.kube.asking import Told
    from mesh.kube.cli_options import ClusterChoice


def ask(
    choice: ClusterChoice,
    what: str,
    query: dict[str, str],
    *,
    namespace: str = "",
    pod: str = "",
    most: int = 0,
) -> list[Told]:
    """Ask proxies something. Raises MeshError."""
    import anyio

    from mesh.kube.asking import ask_proxies
    from mesh.kube.client import KubeClient
    from mesh.kube.config import find_access

    async def collect() -> list[Told]:
        async with KubeClient(find_access(choice.kubeconfig, choice.context)) as client:
            return await ask_proxies(
                client,
                choice.mesh_namespace,
                what,
                query,
                namespace=namespace,
                pod=pod,
                most=most,
                port_forward=choice.kubectl_options(),
            )

    return anyio.run(collect)
