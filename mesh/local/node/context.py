"""What the parts of the node share: names, folders, ranges, and the way to the API."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesh.core import labels
from mesh.local.api.server import Api
from mesh.local.node.events import Recorder
from mesh.local.node.ranges import Addresses, Ranges
from mesh.local.node.rootfs import Mount, Python
from mesh.local.node.spawn import Spawner

Object = dict[str, Any]
NODE_NAME = "mesh-local"

IssueToken = Callable[[Object, str, int], Awaitable[str]]
"""(pod, audience or "", seconds) -> a service-account token bound to that pod."""


@dataclass(frozen=True, slots=True)
class Node:
    """The one node of the cluster, as its kubelet and its network see it."""

    api: Api
    spawner: Spawner
    recorder: Recorder
    issue_token: IssueToken
    ranges: Ranges
    pod_addresses: Addresses
    pod_addresses6: Addresses | None
    python: Python
    mounts: tuple[Mount, ...]
    run: Path  # a tmpfs of the node's own
    logs: Path
    images: Mapping[str, str] = field(default_factory=dict)
    """Image name -> folder of packages that its containers run instead of ours."""
    domain: str = labels.CLUSTER_DOMAIN
    name: str = NODE_NAME

    @property
    def host_addresses(self) -> tuple[str, ...]:
        """The node's addresses, IPv4 first."""
        return tuple(filter(None, (self.ranges.node, self.ranges.node6)))

    def lookup(self, namespace: str) -> Callable[[str, str], Object | None]:
        """Objects of one namespace by resource and name, None for what is not there."""

        def find(resource: str, name: str) -> Object | None:
            return self.api.store.find(resource, namespace, name)

        return find


def machine_size() -> Mapping[str, str]:
    """CPUs and memory of the machine as quantities, for limits that a pod does not set."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        memory = 1 << 30
    return {"cpu": str(os.cpu_count() or 1), "memory": str(memory), "ephemeral-storage": "0"}
