"""A few rtnetlink requests, enough for veth pairs, addresses and routes.

pyroute2 takes 300 to 700 ms to import, in every process; these requests are 100 lines. Building a
message is pure; `Netlink` sends it and raises OSError with the kernel's errno. rtnetlink(7).
"""

from __future__ import annotations

import os
import socket
import struct
from types import TracebackType

_RTM_NEWLINK, _RTM_DELLINK, _RTM_NEWADDR, _RTM_NEWROUTE = 16, 17, 20, 24
_REQUEST, _ACK, _EXCL, _CREATE = 0x1, 0x4, 0x200, 0x400
_ERROR = 2
_IFF_UP = 1

_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 3, 4, 18, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_IFA_F_NODAD, _IFA_F_NOPREFIXROUTE = 0x02, 0x200
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC = 1, 4, 5, 7
_RT_TABLE_MAIN, _RTPROT_STATIC, _SCOPE_UNIVERSE, _SCOPE_LINK = 254, 4, 0, 253
_RTN_UNICAST = 1
_RTNH_F_ONLINK = 4


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute: length, kind, payload, padded to four bytes."""
    length = 4 + len(payload)
    return struct.pack("=HH", length, kind) + payload + b"\0" * (-length % 4)


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def _link(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, change)


def pack_address(address: str) -> tuple[int, bytes]:
    """The family of a textual address and its bytes in network order."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.inet_pton(family, address)


def veth_message(name: str, peer: str, peer_ns: int, mtu: int) -> bytes:
    """A veth pair: `name` here, `peer` in the network namespace behind fd `peer_ns`."""
    far = (
        _link()
        + _text(_IFLA_IFNAME, peer)
        + _number(_IFLA_MTU, mtu)
        + _number(_IFLA_NET_NS_FD, peer_ns)
    )
    info = _text(_IFLA_INFO_KIND, "veth") + attribute(
        _IFLA_INFO_DATA, attribute(_VETH_INFO_PEER, far)
    )
    return (
        _link()
        + _text(_IFLA_IFNAME, name)
        + _number(_IFLA_MTU, mtu)
        + attribute(_IFLA_LINKINFO, info)
    )


def address_message(index: int, address: str, prefix: int) -> bytes:
    """`address`/`prefix` on link `index`, without duplicate address detection."""
    family, raw = pack_address(address)
    head = struct.pack("=BBBBI", family, prefix, 0, _SCOPE_UNIVERSE, index)
    return (
        head
        + attribute(_IFA_LOCAL, raw)
        + attribute(_IFA_ADDRESS, raw)
        + _number(_IFA_FLAGS, _IFA_F_NODAD | _IFA_F_NOPREFIXROUTE)
    )


def route_message(
    destination: str,
    prefix: int,
    *,
    index: int = 0,
    gateway: str = "",
    source: str = "",
) -> bytes:
    """A route to `destination`/`prefix`; a gateway is taken to be on the link itself."""
    family, raw = pack_address(destination)
    scope = _SCOPE_LINK if not gateway and family == socket.AF_INET else _SCOPE_UNIVERSE
    head = struct.pack(
        "=BBBBBBBBI",
        family,
        prefix,
        0,
        0,
        _RT_TABLE_MAIN,
        _RTPROT_STATIC,
        scope,
        _RTN_UNICAST,
        _RTNH_F_ONLINK if gateway else 0,
    )
    body = attribute(_RTA_DST, raw) if prefix else b""
    if index:
        body += _number(_RTA_OIF, index)
    if gateway:
        body += attribute(_RTA_GATEWAY, pack_address(gateway)[1])
    if source:
        body += attribute(_RTA_PREFSRC, pack_address(source)[1])
    return head + body


class Netlink:
    """One rtnetlink socket in the network namespace of the calling process at creation."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._socket.close()

    def _request(self, kind: int, flags: int, body: bytes, what: str) -> None:
        self._sequence += 1
        head = struct.pack(
            "=IHHII", 16 + len(body), kind, _REQUEST | _ACK | flags, self._sequence, 0
        )
        self._socket.send(head + body)
        while True:
            answer = self._socket.recv(65536)
            _, answer_kind, _, sequence, _ = struct.unpack_from("=IHHII", answer)
            if sequence == self._sequence and answer_kind == _ERROR:
                number = -struct.unpack_from("=i", answer, 16)[0]
                if number:
                    raise OSError(number, f"{what}: {os.strerror(number)}")
                return

    def add_veth(self, name: str, peer: str, peer_ns: int, *, mtu: int = 1500) -> None:
        """Create a veth pair; the peer goes to the namespace behind fd `peer_ns`."""
        body = veth_message(name, peer, peer_ns, mtu)
        self._request(_RTM_NEWLINK, _CREATE | _EXCL, body, f"add veth {name}")

    def delete_link(self, name: str) -> None:
        """Delete the link `name`, and with it its peer."""
        body = _link() + _text(_IFLA_IFNAME, name)
        self._request(_RTM_DELLINK, 0, body, f"delete link {name}")

    def up(self, name: str) -> int:
        """Bring the link up; returns its index."""
        index = socket.if_nametoindex(name)
        self._request(_RTM_NEWLINK, 0, _link(index, _IFF_UP, _IFF_UP), f"link {name} up")
        return index

    def add_address(self, name: str, address: str, prefix: int) -> None:
        """Give `name` the address; no route to its prefix comes with it."""
        body = address_message(socket.if_nametoindex(name), address, prefix)
        self._request(_RTM_NEWADDR, _CREATE | _EXCL, body, f"add address {address}")

    def add_route(
        self, destination: str, prefix: int, *, link: str, gateway: str = "", source: str = ""
    ) -> None:
        """Add a route. Raises FileExistsError where one to the same range stands."""
        index = socket.if_nametoindex(link)
        body = route_message(destination, prefix, index=index, gateway=gateway, source=source)
        self._request(_RTM_NEWROUTE, _CREATE | _EXCL, body, f"add route {destination}/{prefix}")
