"""The cluster's links: the node's veth to the machine, and one veth a pod. No bridge.

A bridge needs br_netfilter for ClusterIPs between pods, which is the machine's business; with
one routed veth a pod every packet passes the node's own nat hooks. Runs in PID 1 of the node and
in short-lived children of it: small imports, synchronous, a few milliseconds.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from mesh.local.node import linux
from mesh.local.node.netlink import Netlink

GATEWAY = "169.254.1.1"
GATEWAY6 = "fe80::1"
_MTU = 1500


def _sysctl(path: str, value: str) -> None:
    with (
        contextlib.suppress(FileNotFoundError),
        open(f"/proc/sys/net/{path}", "w", encoding="ascii") as file,
    ):
        file.write(value)


def _common_sysctls() -> None:
    """Addresses usable at once, no surprises inherited from the machine's own settings."""
    for scope in ("all", "default"):
        _sysctl(f"ipv4/conf/{scope}/rp_filter", "0")
        _sysctl(f"ipv6/conf/{scope}/accept_dad", "0")
        _sysctl(f"ipv6/conf/{scope}/accept_ra", "0")
        _sysctl(f"ipv6/conf/{scope}/disable_ipv6", "0")


@contextlib.contextmanager
def inside(namespace: int) -> Iterator[None]:
    """Run the block in another network namespace; the caller must be single-threaded."""
    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        linux.setns(namespace, linux.CLONE_NEWNET)
        try:
            yield
        finally:
            linux.setns(own, linux.CLONE_NEWNET)
    finally:
        os.close(own)


Pair = tuple[str, str]
"""The same thing for IPv4 and IPv6; the second is empty without IPv6."""


@dataclass(frozen=True, slots=True)
class NodePlan:
    """What the node's link to the machine carries."""

    pods: Pair
    services: Pair
    node: Pair
    machine: Pair
    dns: Pair

    def families(self) -> Iterator[tuple[int, int]]:
        """(index into the pairs, bits of a host address) of each family in use."""
        for family, bits in ((0, 32), (1, 128)):
            if self.pods[family]:
                yield family, bits


def _split(cidr: str) -> tuple[str, int]:
    address, _, prefix = cidr.partition("/")
    return address, int(prefix)


def set_up_node(plan: NodePlan, *, machine_ns: int, machine_link: str) -> None:
    """The node's network: lo, forwarding, the link to the machine and the routes on both ends.

    Raises FileExistsError when a range was taken by another cluster since it was picked.
    """
    _common_sysctls()
    _sysctl("ipv4/ip_forward", "1")
    _sysctl("ipv4/conf/all/forwarding", "1")
    _sysctl("ipv4/conf/all/send_redirects", "0")
    _sysctl("ipv4/conf/default/send_redirects", "0")
    _sysctl("ipv6/conf/all/forwarding", "1")
    _sysctl("ipv4/ping_group_range", "0 2147483647")
    with Netlink() as netlink:
        netlink.up("lo")
        netlink.add_veth("eth0", machine_link, machine_ns, mtu=_MTU)
        netlink.up("eth0")
        for family, bits in plan.families():
            own = plan.node[family]
            netlink.add_address("eth0", own, bits)
            netlink.add_route(plan.machine[family], bits, link="eth0", source=own)
            # Packets to Services only need some route to reach nat; one by `lo` would be made a
            # reject route for IPv6 by the kernel, and what nat does not change is refused anyhow.
            netlink.add_route(*_split(plan.services[family]), link="eth0", source=own)
            netlink.add_address("lo", plan.dns[family], bits)
    with inside(machine_ns):
        _set_up_machine(plan, machine_link)


def _set_up_machine(plan: NodePlan, link: str) -> None:
    with Netlink() as netlink:
        netlink.up(link)
        for family, bits in plan.families():
            own, gateway = plan.machine[family], plan.node[family]
            netlink.add_address(link, own, bits)
            netlink.add_route(gateway, bits, link=link, source=own)
            for cidr in (plan.pods[family], plan.services[family]):
                netlink.add_route(*_split(cidr), link=link, gateway=gateway, source=own)


def set_up_pod(link: str, addresses: Pair, node: Pair) -> int:
    """A new network namespace with one routed veth; returns an fd that keeps it alive.

    Called in a child of the node's PID 1, in the node's namespace; ends in it again.
    """
    node_ns = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    linux.unshare(linux.CLONE_NEWNET)
    pod_ns = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    _common_sysctls()
    _sysctl("ipv4/ping_group_range", "0 2147483647")
    _sysctl("ipv4/ip_unprivileged_port_start", "0")
    with Netlink() as netlink:
        netlink.up("lo")
        netlink.add_veth("eth0", link, node_ns, mtu=_MTU)
        netlink.up("eth0")
        for address, gateway, zero in zip(
            addresses, (GATEWAY, GATEWAY6), ("0.0.0.0", "::"), strict=True
        ):
            if address:
                netlink.add_address("eth0", address, 128 if ":" in address else 32)
                netlink.add_route(zero, 0, link="eth0", gateway=gateway, source=address)
    linux.setns(node_ns, linux.CLONE_NEWNET)
    with Netlink() as netlink:
        netlink.up(link)
        for address, gateway, own in zip(addresses, (GATEWAY, GATEWAY6), node, strict=True):
            if address:
                bits = 128 if ":" in address else 32
                netlink.add_address(link, gateway, bits)
                netlink.add_route(address, bits, link=link, source=own)
    return pod_ns
