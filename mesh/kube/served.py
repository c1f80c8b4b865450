"""Routing kinds as a cluster serves them: a CRD may be absent, or of another version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mesh.kube.client import KubeClient
from mesh.kube.resources import Object, Resource, find_resource

SPLITS: Final = (
    find_resource("trafficsplits.split.smi-spec.io"),
    find_resource("linkerdtrafficsplits.linkerd.io"),
)
ROUTES: Final = (
    find_resource("httproutes.gateway.networking.k8s.io"),
    find_resource("grpcroutes.gateway.networking.k8s.io"),
    find_resource("tlsroutes.gateway.networking.k8s.io"),
    find_resource("tcproutes.gateway.networking.k8s.io"),
    find_resource("httproutes.policy.linkerd.io"),
)
ROUTING: Final = (
    find_resource("serviceprofiles.linkerd.io"),
    *SPLITS,
    find_resource("httproutegroups.specs.smi-spec.io"),
    *ROUTES,
    find_resource("udproutes.gateway.networking.k8s.io"),
)


async def list_served(
    client: KubeClient,
    resources: Sequence[Resource],
    namespace: str | None = None,
    *,
    label_selector: str = "",
) -> list[Object]:
    """All objects of those kinds that the cluster knows. Raises ApiError."""
    found: list[Object] = []
    for resource in resources:
        served = await client.discover(resource)
        if served is not None:
            found += await client.list(served, namespace, label_selector=label_selector)
    return found
