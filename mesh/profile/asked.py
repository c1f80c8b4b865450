"""The shell of `mesh profile --observed`: what proxies have seen of requests to one Service.

Those of the pods behind the Service know best. Where none of them has seen any, clients' proxies
are asked what they sent there: a Service of pods without a proxy, or of names outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from mesh.core import labels
from mesh.core.errors import ApiError, MeshError
from mesh.core.names import service_fqdn
from mesh.kube.asking import ask_proxies
from mesh.kube.client import KubeClient
from mesh.kube.resources import Object

_SLICE_OF: Final = "kubernetes.io/service-name"


async def find_observed(
    client: KubeClient,
    mesh_namespace: str,
    service: str,
    namespace: str,
    *,
    window: float,
    cluster_domain: str = labels.CLUSTER_DOMAIN,
    port_forward: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """The kinds of requests of the last `window` seconds: method, path, count. Raises MeshError
    when the Service is not there, nobody can be asked, or nobody has seen a request."""
    try:
        found = await client.get("services", service, namespace)
        slices = await client.list(
            "endpointslices.discovery.k8s.io", namespace, label_selector=f"{_SLICE_OF}={service}"
        )
    except ApiError as error:
        raise MeshError(f"Service {namespace}/{service}: {error.message}") from error
    pods, ports = _behind(slices)

    async def ask(places: Sequence[str], home: str) -> list[tuple[str, dict[str, Any]]]:
        query = {"places": ",".join(places), "window": repr(window)}
        told = await ask_proxies(
            client,
            mesh_namespace,
            "observed",
            query,
            namespace=home,
            port_forward=port_forward,
        )
        return [(one.pod, kind) for one in told for kind in one.body.get("kinds", ())]

    kinds = [kind for pod, kind in await ask(ports, namespace) if pod in pods] if pods else []
    if not kinds:
        fqdn = service_fqdn(service, namespace, cluster_domain)
        authorities = [f"{fqdn}:{port['port']}" for port in found["spec"].get("ports") or ()]
        kinds = [kind for _, kind in await ask(authorities, "")]
    if not kinds:
        raise MeshError(
            f"no proxy has seen a request to {namespace}/{service} in the last {window:g} s; "
            "a longer --window may help, and `mesh check` says whether its pods are meshed"
        )
    return kinds


def _behind(slices: Sequence[Object]) -> tuple[set[str], list[str]]:
    """The pods behind a Service, and the ports that they serve it on."""
    pods, ports = set(), set()
    for piece in slices:
        ports |= {str(port["port"]) for port in piece.get("ports") or () if port.get("port")}
        for endpoint in piece.get("endpoints") or ():
            target = endpoint.get("targetRef") or {}
            if target.get("kind") == "Pod":
                pods.add(str(target["name"]))
    return pods, sorted(ports)
