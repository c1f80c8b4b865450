"""The environment of the two containers: one entry per setting that is not at its default.

Names come from the settings classes of `proxy` and `init`, so a setting that is renamed there
is renamed here. What only the kubelet knows (name, uid, addresses) is a field reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from init.settings import Settings as InitSettings
from mesh.inject.annotations import Resolved
from mesh.inject.config import InjectConfig
from mesh.inject.probes import PROBES, resolve_port
from mesh.runtime.settings import variable_of
from proxy.settings import Settings as ProxySettings

TOKEN_FOLDER: Final = "/var/run/secrets/mesh"
KEY_FOLDER: Final = "/var/run/mesh/keys"
STATE_FOLDER: Final = "/var/run/mesh/state"
GRACE_DEFAULT: Final = 30  # seconds, Kubernetes' default grace period
GRACE_MARGIN: Final = 2  # seconds that are left when the proxy stops hard
_GRPC_HEALTH: Final = "/grpc.health.v1.Health/Check"

EnvVar = dict[str, Any]

FIELDS: Final = {  # field of the proxy's settings -> downward API
    "pod_name": "metadata.name",
    "pod_namespace": "metadata.namespace",
    "pod_uid": "metadata.uid",
    "pod_ips": "status.podIPs",
    "node_name": "spec.nodeName",
    "service_account": "spec.serviceAccountName",
}


def proxy_environment(
    pod: Mapping[str, Any], config: InjectConfig, chosen: Resolved, *, bundle: str, native: bool
) -> list[EnvVar]:
    """All variables of the proxy container, in a fixed order."""
    texts = {
        "mesh_namespace": config.namespace,
        "trust_domain": config.trust_domain,
        "cluster_domain": config.cluster_domain,
        "trust_bundle": bundle,
        "identity_address": config.identity_address,
        "destination_address": config.destination_address,
        "token_file": f"{TOKEN_FOLDER}/token",
        "key_dir": KEY_FOLDER,
        "state_dir": STATE_FOLDER,
        "outbound_port": str(config.outbound_port),
        "inbound_port": str(config.inbound_port),
        "admin_port": str(config.admin_port),
        "opaque_ports": chosen["mesh/opaque-ports"],
        "require_tls": chosen["mesh/require-tls"],
        "probes": ",".join(_probe_paths(pod)),
        "connect_timeout": chosen["mesh/connect-timeout"],
        "drain_timeout": chosen["mesh/drain-timeout"] or _drain_timeout(pod),
        "native_sidecar": "enabled" if native else "disabled",
        "log_level": chosen["mesh/proxy-log-level"],
        "log_format": chosen["mesh/proxy-log-format"],
        "access_log": chosen["mesh/access-log"],
        "workers": chosen["mesh/proxy-workers"],
    }
    if chosen.is_ingress:
        texts["ingress"] = "enabled"
    return [*downward(ProxySettings, FIELDS), *_plain(ProxySettings, texts)]


def init_environment(config: InjectConfig, chosen: Resolved) -> list[EnvVar]:
    """All variables of the init container, in a fixed order."""
    texts = {
        "inbound_port": str(config.inbound_port),
        "outbound_port": str(config.outbound_port),
        "admin_port": str(config.admin_port),
        "skip_inbound_ports": chosen["mesh/skip-inbound-ports"],
        "skip_outbound_ports": chosen["mesh/skip-outbound-ports"],
        "skip_subnets": chosen["mesh/skip-subnets"],
        "mode": chosen["mesh/redirect-mode"],
        "log_level": chosen["mesh/proxy-log-level"],
        "log_format": chosen["mesh/proxy-log-format"],
    }
    return _plain(InitSettings, texts)


def downward(settings: type[Any], paths: Mapping[str, str]) -> list[EnvVar]:
    """Variables that the kubelet fills in: settings field -> path of the downward API."""
    return [
        {
            "name": variable_of(settings, field),
            "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}},
        }
        for field, path in paths.items()
    ]


def _plain(settings: type[Any], texts: Mapping[str, str]) -> list[EnvVar]:
    """Empty texts are left out: the setting's own default holds."""
    return [
        {"name": variable_of(settings, field), "value": text}
        for field, text in texts.items()
        if text
    ]


def _drain_timeout(pod: Mapping[str, Any]) -> str:
    """Two seconds before the kubelet kills: the pod's grace period decides."""
    grace = (pod.get("spec") or {}).get("terminationGracePeriodSeconds")
    seconds = grace if isinstance(grace, int) else GRACE_DEFAULT
    return f"{max(1, seconds - GRACE_MARGIN)}s"


def _probe_paths(pod: Mapping[str, Any]) -> Iterable[str]:
    """`port/path` of every HTTP and gRPC probe: the kubelet has no certificate to show."""
    found: dict[str, None] = {}
    for container in (pod.get("spec") or {}).get("containers") or []:
        for name in PROBES:
            probe = container.get(name) or {}
            get, grpc = probe.get("httpGet"), probe.get("grpc")
            if get and not get.get("host"):
                path = str(get.get("path") or "/").partition("?")[0]
                port = resolve_port(container, get.get("port"))
            elif grpc:
                path, port = _GRPC_HEALTH, resolve_port(container, grpc.get("port"))
            else:
                continue
            if port and path.startswith("/") and "," not in path:
                found[f"{port}{path}"] = None
    return found
