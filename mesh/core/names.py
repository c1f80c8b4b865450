"""Identities, authorities and Service DNS names: parse and print. Pure text, no look-ups."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mesh.core import labels

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NAMED_PORT = re.compile(r"[a-z0-9.-]{3,250}:[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class WorkloadId:
    """Who a workload is: the triple that peers and policies compare."""

    trust_domain: str
    namespace: str
    service_account: str

    def dns(self, mesh_namespace: str = labels.MESH_NAMESPACE) -> str:
        """`<sa>.<ns>.serviceaccount.identity.<mesh ns>.<trust domain>`: DNS SAN and SNI."""
        return (
            f"{self.service_account}.{self.namespace}.serviceaccount.identity."
            f"{mesh_namespace}.{self.trust_domain}"
        )

    def uri(self) -> str:
        """`spiffe://<trust domain>/ns/<ns>/sa/<sa>`: the URI SAN (SPIFFE ID §2)."""
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"


def parse_identity_uri(uri: str) -> WorkloadId | None:
    """The workload that a SPIFFE URI names, or None when it has another form."""
    match = re.fullmatch(r"spiffe://([^/]+)/ns/([^/]+)/sa/([^/]+)", uri)
    return WorkloadId(match[1], match[2], match[3]) if match else None


def parse_identity_dns(name: str) -> WorkloadId | None:
    """The workload that a DNS identity names, or None. Service accounts may contain dots."""
    # The last marker counts: a service account may itself contain the text of one.
    head, mark, tail = name.rpartition(".serviceaccount.identity.")
    account, dot, namespace = head.rpartition(".")
    _, dot2, trust_domain = tail.partition(".")
    if not (mark and dot and dot2 and account and namespace and trust_domain):
        return None
    return WorkloadId(trust_domain, namespace, account)


def is_dns_label(text: str) -> bool:
    """Whether `text` is a DNS label (RFC 1123 §2.1), as names of namespaces and Services are."""
    return _LABEL.fullmatch(text) is not None


def service_fqdn(name: str, namespace: str, cluster_domain: str = labels.CLUSTER_DOMAIN) -> str:
    """`name.namespace.svc.<cluster domain>`."""
    return f"{name}.{namespace}.svc.{cluster_domain}"


def service_authority(
    name: str, namespace: str, port: int, cluster_domain: str = labels.CLUSTER_DOMAIN
) -> str:
    """`name.namespace.svc.<cluster domain>:port`: the key of one port of one Service."""
    return f"{name}.{namespace}.svc.{cluster_domain}:{port}"


def split_authority(authority: str) -> tuple[str, int | None]:
    """Split `host:port` or `[v6]:port`; the port is None when absent or not a number."""
    if authority.startswith("["):
        host, bracket, rest = authority[1:].partition("]")
        port = rest[1:] if bracket and rest.startswith(":") else ""
    else:
        host, colon, port = authority.rpartition(":")
        if not colon or ":" in host:
            host, port = authority, ""
    return host, int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else None


def join_address(host: str, port: int) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def names_a_port(text: str) -> bool:
    """Whether `text` reads as `name:port`, as a field of ingress controllers has it."""
    return _NAMED_PORT.fullmatch(text) is not None
