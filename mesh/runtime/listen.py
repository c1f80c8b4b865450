"""Listening sockets on all addresses of a pod, whichever IP families it has."""

from __future__ import annotations

import errno
import socket
from typing import Final

from mesh.core.errors import ConfigError
from mesh.core.names import join_address

BACKLOG: Final = 1024
_TRIES: Final = 20  # to find a port that is free for both families


def open_listeners(
    host: str, port: int, *, backlog: int = BACKLOG, shared: bool = False
) -> list[socket.socket]:
    """Non-blocking sockets that listen on `host`; "" means all addresses, IPv4 and IPv6.

    IPv6 gets a socket of its own, so that IPv4 peers keep their plain addresses; a node
    without one of the families is served on the other. Port 0 picks one free port for both.
    `shared`: the kernel spreads connections over all sockets of that port (SO_REUSEPORT).
    Raises ConfigError when the port is taken or the address is not ours.
    """
    if host:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return [_listen(family, host, port, backlog, shared)]
    for _ in range(_TRIES):
        try:
            return _listen_on_all(port, backlog, shared)
        except ConfigError:
            if port:
                raise  # else it was free for one family and taken for the other
    return _listen_on_all(port, backlog, shared)


def _listen_on_all(port: int, backlog: int, shared: bool) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            sockets.append(_listen(family, address, port, backlog, shared))
        except _NoFamilyError:
            continue
        except ConfigError:
            for listener in sockets:
                listener.close()
            raise
        port = port or sockets[0].getsockname()[1]
    if not sockets:
        raise ConfigError(f"port {port}: expected IPv4 or IPv6 on this machine, found neither")
    return sockets


class _NoFamilyError(Exception):
    """The kernel has no such address family, or it is switched off."""


def _listen(family: int, host: str, port: int, backlog: int, shared: bool = False) -> socket.socket:
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _NoFamilyError from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) and host in ("0.0.0.0", "::"):
            raise _NoFamilyError from error
        where = join_address(host, port)
        raise ConfigError(
            f"cannot listen on {where}: {error.strerror}; stop what uses the port or set another"
        ) from error
    return listener
