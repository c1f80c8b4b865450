"""Which address a Service gets out of the service ranges. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Set
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network


class ClusterIPs:
    """The service ranges of the cluster, at most one for each address family."""

    def __init__(self, ranges: Iterable[str]) -> None:
        self._ranges: dict[str, IPv4Network | IPv6Network] = {}
        for text in ranges:
            network = ip_network(text)
            self._ranges[f"IPv{network.version}"] = network

    @property
    def families(self) -> tuple[str, ...]:
        """`IPv4` and `IPv6` as far as they have a range, the first one given first."""
        return tuple(self._ranges)

    def first(self, family: str) -> str:
        """The address of the `kubernetes` Service."""
        return str(self._ranges[family][1])

    def contains(self, address: str) -> bool:
        found = ip_address(address)
        return any(found in network for network in self._ranges.values())

    def allocate(self, family: str, taken: Set[str], *, seed: str) -> str | None:
        """A free address, the same for the same seed (the Service's name) when it is free."""
        network = self._ranges.get(family)
        if network is None:
            return None
        room = min(network.num_addresses, 1 << 16) - 16
        start = zlib.crc32(seed.encode()) % room
        for step in range(room):
            address = str(network[16 + (start + step) % room - 1])
            if address not in taken:
                return address
        return None
