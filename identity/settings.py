"""What the installer tells identity."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mesh.core import labels
from mesh.core.names import WorkloadId
from mesh.core.quantity import parse_duration, parse_port
from mesh.runtime.logs import LEVELS
from mesh.runtime.settings import setting
from mesh.runtime.tls import is_dns_name

_SHORTEST_LEAF = 60.0
_LONGEST_LEAF = 86_400.0


def _lifetime(text: str) -> float:
    seconds = parse_duration(text)
    if not _SHORTEST_LEAF <= seconds <= _LONGEST_LEAF:
        raise ValueError(f'expected a duration from 1m to 24h, got "{text}"')
    return seconds


def _domain(text: str) -> str:
    if not is_dns_name(text):
        raise ValueError(f'expected a DNS name in lower case, got "{text[:100]}"')
    return text


def _level(text: str) -> str:
    if text not in LEVELS:
        raise ValueError(f'expected one of {", ".join(LEVELS)}, got "{text}"')
    return text


def _form(text: str) -> str:
    if text not in ("text", "json"):
        raise ValueError(f'expected text or json, got "{text}"')
    return text


@dataclass(frozen=True)
class Settings:
    """Names, places and the life of a leaf; who may get one is not configurable."""

    mesh_namespace: str = setting(
        "MESH_NAMESPACE", "namespace of the control plane", default=labels.MESH_NAMESPACE
    )
    trust_domain: str = setting(
        "MESH_TRUST_DOMAIN",
        "trust domain of all identities",
        default=labels.TRUST_DOMAIN,
        parse=_domain,
    )
    leaf_lifetime: float = setting(
        "MESH_IDENTITY_LEAF_LIFETIME",
        "life of a workload's certificate, 1m to 24h",
        default="24h",
        parse=_lifetime,
    )
    issuer_dir: str = setting(
        "MESH_IDENTITY_ISSUER_DIR",
        "folder with tls.crt, tls.key and ca.crt of a brought issuer; unset: Secrets",
        default="",
    )
    pod_name: str = setting(
        "MESH_POD_NAME", "name of this pod, for events", default=labels.IDENTITY
    )
    key_dir: Path = setting(
        "MESH_KEY_DIR",
        "folder in memory for the private key",
        default="/var/run/mesh/keys",
        parse=Path,
    )
    state_dir: Path = setting(
        "MESH_STATE_DIR",
        "folder on disk for the trust bundle",
        default="/var/run/mesh/state",
        parse=Path,
    )
    host: str = setting("MESH_IDENTITY_HOST", "address to listen on; unset: all", default="")
    port: int = setting(
        "MESH_IDENTITY_PORT",
        "port for certificate requests",
        default=str(labels.IDENTITY_PORT),
        parse=parse_port,
    )
    admin_port: int = setting(
        "MESH_ADMIN_PORT",
        "port of /live, /ready and /metrics",
        default=str(labels.CONTROL_ADMIN_PORT),
        parse=parse_port,
    )
    log_level: str = setting(
        "MESH_LOG_LEVEL", "error, warning, info or debug", default="info", parse=_level
    )
    log_format: str = setting("MESH_LOG_FORMAT", "text or json", default="text", parse=_form)

    @property
    def workload(self) -> WorkloadId:
        """Whom identity's own leaf names."""
        return WorkloadId(self.trust_domain, self.mesh_namespace, labels.IDENTITY)
