"""Settings -> the rules of each address family, as data.

Pure. How rules become text is `restore.py`, how they reach the kernel is `apply.py`. A rule
says only what this project needs; it is no model of iptables.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from init.settings import Network, Ports, Settings

REDIRECT_CHAIN: Final = "MESH_INIT_REDIRECT"  # what comes in
OUTPUT_CHAIN: Final = "MESH_INIT_OUTPUT"  # what goes out
CHAINS: Final = (REDIRECT_CHAIN, OUTPUT_CHAIN)

DNS: Final[Ports] = ((53, 53),)
MULTIPORT_LIMIT: Final = 15  # port slots in one multiport match; a range takes two


class Family(Enum):
    """An address family, which has rules, tools and a transaction of its own."""

    V4 = 4
    V6 = 6

    @property
    def label(self) -> str:
        """The word for people: `ipv4` or `ipv6`."""
        return f"ipv{self.value}"

    @property
    def tools(self) -> str:
        """How the tools of the family are called: `iptables` or `ip6tables`."""
        return "iptables" if self is Family.V4 else "ip6tables"


@dataclass(frozen=True)
class Rule:
    """One rule: each part that is given has to match. An empty part matches everything.

    `target` is RETURN, REDIRECT (with `to_port`) or the name of a chain.
    """

    target: str
    tcp: bool = False
    in_interface: str = ""
    out_interface: str = ""
    source: str = ""
    destination: str = ""
    uid: int | None = None
    ports: Ports = ()
    to_port: int | None = None


@dataclass(frozen=True)
class Chain:
    """A chain of ours: `hook` is the kernel's chain that jumps to it, for TCP only."""

    name: str
    hook: str
    rules: tuple[Rule, ...]

    @property
    def jump(self) -> Rule:
        """The rule in `hook` that leads here."""
        return Rule(self.name, tcp=True)


@dataclass(frozen=True)
class FamilyPlan:
    """All that has to stand in the nat table of one family."""

    family: Family
    chains: tuple[Chain, ...]


def plan_redirect(settings: Settings) -> tuple[FamilyPlan, ...]:
    """The plans in the order in which they are put in: v6 before v4."""
    return tuple(_plan_family(family, settings) for family in (Family.V6, Family.V4))


def ports_kept_outbound(settings: Settings) -> Ports:
    """Outbound ports that go straight through: DNS over TCP besides what the user skips."""
    return settings.skip_outbound_ports + DNS


def _plan_family(family: Family, settings: Settings) -> FamilyPlan:
    inbound = [
        Rule("RETURN", in_interface="lo"),
        *(
            Rule("RETURN", source=_spell(network))
            for network in _of_family(family, settings.skip_subnets)
        ),
        *_return_ports(((settings.admin_port,) * 2, *settings.skip_inbound_ports)),
        Rule("REDIRECT", tcp=True, to_port=settings.inbound_port),
    ]
    outbound = [
        Rule("RETURN", uid=settings.proxy_uid),
        Rule("RETURN", out_interface="lo"),
        *(
            Rule("RETURN", destination=_spell(network))
            for network in _of_family(family, settings.skip_outbound_subnets)
        ),
        *_return_ports(ports_kept_outbound(settings)),
        Rule("REDIRECT", tcp=True, to_port=settings.outbound_port),
    ]
    return FamilyPlan(
        family,
        (
            Chain(REDIRECT_CHAIN, "PREROUTING", tuple(inbound)),
            Chain(OUTPUT_CHAIN, "OUTPUT", tuple(outbound)),
        ),
    )


def _of_family(family: Family, networks: tuple[Network, ...]) -> list[Network]:
    return [network for network in networks if network.version == family.value]


def _spell(network: Network) -> str:
    """As the kernel's tools print it back: a subnet of all addresses is no condition."""
    return str(network) if network.prefixlen else ""


def _return_ports(ranges: Ports) -> list[Rule]:
    """RETURN rules for the sorted ranges, each within what one multiport match holds."""
    groups: list[list[tuple[int, int]]] = [[]]
    room = MULTIPORT_LIMIT
    for low, high in sorted(set(ranges)):
        size = 1 if low == high else 2
        if size > room:
            groups.append([])
            room = MULTIPORT_LIMIT
        groups[-1].append((low, high))
        room -= size
    return [Rule("RETURN", tcp=True, ports=tuple(group)) for group in groups if group]
