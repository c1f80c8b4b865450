"""Where a redirected connection was meant to go: SO_ORIGINAL_DST, IPv4 and IPv6."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Final

SO_ORIGINAL_DST: Final = 80  # linux/netfilter_ipv4.h; the same number for IPv6
_SOL_IPV6: Final = 41

# Socket -> (address, port). Raises OSError when the kernel does not know.
FindOriginal = Callable[[Any], tuple[str, int]]


def find_original(sock: Any) -> tuple[str, int]:
    """The destination before REDIRECT, from conntrack. Raises OSError without an entry.

    A v4 client on a dual-stack socket has a v4-mapped name and needs the IPv4 call.
    """
    if sock.family == socket.AF_INET6 and not is_mapped(sock.getsockname()[0]):
        return parse_sockaddr6(sock.getsockopt(_SOL_IPV6, SO_ORIGINAL_DST, 28))
    return parse_sockaddr4(sock.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16))


def is_mapped(address: str) -> bool:
    """Whether an IPv6 address is an IPv4 one in disguise (RFC 4291 §2.5.5.2)."""
    return address.startswith("::ffff:") and "." in address


def parse_sockaddr4(raw: bytes) -> tuple[str, int]:
    """struct sockaddr_in: family, port, address."""
    return socket.inet_ntop(socket.AF_INET, raw[4:8]), int.from_bytes(raw[2:4], "big")


def parse_sockaddr6(raw: bytes) -> tuple[str, int]:
    """struct sockaddr_in6: family, port, flow, address, scope."""
    return socket.inet_ntop(socket.AF_INET6, raw[8:24]), int.from_bytes(raw[2:4], "big")
