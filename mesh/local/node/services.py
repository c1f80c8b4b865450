"""ClusterIPs: Services and EndpointSlices to one nft table of the node, replaced as a whole.

`script` is pure; `Proxy` watches, builds and applies. The traps behind the rules: a dnat to
address and port wants `meta l4proto` before it, the output hook knows no priority by name in nft
1.0.6, a pod that reaches itself through its Service needs its source changed, and a range
without endpoints must refuse instead of staying silent.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from mesh.core.errors import MeshError
from mesh.local.api.store import Store
from mesh.local.node.follow import follow
from mesh.local.node.ranges import Ranges

Object = dict[str, Any]
TABLE = "mesh-local"
_SETTLE = 0.01  # seconds that changes are gathered before the table is replaced
_SERVICE_LABEL = "kubernetes.io/service-name"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Port:
    """One port of one Service in one address family, with those who serve it."""

    address: str
    protocol: str  # tcp, udp or sctp
    port: int
    targets: tuple[tuple[str, int], ...]
    node_port: int = 0
    sticky: int = 0  # seconds of ClientIP affinity, 0 for none


def _family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def _slice_targets(slice_: Object, port_name: str, usable: bool) -> Iterator[tuple[str, int]]:
    for port in slice_.get("ports") or ():
        if (port.get("name") or "") != port_name or not port.get("port"):
            continue
        for endpoint in slice_.get("endpoints") or ():
            conditions = endpoint.get("conditions") or {}
            ready = conditions.get("ready", True) is not False
            last = conditions.get("serving") and conditions.get("terminating")
            if ready if usable else last:
                for address in (endpoint.get("addresses") or ())[:1]:
                    yield address, int(port["port"])


def service_ports(services: Iterable[Object], slices: Iterable[Object]) -> list[Port]:
    """What every ClusterIP port leads to; terminating endpoints only where none is ready."""
    by_service: dict[tuple[str, str], list[Object]] = {}
    for slice_ in slices:
        meta = slice_["metadata"]
        owner = (meta.get("labels") or {}).get(_SERVICE_LABEL)
        if owner:
            by_service.setdefault((meta["namespace"], owner), []).append(slice_)
    found = []
    for service in services:
        spec, meta = service["spec"], service["metadata"]
        if spec.get("type") == "ExternalName" or spec.get("clusterIP") in (None, "", "None"):
            continue
        own = by_service.get((meta["namespace"], meta["name"]), [])
        sticky = 0
        if spec.get("sessionAffinity") == "ClientIP":
            config = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
            sticky = int(config.get("timeoutSeconds") or 10800)
        for address in spec.get("clusterIPs") or [spec["clusterIP"]]:
            matching = [item for item in own if item.get("addressType") == _family(address)]
            for port in spec.get("ports") or ():
                name = port.get("name") or ""
                targets: set[tuple[str, int]] = set()
                for usable in (True, False):
                    for item in matching:
                        targets.update(_slice_targets(item, name, usable))
                    if targets:
                        break
                found.append(
                    Port(
                        address,
                        str(port.get("protocol", "TCP")).lower(),
                        int(port["port"]),
                        tuple(sorted(targets)),
                        int(port.get("nodePort") or 0),
                        sticky,
                    )
                )
    return found


def host_ports(pods: Iterable[Object], node: tuple[str, ...]) -> list[Port]:
    """Ports of the node that lead to one pod each, on every address of the node."""
    found = []
    for pod in pods:
        addresses = [entry["ip"] for entry in (pod.get("status") or {}).get("podIPs") or ()]
        if pod["spec"].get("hostNetwork") or not addresses:
            continue
        for port in ports_on_node(pod["spec"]):
            for where in [port["hostIP"]] if port.get("hostIP") else node:
                there = [a for a in addresses if _family(a) == _family(where)]
                target = tuple((address, int(port["containerPort"])) for address in there[:1])
                protocol = str(port.get("protocol", "TCP")).lower()
                found.append(Port(where, protocol, int(port["hostPort"]), target))
    return found


def ports_on_node(spec: Object) -> list[Object]:
    """The container ports of a pod that ask for a port of the node."""
    listed = [*spec["containers"], *(spec.get("initContainers") or ())]
    return [port for one in listed for port in one.get("ports") or () if port.get("hostPort")]


def _chain(number: int, port: Port) -> Iterator[str]:
    family = "ip6" if ":" in port.address else "ip"
    count = len(port.targets)
    if port.sticky:
        key = f"{family} saddr"
        choice = f"jhash {key} mod {count}"
    else:
        choice = f"numgen random mod {count}"
    elements = ", ".join(
        f"{index} : {address} . {target}" for index, (address, target) in enumerate(port.targets)
    )
    yield f"  chain s{number} {{"
    yield f"    meta l4proto {port.protocol} dnat {family} to {choice} map {{ {elements} }}"
    yield "  }"


def _map(name: str, kind: str, elements: list[str]) -> Iterator[str]:
    yield f"  map {name} {{"
    yield f"    type {kind} : verdict"
    if elements:
        yield f"    elements = {{ {', '.join(elements)} }}"
    yield "  }"


def _hairpin(name: str, kind: str, addresses: Iterable[str]) -> Iterator[str]:
    pairs = sorted({f"{address} . {address}" for address in addresses})
    yield f"  set {name} {{"
    yield f"    type {kind} . {kind}"
    if pairs:
        yield f"    elements = {{ {', '.join(pairs)} }}"
    yield "  }"


def script(ports: Iterable[Port], ranges: Ranges, *, node: tuple[str, ...] = ()) -> str:
    """The nft input that replaces the table in one transaction."""
    chosen = sorted(ports, key=lambda port: (port.address, port.protocol, port.port))
    served = [port for port in chosen if port.targets]
    lines = [f"table inet {TABLE}", f"delete table inet {TABLE}", f"table inet {TABLE} {{"]
    elements: dict[str, list[str]] = {"v4": [], "v6": [], "np": []}
    for number, port in enumerate(served):
        lines += _chain(number, port)
        family = "v6" if ":" in port.address else "v4"
        elements[family].append(f"{port.address} . {port.protocol} . {port.port} : goto s{number}")
        if port.node_port and family == "v4":
            elements["np"].append(f"{port.protocol} . {port.node_port} : goto s{number}")
    targets = {address for port in served for address, _ in port.targets}
    lines += _map("v4", "ipv4_addr . inet_proto . inet_service", elements["v4"])
    lines += _map("v6", "ipv6_addr . inet_proto . inet_service", elements["v6"])
    lines += _map("np", "inet_proto . inet_service", elements["np"])
    lines += _hairpin("self4", "ipv4_addr", (item for item in targets if ":" not in item))
    lines += _hairpin("self6", "ipv6_addr", (item for item in targets if ":" in item))
    node4 = [address for address in node if ":" not in address]
    for chain, hook in (("pre", "prerouting"), ("out", "output")):
        lines += [
            f"  chain {chain} {{",
            f"    type nat hook {hook} priority -100; policy accept;",
            "    ip daddr . meta l4proto . th dport vmap @v4",
            "    ip6 daddr . meta l4proto . th dport vmap @v6",
        ]
        if node4:
            lines.append(f"    ip daddr {node4[0]} meta l4proto . th dport vmap @np")
        lines.append("  }")
    lines += [
        "  chain post {",
        "    type nat hook postrouting priority 100; policy accept;",
        "    ip saddr . ip daddr @self4 masquerade",
        "    ip6 saddr . ip6 daddr @self6 masquerade",
        "  }",
        *_refusals(ranges),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _refusals(ranges: Ranges) -> Iterator[str]:
    """What still has a service address after nat leads nowhere: say so at once."""
    for chain, hook in (("fwd4", "forward"), ("out4", "output")):
        yield f"  chain {chain} {{"
        yield f"    type filter hook {hook} priority 0; policy accept;"
        for family, cidr, dns in (
            ("ip", ranges.services, ranges.dns),
            ("ip6", ranges.services6, ranges.dns6),
        ):
            if not cidr:
                continue
            yield f"    {family} daddr {dns} accept"
            yield f"    {family} daddr {cidr} meta l4proto tcp reject with tcp reset"
            yield f"    {family} daddr {cidr} reject"
        yield "  }"


class ServiceTableError(MeshError):
    """The kernel or nft did not take the table."""


class Proxy:
    """Keeps the node's table equal to the Services and EndpointSlices of the store."""

    def __init__(self, store: Store, ranges: Ranges, node: tuple[str, ...]) -> None:
        self._store = store
        self._ranges = ranges
        self._node = node
        self._changed = asyncio.Event()
        self._applied: list[Port] | None = None

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow("services"))
            group.create_task(follow(self._store, "pods", self._saw_pod))
            group.create_task(self._follow("endpointslices.discovery.k8s.io"))
            group.create_task(self._apply_changes())

    async def _follow(self, resource: str) -> None:
        await follow(self._store, resource, lambda *_: self._changed.set())

    def _saw_pod(self, _: str, pod: Object) -> None:
        if ports_on_node(pod["spec"]):
            self._changed.set()

    async def _apply_changes(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.apply()
            except (ServiceTableError, OSError) as error:
                log.error("service table not replaced error=%s", error)
            await asyncio.sleep(_SETTLE)

    async def apply(self) -> None:
        """Build the table from the store and replace it where it differs."""
        ports = service_ports(
            self._store.scan("services"), self._store.scan("endpointslices.discovery.k8s.io")
        )
        ports += host_ports(self._store.scan("pods"), self._node)
        if ports == self._applied:
            return
        process = await asyncio.create_subprocess_exec(
            "nft",
            "-f",
            "-",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        text = script(ports, self._ranges, node=self._node)
        _, errors = await process.communicate(text.encode())
        if process.returncode:
            raise ServiceTableError(
                f"nft refuses the table of Services: {errors.decode(errors='replace')[:800]}"
            )
        self._applied = ports
