"""Definitions of kinds that somebody else has put over ours, or before us: they stay as they are.

Ours of the Gateway API's routes are a stopgap; once the project's own are in a cluster, neither
an upgrade nor a removal of the mesh may touch them.
"""

from __future__ import annotations

from typing import Any, Final

from mesh.core import labels
from mesh.core.errors import ApiError
from mesh.install.gateway_crds import NAMES
from mesh.kube.client import KubeClient

Manifest = dict[str, Any]
_CRDS: Final = "customresourcedefinitions.apiextensions.k8s.io"


async def leave_foreign(client: KubeClient, manifests: list[Manifest]) -> list[Manifest]:
    """The manifests without the Gateway API's definitions that are not ours. Raises ApiError."""
    foreign = {
        name
        for name in sorted({manifest["metadata"]["name"] for manifest in manifests} & set(NAMES))
        if await _is_foreign(client, name)
    }
    return [manifest for manifest in manifests if manifest["metadata"]["name"] not in foreign]


async def _is_foreign(client: KubeClient, name: str) -> bool:
    try:
        found = await client.get(_CRDS, name)
    except ApiError as error:
        if error.code == 404:
            return False
        raise
    marks = found["metadata"].get("labels") or {}
    return bool(marks.get(labels.L_PART_OF) != labels.PART_OF)
