"""What the injector tells `init`: ports, exemptions, and how to program the redirect."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from mesh.core.errors import ConfigError
from mesh.core.labels import (
    ADMIN_PORT,
    DEFAULT_SKIP_INBOUND,
    DEFAULT_SKIP_OUTBOUND,
    INBOUND_PORT,
    OUTBOUND_PORT,
    PROXY_UID,
)
from mesh.core.quantity import parse_port, parse_ports
from mesh.runtime.settings import load, setting

Ports = tuple[tuple[int, int], ...]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MODES = ("auto", "nft", "legacy")


def parse_uid(text: str) -> int:
    """The proxy's uid; root is refused, since everything root sends would bypass the proxy."""
    if text.isascii() and text.isdigit() and 1 <= int(text) < 2**32 - 1:
        return int(text)
    raise ValueError(f'expected a uid from 1 to {2**32 - 2}, got "{text}"')


def parse_mode(text: str) -> str:
    """`auto`, `nft` or `legacy`."""
    if text in MODES:
        return text
    raise ValueError(f'expected one of {", ".join(MODES)}, got "{text}"')


def parse_log_level(text: str) -> str:
    """One of the four levels of `mesh.runtime.logs`."""
    if text in ("error", "warning", "info", "debug"):
        return text
    raise ValueError(f'expected error, warning, info or debug, got "{text}"')


def parse_log_format(text: str) -> str:
    """`text` or `json`."""
    if text in ("text", "json"):
        return text
    raise ValueError(f'expected text or json, got "{text}"')


def parse_subnets(text: str) -> tuple[Network, ...]:
    """Subnets of both families in `10.0.0.0/8,fd00::/8`; a bare address is a subnet of one.

    Sorted and without repeats, so that the same set gives the same rules. Host bits are an
    error: `10.1.2.3/8` is more often a slip than a wish.
    """
    networks: set[Network] = set()
    for item in text.split(","):
        item = item.strip()
        if not item:
            continue
        try:
            networks.add(ipaddress.ip_network(item))
        except ValueError as error:
            raise ValueError(
                f"expected subnets such as 10.0.0.0/8 or fd00::/8, comma-separated: {error}"
            ) from error
    return tuple(sorted(networks, key=lambda n: (n.version, int(n.network_address), n.prefixlen)))


@dataclass(frozen=True)
class Settings:
    """All that decides which rules stand in the pod, and nothing else."""

    inbound_port: int = setting(
        "MESH_INIT_INBOUND_PORT",
        "port on which the proxy takes connections that come in",
        default=str(INBOUND_PORT),
        parse=parse_port,
    )
    outbound_port: int = setting(
        "MESH_INIT_OUTBOUND_PORT",
        "port on which the proxy takes connections that go out",
        default=str(OUTBOUND_PORT),
        parse=parse_port,
    )
    admin_port: int = setting(
        "MESH_INIT_ADMIN_PORT",
        "admin port of the proxy, never redirected",
        default=str(ADMIN_PORT),
        parse=parse_port,
    )
    proxy_uid: int = setting(
        "MESH_INIT_PROXY_UID",
        "uid of the proxy, whose own connections are never redirected",
        default=str(PROXY_UID),
        parse=parse_uid,
    )
    skip_inbound_ports: Ports = setting(
        "MESH_INIT_SKIP_INBOUND_PORTS",
        "ports and ranges not redirected on the way in",
        default=DEFAULT_SKIP_INBOUND,
        parse=parse_ports,
    )
    skip_outbound_ports: Ports = setting(
        "MESH_INIT_SKIP_OUTBOUND_PORTS",
        "ports and ranges not redirected on the way out; 53 always is one of them",
        default=DEFAULT_SKIP_OUTBOUND,
        parse=parse_ports,
    )
    skip_subnets: tuple[Network, ...] = setting(
        "MESH_INIT_SKIP_SUBNETS",
        "source subnets whose connections are not redirected on the way in",
        default="",
        parse=parse_subnets,
    )
    skip_outbound_subnets: tuple[Network, ...] = setting(
        "MESH_INIT_SKIP_OUTBOUND_SUBNETS",
        "destination subnets to which connections are not redirected on the way out",
        default="",
        parse=parse_subnets,
    )
    mode: str = setting(
        "MESH_INIT_MODE",
        "how rules are programmed: auto, nft or legacy",
        default="auto",
        parse=parse_mode,
    )
    log_level: str = setting(
        "MESH_INIT_LOG_LEVEL",
        "error, warning, info or debug",
        default="info",
        parse=parse_log_level,
    )
    log_format: str = setting(
        "MESH_INIT_LOG_FORMAT", "text or json", default="text", parse=parse_log_format
    )


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings in `environ`. Raises ConfigError that lists every fault."""
    settings = load(Settings, environ)
    ports = (settings.inbound_port, settings.outbound_port, settings.admin_port)
    if len(set(ports)) < len(ports):
        raise ConfigError(
            "MESH_INIT_INBOUND_PORT, MESH_INIT_OUTBOUND_PORT, MESH_INIT_ADMIN_PORT: "
            f"expected three different ports, got {ports[0]}, {ports[1]} and {ports[2]}"
        )
    return settings
