"""What the installer tells the webhook."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mesh.core import labels
from mesh.core.quantity import parse_port
from mesh.runtime.settings import setting


@dataclass(frozen=True)
class Settings:
    """Names and places; what injected pods look like stands in ConfigMap `mesh-config`."""

    mesh_namespace: str = setting(
        "MESH_NAMESPACE", "namespace of the control plane", default=labels.MESH_NAMESPACE
    )
    cluster_domain: str = setting(
        "MESH_CLUSTER_DOMAIN", "DNS suffix of the cluster", default=labels.CLUSTER_DOMAIN
    )
    pod_name: str = setting("MESH_POD_NAME", "name of this pod, for events", default="mesh-inject")
    key_dir: Path = setting(
        "MESH_KEY_DIR",
        "folder in memory for the private key",
        default="/var/run/mesh/keys",
        parse=Path,
    )
    host: str = setting("MESH_INJECT_HOST", "address to listen on; unset: all", default=" ")
    port: int = setting(
        "MESH_INJECT_PORT",
        "port of the webhook",
        default=str(labels.INJECT_PORT),
        parse=parse_port,
    )
    admin_port: int = setting(
        "MESH_ADMIN_PORT",
        "port of /live, /ready and /metrics",
        default=str(labels.CONTROL_ADMIN_PORT),
        parse=parse_port,
    )
    log_level: str = setting("MESH_LOG_LEVEL", "error, warning, info or debug", default="info")
    log_format: str = setting("MESH_LOG_FORMAT", "text or json", default="text")
