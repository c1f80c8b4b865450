"""What the installer tells the injector: one JSON text in ConfigMap `mesh-config`.

Made by `mesh install` from its values, read by the webhook and by `mesh inject --manual`.
Keys that this version does not know are ignored, so that old and new can share a cluster.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

from mesh import __version__
from mesh.core import labels
from mesh.core.errors import ConfigError

KEY: Final = "inject.json"  # in ConfigMap mesh-config
DEFAULT_IMAGE: Final = f"docker.io/lightmesh/mesh:{__version__}"
DEFAULT_CPU: Final = "10m"  # without requests an autoscaler cannot count the pod
DEFAULT_MEMORY: Final = "32Mi"
TOKEN_SECONDS: Final = 3600  # life of a proxy's projected token; the kubelet renews it


@dataclass(frozen=True)
class InjectConfig:
    """The install values that decide what an injected pod looks like.

    `defaults` maps an annotation's name to the text that holds where neither pod nor
    namespace says otherwise; names that are missing take the default of the table.
    """

    namespace: str = labels.MESH_NAMESPACE
    trust_domain: str = labels.TRUST_DOMAIN
    cluster_domain: str = labels.CLUSTER_DOMAIN
    image: str = DEFAULT_IMAGE
    inbound_port: int = labels.INBOUND_PORT
    outbound_port: int = labels.OUTBOUND_PORT
    admin_port: int = labels.ADMIN_PORT
    defaults: Mapping[str, str] = field(
        default_factory=lambda: {
            "mesh/proxy-cpu-request": DEFAULT_CPU,
            "mesh/proxy-memory-request": DEFAULT_MEMORY,
        }
    )

    @property
    def identity_address(self) -> str:
        return self._address(labels.IDENTITY, labels.IDENTITY_PORT)

    @property
    def destination_address(self) -> str:
        return self._address(labels.DESTINATION, labels.DESTINATION_PORT)

    def default_of(self, annotation: labels.Annotation) -> str:
        return self.defaults.get(annotation.name, annotation.default)

    def _address(self, service: str, port: int) -> str:
        return f"{service}.{self.namespace}.svc.{self.cluster_domain}:{port}"


def dump_config(config: InjectConfig) -> str:
    """The same config always gives the same text."""
    return json.dumps(asdict(config), indent=1, sort_keys=True) + "\n"


def load_config(text: str) -> InjectConfig:
    """The inverse of `dump_config`. Raises ConfigError."""
    try:
        given = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{KEY}: expected JSON: {error}; run mesh install again") from error
    if not isinstance(given, dict):
        raise ConfigError(f"{KEY}: expected an object; run mesh install again")
    known: dict[str, Any] = {}
    for item in fields(InjectConfig):
        if item.name not in given:
            continue
        value = given[item.name]
        expected = {"defaults": dict}.get(item.name, int if item.name.endswith("_port") else str)
        if not isinstance(value, expected):
            raise ConfigError(
                f"{KEY}: {item.name}: expected {expected.__name__}, got {value!r}; "
                "run mesh install again"
            )
        known[item.name] = value
    return InjectConfig(**known)
