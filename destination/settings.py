"""What the installer tells destination."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.core import labels
from mesh.core.quantity import parse_port
from mesh.runtime.credentials import TrustSettings
from mesh.runtime.logs import LEVELS
from mesh.runtime.settings import setting


def _level(text: str) -> str:
    if text not in LEVELS:
        raise ValueError(f'expected one of {", ".join(LEVELS)}, got "{text}"')
    return text


def _form(text: str) -> str:
    if text not in ("text", "json"):
        raise ValueError(f'expected text or json, got "{text}"')
    return text


@dataclass(frozen=True)
class Settings(TrustSettings):
    """Everything that one replica is told at start."""

    pod_name: str = setting("MESH_POD_NAME", "name of this pod")
    cluster_domain: str = setting(
        "MESH_CLUSTER_DOMAIN", "DNS suffix of the cluster", default=labels.CLUSTER_DOMAIN
    )
    host: str = setting(
        "MESH_DESTINATION_HOST", "address to listen on; empty: all", default=" ", parse=str.strip
    )
    port: int = setting(
        "MESH_DESTINATION_PORT",
        "port of the streams",
        default=str(labels.DESTINATION_PORT),
        parse=parse_port,
    )
    admin_port: int = setting(
        "MESH_ADMIN_PORT",
        "port of /live, /ready, /metrics and of what mesh stat reads",
        default=str(labels.CONTROL_ADMIN_PORT),
        parse=parse_port,
    )
    log_level: str = setting(
        "MESH_LOG_LEVEL", "error, warning, info or debug", default="info", parse=_level
    )
    log_format: str = setting("MESH_LOG_FORMAT", "text or json", default="text", parse=_form)
