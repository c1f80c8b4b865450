"""The parts of the control plane, once: what each runs, listens on and is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from destination.settings import Settings as DestinationSettings
from identity.settings import Settings as IdentitySettings
from mesh.core import labels
from mesh.inject.settings import Settings as InjectSettings
from mesh.install.values import Role, Values


@dataclass(frozen=True)
class Part:
    """One Deployment with its Service and service account, all called `name`."""

    name: str
    role: str  # name of the container, and of the part in the values
    module: str  # started as python -m MODULE
    port_name: str
    port: int
    settings: type[Any]  # what it reads from its environment

    @property
    def selector(self) -> dict[str, str]:
        """What selects its pods."""
        return {labels.L_COMPONENT: self.role}

    def sizing(self, values: Values) -> Role:
        sizing = getattr(values, self.role)
        assert isinstance(sizing, Role)
        return sizing


IDENTITY: Final = Part(
    labels.IDENTITY, "identity", "identity", "https", labels.IDENTITY_PORT, IdentitySettings
)
DESTINATION: Final = Part(
    labels.DESTINATION,
    "destination",
    "destination",
    "stream",
    labels.DESTINATION_PORT,
    DestinationSettings,
)
INJECT: Final = Part(
    labels.INJECT, "inject", "mesh.inject", "https", labels.INJECT_PORT, InjectSettings
)
PARTS: Final = (IDENTITY, DESTINATION, INJECT)
