"""The proof that the redirect works, made before the application starts.

Outbound: a connection of our own to an address that nobody has (RFC 5737, RFC 3849) must come
to our own listener on the outbound port and carry that address as its original destination.
Inbound cannot be tried from within the pod; there the rules are read back and compared.
"""

from __future__ import annotations

import errno
import ipaddress
import select
import socket
import struct
import time
from collections.abc import Iterator
from enum import Enum
from typing import Final

from init.backend import NotProven, RedirectError
from init.plan import Family, ports_kept_outbound
from init.settings import Settings
from mesh.core.quantity import has_port

PROOF_SECONDS: Final = 2.0
GRACE_SECONDS: Final = 0.2  # from the end of our connect until the listener must have seen it
SO_ORIGINAL_DST: Final = 80  # also IP6T_SO_ORIGINAL_DST
TEST_ADDRESSES: Final = {
    Family.V4: ("192.0.2.1", "198.51.100.1", "203.0.113.1"),
    Family.V6: ("2001:db8::1",),
}
TEST_PORTS: Final = (1404, 20001, 33333, 47111)
_LOOPBACK: Final = {Family.V4: "127.0.0.1", Family.V6: "::1"}
_AF: Final = {Family.V4: socket.AF_INET, Family.V6: socket.AF_INET6}
_NO_ROUTE: Final = (
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.EADDRNOTAVAIL,
    errno.EAFNOSUPPORT,
    errno.EACCES,
)


_Target = tuple[str, int]


class Proof(Enum):
    """How the outbound proof of a family ended; a failed one is a RedirectError."""

    PROVEN = "proven"
    NO_ROUTE = "no-route"  # nothing can leave by this family
    PORT_IN_USE = "port-in-use"  # the proxy of a running pod listens already: init was run again
    ALL_SKIPPED = "all-skipped"  # the settings leave no address and port to try


def prove_outbound(family: Family, settings: Settings) -> Proof:
    """Make one connection and see where it lands. Raises RedirectError when it went astray."""
    target = pick_target(family, settings)
    if target is None:
        return Proof.ALL_SKIPPED
    try:
        listener = _listen(family, settings.outbound_port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return Proof.PORT_IN_USE
        if error.errno in _NO_ROUTE:
            return Proof.NO_ROUTE  # the pod's loopback lacks this family
        raise RedirectError(
            f"cannot listen on {family.label} port {settings.outbound_port}: {error.strerror}"
        ) from error
    with listener, socket.socket(_AF[family], socket.SOCK_STREAM) as client:
        client.setblocking(False)
        code = client.connect_ex(target)
        if code in _NO_ROUTE:
            return Proof.NO_ROUTE
        if code not in (0, errno.EINPROGRESS):
            raise NotProven(_astray(family, target, settings, errno.errorcode.get(code, "?")))
        try:
            landed = _await(listener, client, family)
        except OSError as error:
            raise NotProven(_astray(family, target, settings, str(error.strerror))) from error
    if landed != target:
        found = (
            "nothing arrived" if landed is None else f"original destination {landed[0]}:{landed[1]}"
        )
        raise NotProven(_astray(family, target, settings, found))
    return Proof.PROVEN


def pick_target(family: Family, settings: Settings) -> _Target | None:
    """An address and port that nobody has and that no exemption covers."""
    kept = ports_kept_outbound(settings)
    ports = (port for port in (*TEST_PORTS, *range(1024, 65536)) if not has_port(kept, port))
    port = next(ports, None)
    address = next(_addresses(family, settings), None)
    return None if port is None or address is None else (address, port)


def original_destination(connection: socket.socket, family: Family) -> _Target:
    """Where the peer meant to go, as conntrack remembers it. Raises OSError if it does not."""
    if family is Family.V4:
        raw = connection.getsockopt(socket.IPPROTO_IP, SO_ORIGINAL_DST, 16)
        port, packed = struct.unpack_from("!2xH4s", raw)
        return socket.inet_ntop(socket.AF_INET, packed), port
    raw = connection.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 28)
    port, packed = struct.unpack_from("!2xH4x16s", raw)
    return socket.inet_ntop(socket.AF_INET6, packed), port


def _addresses(family: Family, settings: Settings) -> Iterator[str]:
    for text in TEST_ADDRESSES[family]:
        address = ipaddress.ip_address(text)
        if not any(address in network for network in settings.skip_outbound_subnets):
            yield text


def _listen(family: Family, port: int) -> socket.socket:
    listener = socket.socket(_AF[family], socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is Family.V6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((_LOOPBACK[family], port))
        listener.listen(16)
    except OSError:
        listener.close()
        raise
    return listener


def _await(listener: socket.socket, client: socket.socket, family: Family) -> _Target | None:
    """The original destination of our own connection; others that arrive meanwhile are closed.

    None as soon as the connection has gone elsewhere or been refused.
    """
    deadline = time.monotonic() + PROOF_SECONDS
    watched = [client]
    while (left := deadline - time.monotonic()) > 0:
        arrived, ended, _ = select.select([listener], watched, [], left)
        if arrived:
            connection, peer = listener.accept()
            with connection:
                if peer[:2] == client.getsockname()[:2]:
                    return original_destination(connection, family)
        elif ended:
            watched = []
            deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
    return None


def _astray(family: Family, target: _Target, settings: Settings, found: str) -> str:
    return (
        f"{family.label} outbound is not redirected: a connection to {target[0]} port {target[1]} "
        f"should have reached port {settings.outbound_port} with that destination, but {found}: "
        "set mesh/redirect-mode to the other of nft and legacy, or remove the rules of others "
        "from the pod's nat table"
    )
