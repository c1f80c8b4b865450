"""What one node is called and which addresses it has: picked free on this machine, then fixed.

Pure over the routes that the machine has. `mesh local` picks its ranges elsewhere (from
10.244.0.0/16 and 10.96.0.0/16 on), and both look at what is taken.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.cache import BuildError, cache_home

DOMAIN: Final = "cluster.local"
API_PORT: Final = 6443
_PAIRS: Final = [(f"10.{n}.0.0/16", f"10.{n + 1}.0.0/16") for n in range(40, 90, 2)]
Network = ipaddress.IPv4Network


@dataclass(frozen=True)
class Plan:
    """The names and addresses of one node. `pods` and `services` are /16 ranges."""

    name: str
    pods: str
    services: str

    @property
    def folder(self) -> Path:
        """All that the node writes."""
        return cache_home() / "nodes" / self.name

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.folder / "kubeconfig"

    @property
    def logs(self) -> Path:
        """One file for each part of the node."""
        return self.folder / "log"

    @property
    def pod_subnet(self) -> str:
        """What this node hands out of the pod range."""
        return f"{Network(self.pods)[0]}/24"

    @property
    def machine(self) -> str:
        """The machine's end of the link, at the end of the pod range."""
        return str(Network(self.pods)[0xFF01])

    @property
    def address(self) -> str:
        """The node's end of the link."""
        return str(Network(self.pods)[0xFF02])

    @property
    def api(self) -> str:
        """The ClusterIP of the API server."""
        return str(Network(self.services)[1])

    @property
    def dns(self) -> str:
        """The ClusterIP of the name server."""
        return str(Network(self.services)[10])

    @property
    def url(self) -> str:
        """The API server as seen from the machine and the node."""
        return f"https://{self.address}:{API_PORT}"

    @property
    def cgroup(self) -> str:
        """The control group of all its processes, in each hierarchy of the machine."""
        return f"lightmesh-{self._short}"

    @property
    def link(self) -> str:
        """The machine's end of the veth pair; at most 15 characters."""
        return f"lmn-{self._short}"

    @property
    def _short(self) -> str:
        return hashlib.sha256(str(self.folder).encode()).hexdigest()[:8]


def pick_plan(name: str, taken: Iterable[str]) -> Plan:
    """The first pair of ranges that no route or address of the machine touches.

    `taken` are networks or addresses as text. Raises BuildError when there is none.
    """
    networks = [Network(text, strict=False) for text in taken]
    for pods, services in _PAIRS:
        wanted = (Network(pods), Network(services))
        if not any(network.overlaps(each) for network in networks for each in wanted):
            return Plan(name, pods, services)
    raise BuildError("no free pair of /16 ranges from 10.40.0.0 to 10.89.0.0: remove some routes")
