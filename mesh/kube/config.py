"""Where the API server is and who we are: kubeconfig files or the pod's service account.

Parsing, TLS and authentication are lightkube's. Here stand what it leaves out: several files
in KUBECONFIG, paths relative to each file, a chosen context, and one clear ConfigError.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml
from lightkube.config.kubeconfig import SERVICE_ACCOUNT, KubeConfig, SingleConfig
from lightkube.config.models import User
from lightkube.core.exceptions import ConfigError as LightkubeConfigError

from mesh.core.errors import ConfigError

_HINT = "set KUBECONFIG or pass --kubeconfig, or run inside a pod with a service account"
_EXEC_V1: Final = "client.authentication.k8s.io/v1"
_PATHS: Final = {
    "clusters": ("cluster", ("certificate-authority",)),
    "users": ("user", ("client-certificate", "client-key", "tokenFile")),
}


@dataclass(frozen=True, slots=True)
class Access:
    """One API server with the credentials to use; made by `find_access`."""

    config: SingleConfig
    in_cluster: bool

    @property
    def server(self) -> str:
        return self.config.cluster.server

    @property
    def namespace(self) -> str:
        """The namespace of the context, or of the pod."""
        return self.config.namespace


def find_access(
    kubeconfig: str | None = None,
    context: str | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    service_account: str = SERVICE_ACCOUNT,
) -> Access:
    """The access to use: `kubeconfig`, else $KUBECONFIG, else the pod's, else ~/.kube/config.

    Raises ConfigError.
    """
    listed = kubeconfig or environ.get("KUBECONFIG", "")
    if not listed and context is None and _is_in_pod(environ, service_account):
        return Access(_pod_config(service_account), in_cluster=True)
    home = Path(environ.get("HOME", "~")).expanduser() / ".kube" / "config"
    files = [Path(p).expanduser() for p in listed.split(os.pathsep) if p] or [home]
    present = [path for path in files if path.is_file()]
    if not present:
        names = ", ".join(str(path) for path in files)
        raise ConfigError(f"kubeconfig: expected a file at {names}, found none; {_HINT}")
    return Access(_pick_context(_merge([_load(path) for path in present]), context), False)


def _is_in_pod(environ: Mapping[str, str], service_account: str) -> bool:
    return "KUBERNETES_SERVICE_HOST" in environ and Path(service_account, "token").is_file()


def _pod_config(service_account: str) -> SingleConfig:
    try:
        config = KubeConfig.from_service_account(service_account).get()
    except (LightkubeConfigError, OSError, KeyError) as error:
        raise ConfigError(f"service account in {service_account}: {error}; {_HINT}") from error
    assert config is not None
    return config


def _load(path: Path) -> dict[str, Any]:
    """One kubeconfig file with its paths made absolute."""
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"kubeconfig {path}: cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"kubeconfig {path}: expected a mapping with clusters, got another thing")
    for section, (entry, keys) in _PATHS.items():
        for item in document.get(section) or []:
            body = item.get(entry) if isinstance(item, dict) else None
            if not isinstance(body, dict):
                continue
            if isinstance(body.get("exec"), dict):
                _prepare_plugin(body["exec"])
            for key in keys:
                if body.get(key):
                    body[key] = str(path.parent / body[key])
    return document


def _prepare_plugin(plugin: dict[str, Any]) -> None:
    """Tell an exec plugin which version to answer in (KEP-541). lightkube reads the answer of
    v1 as it does v1beta1's, which has the same form, but refuses its name."""
    version = str(plugin.get("apiVersion"))
    info = {"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": False}}
    variable = {"name": "KUBERNETES_EXEC_INFO", "value": msgspec.json.encode(info).decode()}
    plugin["env"] = [variable, *(plugin.get("env") or [])]
    if version == _EXEC_V1:
        plugin["apiVersion"] = f"{_EXEC_V1}beta1"


def _merge(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """Several files as one, by kubectl's rule: the first to define a name wins."""
    merged: dict[str, Any] = {"clusters": [], "contexts": [], "users": []}
    for document in documents:
        if document.get("current-context"):
            merged.setdefault("current-context", document["current-context"])
        for section in ("clusters", "contexts", "users"):
            seen = {item["name"] for item in merged[section]}
            for item in document.get(section) or []:
                if isinstance(item, dict) and item.get("name") not in seen:
                    merged[section].append(item)
    return merged


def _pick_context(document: dict[str, Any], context: str | None) -> SingleConfig:
    try:
        config = KubeConfig.from_dict(document).get(context)
    except KeyError as error:
        raise ConfigError(f"kubeconfig: expected an entry named {error}, found none") from error
    except (LightkubeConfigError, msgspec.ValidationError, TypeError) as error:
        raise ConfigError(f"kubeconfig: {error}; {_HINT}") from error
    assert config is not None
    return config._replace(user=config.user or User())
