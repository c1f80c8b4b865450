"""Whether a proxy is who its hello says: certificate, pod and peer address must agree; pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from destination.facts import Key, Pod
from mesh.core.names import WorkloadId
from mesh.core.wire import Hello


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a stream is closed: a fixed word and a sentence. `stale` says that our knowledge of
    the pod may be behind, so that asking the API may change the answer."""

    reason: str
    message: str
    stale: bool = False


def check_certificate(hello: Hello, peer: WorkloadId | None, trust_domain: str) -> Refused | None:
    """What can be said before looking at the pod."""
    if peer is None:
        return Refused("no-identity", "expected a certificate of a workload, got none")
    if peer.trust_domain != trust_domain:
        return Refused("wrong-trust-domain", f"expected {trust_domain}, got {peer.trust_domain}")
    if peer.namespace != hello.namespace:
        return Refused(
            "wrong-namespace", f"a certificate of namespace {peer.namespace} speaks only for it"
        )
    return None


def check_pod(hello: Hello, peer: WorkloadId, address: str, pod: Pod | None) -> Refused | None:
    """Whether the pod exists, runs as the certificate's account and has the peer's address.

    A pod that has no address yet is let in: the kubelet reports it up to seconds after the
    sidecar's start, and certificate and uid already tie the peer to this pod's account.
    """
    key: Key = (hello.namespace, hello.pod)
    name = f"{key[0]}/{key[1]}"
    if pod is None:
        return Refused("no-such-pod", f"there is no pod {name}", stale=True)
    if pod.uid != hello.uid:
        return Refused("wrong-uid", f"pod {name} is another one by now", stale=True)
    if pod.service_account != peer.service_account:
        return Refused("wrong-account", f"pod {name} does not run as {peer.service_account}")
    if pod.ips and plain_address(address) not in map(plain_address, pod.ips):
        return Refused("wrong-address", f"{address} is not an address of pod {name}", stale=True)
    return None


def plain_address(address: str) -> str:
    """An address in one spelling: IPv4 inside IPv6 as IPv4, without a zone."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)
