"""Probes behind a redirect: what must change so that they keep their meaning.

A TCP connection to a redirected port is always accepted, by the proxy; so a tcpSocket probe
becomes GET /probe/tcp/PORT on the proxy's admin port, which dials the application. HTTP,
HTTPS and gRPC probes are answered by the application through the proxy, exec probes never
touch the network: these stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from mesh.core.quantity import has_port, parse_ports

PROBES: Final = ("startupProbe", "readinessProbe", "livenessProbe")
_PATH: Final = "/probe/tcp/"  # on the proxy's admin port
Probe = dict[str, Any]


def rewrite_probes(
    container: Mapping[str, Any], *, admin_port: int, skip_inbound: str
) -> tuple[dict[str, Probe], list[str]]:
    """The probes of `container` that must change, by field, with warnings about what cannot.

    `skip_inbound` lists the ports that are not redirected: their probes stay.
    """
    changed: dict[str, Probe] = {}
    warnings: list[str] = []
    skipped = parse_ports(skip_inbound)
    for name in PROBES:
        probe = container.get(name)
        socket = probe.get("tcpSocket") if isinstance(probe, dict) else None
        if not isinstance(probe, dict) or not isinstance(socket, dict) or socket.get("host"):
            continue  # a host of its own is probed elsewhere than in this pod
        port = resolve_port(container, socket.get("port"))
        if port is None:
            warnings.append(
                f"container {container.get('name')}: {name} tcpSocket: expected a port or the "
                f'name of one, got "{socket.get("port")}"; left as it is'
            )
        elif not has_port(skipped, port):
            kept = {key: value for key, value in probe.items() if key != "tcpSocket"}
            get = {"path": f"{_PATH}{port}", "port": admin_port, "scheme": "HTTP"}
            changed[name] = {"httpGet": get, **kept}
    return changed, warnings


def is_rewritten(probe: Any) -> bool:
    """Whether a probe is one that we made of a tcpSocket."""
    get = probe.get("httpGet") if isinstance(probe, Mapping) else None
    return isinstance(get, Mapping) and str(get.get("path")).startswith(_PATH)


def resolve_port(container: Mapping[str, Any], port: Any) -> int | None:
    """A number, a number as text, or the name of a port of this container."""
    if isinstance(port, str):
        named = dict(container_ports(container))
        port = named.get(port, int(port) if port.isascii() and port.isdigit() else None)
    is_port = isinstance(port, int) and not isinstance(port, bool) and 1 <= port <= 65535
    return port if is_port else None


def container_ports(container: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """(name, number) of the TCP ports that a container declares; the name may be ""."""
    for entry in container.get("ports") or []:
        if not isinstance(entry, dict) or (entry.get("protocol") or "TCP") != "TCP":
            continue
        if isinstance(entry.get("containerPort"), int):
            yield str(entry.get("name") or ""), entry["containerPort"]
