"""The containers and volumes that injection adds, as data.

The proxy runs without any privilege under its own uid; init is root with exactly the two
capabilities that netfilter asks for, and ends before the application starts. Nothing of the
application's own containers is shared with either but the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mesh.core import labels
from mesh.inject.annotations import Resolved
from mesh.inject.config import TOKEN_SECONDS, InjectConfig
from mesh.inject.environ import (
    KEY_FOLDER,
    STATE_FOLDER,
    TOKEN_FOLDER,
    init_environment,
    proxy_environment,
)

KEYS: Final = "mesh-proxy-keys"
STATE: Final = "mesh-proxy-state"
RUN: Final = "mesh-init-run"
TOKEN: Final = "mesh-proxy-token"
VOLUMES: Final = (KEYS, STATE, RUN, TOKEN)

START_SECONDS: Final = 120  # a proxy that is not ready by then is started anew
Container = dict[str, Any]


def proxy_container(
    pod: Mapping[str, Any], config: InjectConfig, chosen: Resolved, *, bundle: str, native: bool
) -> Container:
    """The proxy; `native` makes it an init container that the kubelet keeps running."""
    container: Container = {
        "name": labels.PROXY_CONTAINER,
        "image": _image(config, chosen),
        "imagePullPolicy": chosen["mesh/image-pull-policy"],
        "command": ["python", "-m", "proxy"],
        "env": proxy_environment(pod, config, chosen, bundle=bundle, native=native),
        "ports": [
            {"name": "mesh-inbound", "containerPort": config.inbound_port, "protocol": "TCP"},
            {"name": "mesh-admin", "containerPort": config.admin_port, "protocol": "TCP"},
        ],
        "livenessProbe": _probe("/live", config, initial=10, period=10, failures=3),
        "readinessProbe": _probe("/ready", config, initial=0, period=2, failures=3),
        "resources": resources(chosen),
        "securityContext": unprivileged(labels.PROXY_UID),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": KEYS, "mountPath": KEY_FOLDER},
            {"name": STATE, "mountPath": STATE_FOLDER},
            {"name": TOKEN, "mountPath": TOKEN_FOLDER, "readOnly": True},
        ],
    }
    if native:
        container["restartPolicy"] = "Always"
        container["startupProbe"] = _probe(
            "/ready", config, initial=0, period=1, failures=START_SECONDS
        )
    elif chosen["mesh/proxy-await"] == "enabled":
        wait = ["python", "-m", "proxy.wait", str(config.admin_port)]
        container["lifecycle"] = {"postStart": {"exec": {"command": wait}}}
    return container


def init_container(config: InjectConfig, chosen: Resolved) -> Container:
    """The container that programs the redirect, proves it and ends."""
    return {
        "name": labels.INIT_CONTAINER,
        "image": _image(config, chosen),
        "imagePullPolicy": chosen["mesh/image-pull-policy"],
        "command": ["python", "-m", "init"],
        "env": init_environment(config, chosen),
        "resources": resources(chosen),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            "runAsUser": 0,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": RUN, "mountPath": "/run"}],
    }


def volumes() -> list[dict[str, Any]]:
    """Keys never touch a disk; the state (newest bundle) outlives a restart of the container."""
    token = {
        "audience": labels.IDENTITY_AUDIENCE,
        "expirationSeconds": TOKEN_SECONDS,
        "path": "token",
    }
    return [
        {"name": KEYS, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": STATE, "emptyDir": {"sizeLimit": "8Mi"}},
        {"name": RUN, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": TOKEN, "projected": {"sources": [{"serviceAccountToken": token}]}},
    ]


def resources(chosen: Resolved) -> dict[str, dict[str, str]]:
    """Requests and limits from the annotations; what is unset stays unset."""
    found: dict[str, dict[str, str]] = {}
    for section, word in (("requests", "request"), ("limits", "limit")):
        for kind in ("cpu", "memory"):
            text = chosen[f"mesh/proxy-{kind}-{word}"]
            if text:
                found.setdefault(section, {})[kind] = text
    return found


def unprivileged(uid: int) -> dict[str, Any]:
    """The security context of all our long-running containers."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsGroup": uid,
        "runAsNonRoot": True,
        "runAsUser": uid,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _image(config: InjectConfig, chosen: Resolved) -> str:
    return chosen["mesh/proxy-image"] or config.image


def _probe(
    path: str, config: InjectConfig, *, initial: int, period: int, failures: int
) -> dict[str, Any]:
    probe = {
        "httpGet": {"path": path, "port": config.admin_port, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }
    return probe | {"initialDelaySeconds": initial} if initial else probe
