"""Address ranges of the embedded cluster: picked free on this machine, then handed out.

Picking is pure over the routes that the machine has; the shell part only reads /proc.
"""

from __future__ import annotations

import ipaddress
import itertools
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mesh.core.errors import ConfigError

API_PORT = 6443  # where the API server listens on the node's addresses
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Ranges:
    """The cluster's ranges as CIDR texts; the IPv6 ones are empty on a machine without IPv6."""

    pods: str
    services: str
    pods6: str = ""
    services6: str = ""

    def host(self, field: str, number: int) -> str:
        """Address `number` of a range, such as host("pods", 1); empty without that range."""
        text: str = getattr(self, field)
        return str(ipaddress.ip_network(text)[number]) if text else ""

    @property
    def node(self) -> str:
        """The node's address on its link to the machine; the API server listens there."""
        return self.host("pods", 1)

    @property
    def node6(self) -> str:
        return self.host("pods6", 1)

    @property
    def machine(self) -> str:
        """The machine's end of that link."""
        return self.host("pods", 2)

    @property
    def machine6(self) -> str:
        return self.host("pods6", 2)

    @property
    def api(self) -> str:
        """ClusterIP of the Service `kubernetes`."""
        return self.host("services", 1)

    @property
    def dns(self) -> str:
        """ClusterIP of the name server."""
        return self.host("services", 10)

    @property
    def dns6(self) -> str:
        return self.host("services6", 10)


def _candidates4() -> Iterator[str]:
    yield from (f"10.{n}.0.0/16" for n in itertools.chain(range(244, 255), range(200, 244)))
    yield from (f"172.{n}.0.0/16" for n in range(16, 32))
    yield from (f"100.{n}.0.0/16" for n in range(64, 128))


def _service_candidates4() -> Iterator[str]:
    yield from (f"10.{n}.0.0/16" for n in range(96, 200))
    yield from (f"172.{n}.0.0/16" for n in range(31, 15, -1))
    yield from (f"100.{n}.0.0/16" for n in range(127, 63, -1))


def _candidates6() -> Iterator[str]:
    return (f"fd6d:6573:{0x6800 + n:x}:1::/64" for n in range(256))


def _service_candidates6() -> Iterator[str]:
    return (f"fd6d:6573:{0x6800 + n:x}:2::/112" for n in range(256))


def _first_free(candidates: Iterable[str], taken: Iterable[Network], flag: str) -> str:
    busy = list(taken)
    for text in candidates:
        network = ipaddress.ip_network(text)
        if not any(other.version == network.version and other.overlaps(network) for other in busy):
            return text
    raise ConfigError(
        f"no free address range for {flag}: this machine routes all that were tried; "
        f"name one with --{flag} CIDR"
    )


def pick(taken: Iterable[Network], *, ipv6: bool, pods: str = "", services: str = "") -> Ranges:
    """Ranges that overlap nothing in `taken`. Given ones are checked, not replaced.

    Raises ConfigError where nothing is free or a given range is not.
    """
    busy = list(taken)
    chosen: list[str] = []
    for given, candidates, flag in (
        (pods, _candidates4, "pod-cidr"),
        (services, _service_candidates4, "service-cidr"),
    ):
        text = given or _first_free(candidates(), busy, flag)
        try:
            network = ipaddress.ip_network(text)
        except ValueError as error:
            raise ConfigError(f"--{flag}: expected a range like 10.1.0.0/16: {error}") from error
        if network.version != 4 or network.prefixlen > 20:
            raise ConfigError(f"--{flag}: expected an IPv4 range of /20 or larger, got {text}")
        for other in busy:
            if other.version == 4 and other.overlaps(network):
                raise ConfigError(
                    f"--{flag}: {text} overlaps {other}, which this machine already routes"
                )
        busy.append(network)
        chosen.append(text)
    if not ipv6:
        return Ranges(chosen[0], chosen[1])
    return Ranges(
        chosen[0],
        chosen[1],
        _first_free(_candidates6(), busy, "pod-cidr"),
        _first_free(_service_candidates6(), busy, "service-cidr"),
    )


def are_free(ranges: Ranges, taken: Iterable[Network]) -> bool:
    """Whether none of the ranges overlaps one in `taken`."""
    own = [
        ipaddress.ip_network(text)
        for text in (ranges.pods, ranges.services, ranges.pods6, ranges.services6)
        if text
    ]
    return not any(
        other.version == network.version and other.overlaps(network)
        for other in taken
        for network in own
    )


def parse_routes4(text: str) -> list[Network]:
    """The ranges in /proc/net/route, without the default route."""
    found: list[Network] = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8:
            continue
        raw = bytes.fromhex(fields[1])[::-1]
        mask = int.from_bytes(bytes.fromhex(fields[7])[::-1], "big")
        if mask:
            address = socket.inet_ntoa(raw)
            found.append(ipaddress.ip_network(f"{address}/{mask.bit_count()}", strict=False))
    return found


def parse_routes6(text: str) -> list[Network]:
    """The ranges in /proc/net/ipv6_route, without default and link-local ones."""
    found: list[Network] = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 10:
            continue
        prefix = int(fields[1], 16)
        network = ipaddress.IPv6Network((bytes.fromhex(fields[0]), prefix), strict=False)
        if prefix and not network.is_link_local and not network.is_multicast:
            found.append(network)
    return found


def taken_on_machine() -> list[Network]:
    """What this machine routes, and its name servers: /proc/net and /etc/resolv.conf."""
    found: list[Network] = []
    for path, parse in (
        ("/proc/net/route", parse_routes4),
        ("/proc/net/ipv6_route", parse_routes6),
    ):
        try:
            found += parse(Path(path).read_text(encoding="ascii"))
        except OSError:
            continue
    try:
        lines = Path("/etc/resolv.conf").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return found
    for line in lines.splitlines():
        fields = line.split()
        if len(fields) > 1 and fields[0] == "nameserver":
            try:
                found.append(ipaddress.ip_network(fields[1].partition("%")[0]))
            except ValueError:
                continue
    return found


def machine_has_ipv6() -> bool:
    """Whether the kernel has IPv6 and new links get it."""
    switch = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
    try:
        return Path("/proc/net/if_inet6").exists() and switch.read_text().strip() == "0"
    except OSError:
        return False


class Addresses:
    """Hands out the addresses of one range, each as late again as possible."""

    def __init__(self, cidr: str, *, first: int, last: int | None = None) -> None:
        self._network = ipaddress.ip_network(cidr)
        self._first = first
        size = min(self._network.num_addresses - 2, 65_000)
        self._last = size if last is None else last
        self._next = first
        self._used: set[int] = set()

    def _number(self, address: str) -> int:
        return int(ipaddress.ip_address(address)) - int(self._network.network_address)

    def contains(self, address: str) -> bool:
        """Whether the address belongs to this range."""
        try:
            return ipaddress.ip_address(address) in self._network
        except ValueError:
            return False

    def reserve(self, address: str) -> bool:
        """Take this very address; False where it is out of range or taken."""
        if not self.contains(address) or self._number(address) in self._used:
            return False
        self._used.add(self._number(address))
        return True

    def take(self) -> str:
        """The next free address. Raises ConfigError when the range is used up."""
        for offset in range(self._last - self._first + 1):
            number = self._first + (self._next - self._first + offset) % (
                self._last - self._first + 1
            )
            if number not in self._used:
                self._used.add(number)
                self._next = number + 1
                return str(self._network[number])
        raise ConfigError(f"address range {self._network} is used up")

    def release(self, address: str) -> None:
        """Give an address back; unknown ones are ignored."""
        if self.contains(address):
            self._used.discard(self._number(address))
