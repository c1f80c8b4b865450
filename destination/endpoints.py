"""Services, EndpointSlices and pods -> endpoints with identity, workload and zone; pure.

An endpoint whose pod is not known, is another than its slice names, or is on its way out is
left out: without the pod nobody can say which identity to demand, and dialling a meshed pod
in plaintext is what must never happen. The pod's own event brings the endpoint a moment later.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from destination.facts import Pod, ServiceFacts, ServicePort, SliceEndpoint
from destination.store import Store
from mesh.core import labels
from mesh.core.model import Endpoint
from mesh.core.names import WorkloadId


@dataclass(frozen=True, slots=True)
class Cluster:
    """What names are made of in this cluster."""

    trust_domain: str = labels.TRUST_DOMAIN
    mesh_namespace: str = labels.MESH_NAMESPACE
    cluster_domain: str = labels.CLUSTER_DOMAIN


@dataclass(frozen=True, slots=True)
class Found:
    """The endpoints of one service port: those to use, with the node of each and the zones and
    nodes that it is meant for, and every address behind the port with its target port, ready or
    not."""

    endpoints: tuple[Endpoint, ...]
    nodes: tuple[str, ...]
    behind: dict[str, int]
    for_zones: tuple[tuple[str, ...], ...]
    for_nodes: tuple[tuple[str, ...], ...]


_Candidate = tuple[Endpoint, str, SliceEndpoint]  # with its node


def find_endpoints(
    store: Store, cluster: Cluster, service: ServiceFacts, port: ServicePort
) -> Found:
    """The endpoints of one port of one Service, sorted by address."""
    ready: dict[tuple[str, int], _Candidate] = {}
    last: dict[tuple[str, int], _Candidate] = {}
    behind: dict[str, int] = {}
    pods = store.pods
    for item, number in _addresses(store, service, port):
        behind[item.address] = number
        node, is_leaving = item.node, False
        if item.pod is not None:
            pod = pods.get(item.pod)
            if pod is None or not _is_same_pod(item, pod):
                continue
            node = node or pod.node
            is_leaving = pod.leaving and not service.publish_not_ready
        if item.ready and not is_leaving:
            endpoint = _endpoint(store, cluster, item, number)
            ready[item.address, number] = (endpoint, node, item)
        elif item.serving and (item.leaving or is_leaving):
            endpoint = _endpoint(store, cluster, item, number)
            last[item.address, number] = (endpoint, node, item)
    # With nothing ready, endpoints that still serve while they end beat none (KEP-1669).
    found = ready or last
    chosen = [found[key] for key in sorted(found)]
    return Found(
        endpoints=tuple(endpoint for endpoint, _, _ in chosen),
        nodes=tuple(node for _, node, _ in chosen),
        behind=behind,
        for_zones=tuple(item.for_zones for _, _, item in chosen),
        for_nodes=tuple(item.for_nodes for _, _, item in chosen),
    )


def _endpoint(store: Store, cluster: Cluster, item: SliceEndpoint, number: int) -> Endpoint:
    """The endpoint of a slice's address, made once for as long as its pod stays as it is.

    A slice that somebody wrote by hand names no pod: the one at the address is meant.
    """
    at = store.pod_at(item.address) if item.pod is None else None
    key = item.pod if at is None else at.key
    if key is None:
        return describe(cluster, None, item.address, number, zone=item.zone)
    known = store.described.setdefault(key, {})
    found = known.get((item.address, number, item.zone))
    if found is None:
        pod = store.effective_pod(key)
        found = describe(cluster, pod, item.address, number, zone=item.zone)
        known[item.address, number, item.zone] = found
    return found


def describe(
    cluster: Cluster, pod: Pod | None, address: str, port: int, *, zone: str = ""
) -> Endpoint:
    """One `address:port` as an endpoint; `pod` None means a bare address outside the mesh.

    The pod must have the defaults of its namespace filled in.
    """
    if pod is None:
        return Endpoint(address, port, zone=zone)
    identity = identity_of(cluster, pod, port)
    return Endpoint(
        address=address,
        port=port,
        identity=identity,
        opaque=bool(identity) and is_opaque(pod, port),
        pod=pod.name,
        namespace=pod.namespace,
        workload=pod.workload,
        zone=zone,
    )


def identity_of(cluster: Cluster, pod: Pod, port: int) -> str:
    """The DNS identity to demand on this port of a pod, "" where no proxy of ours answers."""
    if pod.control_namespace != cluster.mesh_namespace or pod.host_network:
        return ""
    if port == labels.ADMIN_PORT:
        return ""  # never redirected
    if pod.skip_inbound is not None and pod.skip_inbound.has(port, pod.port_names.get(port, "")):
        return ""
    workload = WorkloadId(cluster.trust_domain, pod.namespace, pod.service_account)
    return workload.dns(cluster.mesh_namespace)


def is_opaque(pod: Pod, port: int) -> bool:
    """Whether the pod declares this port opaque."""
    return pod.opaque is not None and pod.opaque.has(port, pod.port_names.get(port, ""))


def _addresses(
    store: Store, service: ServiceFacts, port: ServicePort
) -> Iterator[tuple[SliceEndpoint, int]]:
    """Each address behind a port with its target port, of one IP family: the Service's first,
    since both families of a dual-stack Service lead to the same pods."""
    slices = [store.slices[key] for key in sorted(store.slices_of.get(service.key, ()))]
    usable = [part for part in slices if part.family in ("IPv4", "IPv6")]
    families = {part.family for part in usable if part.endpoints}
    family = service.first_family if service.first_family in families else min(families, default="")
    for part in usable:
        number = part.ports.get(port.name)
        if part.family == family and number is not None:
            for item in part.endpoints:
                yield item, number


def _is_same_pod(item: SliceEndpoint, pod: Pod) -> bool:
    if not pod.running or item.address not in pod.ips:
        return False
    return not item.pod_uid or item.pod_uid == pod.uid
