"""What the injector tells one proxy: every variable, with its type, default and a sentence.

The injector imports these fields to know which variables to write. Nothing here can weaken
the security of a running proxy: there is no switch that turns verification off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from mesh.core import labels, quantity
from mesh.runtime.settings import setting

MOST_WORKERS: Final = 64
PortRanges = tuple[tuple[int, int], ...]


def _addresses(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text in allowed:
            return text
        raise ValueError(f'expected one of {", ".join(allowed)}, got "{text}"')

    return parse


def _host_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not (host and colon):
        raise ValueError(f'expected host:port, got "{text}"')
    return host.strip("[]"), quantity.parse_port(port)


def _bundle(text: str) -> str:
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise ValueError("expected the trust anchors as PEM text, got no certificate")
    return text


def _probes(text: str) -> frozenset[tuple[int, str]]:
    """`8080/healthz,8080/ready`: pairs of port and path."""
    found = set()
    for item in _addresses(text):
        port, slash, path = item.partition("/")
        if not slash:
            raise ValueError(f'expected port/path, got "{item}"')
        found.add((quantity.parse_port(port), "/" + path))
    return frozenset(found)


def parse_workers(text: str) -> int:
    """How many workers: a number from 1 to 64."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_WORKERS):
        raise ValueError(f'expected a number from 1 to {MOST_WORKERS}, got "{text}"')
    return int(text)


@dataclass(frozen=True)
class Settings:
    """Everything a proxy is told at start."""

    pod_name: str = setting("MESH_POD_NAME", "name of this pod")
    pod_namespace: str = setting("MESH_POD_NAMESPACE", "namespace of this pod")
    pod_uid: str = setting("MESH_POD_UID", "uid of this pod")
    pod_ips: Any = setting(  # tuple[str, ...]
        "MESH_POD_IPS", "addresses of this pod, comma-separated", parse=_addresses
    )
    node_name: str = setting("MESH_NODE_NAME", "node that this pod runs on", default="-")
    service_account: str = setting("MESH_SERVICE_ACCOUNT", "service account of this pod")
    mesh_namespace: str = setting(
        "MESH_NAMESPACE", "namespace of the control plane", default=labels.MESH_NAMESPACE
    )
    trust_domain: str = setting(
        "MESH_TRUST_DOMAIN", "trust domain of identities", default=labels.TRUST_DOMAIN
    )
    cluster_domain: str = setting(
        "MESH_CLUSTER_DOMAIN", "DNS suffix of the cluster", default=labels.CLUSTER_DOMAIN
    )
    trust_bundle: str = setting("MESH_TRUST_BUNDLE", "trust anchors, PEM", parse=_bundle)
    identity_address: Any = setting(  # tuple[str, int]
        "MESH_IDENTITY_ADDRESS", "host:port of identity", parse=_host_port
    )
    destination_address: Any = setting(  # tuple[str, int]
        "MESH_DESTINATION_ADDRESS", "host:port of destination", parse=_host_port
    )
    token_file: str = setting(
        "MESH_TOKEN_FILE", "projected token for identity", default="/var/run/secrets/mesh/token"
    )
    key_dir: str = setting(
        "MESH_KEY_DIR", "folder in memory for the private key", default="/var/run/mesh/keys"
    )
    state_dir: str = setting(
        "MESH_STATE_DIR", "folder on disk for the newest bundle", default="/var/run/mesh/state"
    )
    outbound_port: int = setting(
        "MESH_PROXY_OUTBOUND_PORT",
        "loopback port that outbound connections are redirected to",
        default=str(labels.OUTBOUND_PORT),
        parse=quantity.parse_port,
    )
    inbound_port: int = setting(
        "MESH_PROXY_INBOUND_PORT",
        "port that inbound connections are redirected to",
        default=str(labels.INBOUND_PORT),
        parse=quantity.parse_port,
    )
    admin_port: int = setting(
        "MESH_PROXY_ADMIN_PORT",
        "port of /live, /ready, /metrics and /probe",
        default=str(labels.ADMIN_PORT),
        parse=quantity.parse_port,
    )
    opaque_ports: PortRanges = setting(
        "MESH_PROXY_OPAQUE_PORTS",
        "ports of this pod that are forwarded without parsing",
        default=" ",
        parse=quantity.parse_ports,
    )
    require_tls: bool = setting(
        "MESH_PROXY_REQUIRE_TLS",
        "enabled or disabled: refuse what cannot have mutual TLS, both directions",
        default="disabled",
        parse=quantity.parse_switch,
    )
    ingress: bool = setting(
        "MESH_PROXY_INGRESS",
        "enabled or disabled: requests choose their Service by l5d-dst-override",
        default="disabled",
        parse=quantity.parse_switch,
    )
    probes: frozenset[tuple[int, str]] = setting(
        "MESH_PROXY_PROBES",
        "port/path of the kubelet's HTTP probes, let in without TLS even where it is required",
        default=" ",
        parse=_probes,
    )
    connect_timeout: float = setting(
        "MESH_PROXY_CONNECT_TIMEOUT",
        "longest TCP and TLS connect to one endpoint",
        default="1s",
        parse=quantity.parse_duration,
    )
    drain_timeout: float = setting(
        "MESH_PROXY_DRAIN_TIMEOUT",
        "hard stop after SIGTERM",
        default="28s",
        parse=quantity.parse_duration,
    )
    workers: int = setting(
        "MESH_PROXY_WORKERS",
        "processes that serve traffic, 1 to 64",
        default="1",
        parse=parse_workers,
        flag="--workers",
    )
    native_sidecar: bool = setting(
        "MESH_PROXY_NATIVE_SIDECAR",
        "enabled when the kubelet stops the proxy only after the application has ended",
        default="disabled",
        parse=quantity.parse_switch,
    )
    log_level: str = setting(
        "MESH_PROXY_LOG_LEVEL",
        "error, warning, info or debug",
        default="info",
        parse=_choice("error", "warning", "info", "debug"),
    )
    log_format: str = setting(
        "MESH_PROXY_LOG_FORMAT",
        "text or json",
        default="text",
        parse=_choice("text", "json", "plain"),
    )
    access_log: str = setting(
        "MESH_PROXY_ACCESS_LOG",
        "one line per request: off, text or json",
        default="off",
        parse=_choice("off", "text", "json", "apache"),
    )
