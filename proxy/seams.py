"""The shapes that the parts of the data path expect of each other.

Everything that carries bytes, a plain socket, a TLS link, an HTTP/2 stream or a fake in a
test, looks like `Transport`; everything that takes bytes from one looks like `Receiver`.
Everything that an exchange talks to is a `ClientSide` or a `ServerSide`, whichever framing
is behind it. Discovery and credentials are seen only through the Protocols here.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from mesh.core.model import Service, Target, Update, View
from mesh.core.names import join_address
from mesh.core.report import Report


class Receiver(Protocol):
    """What a transport calls (the shape of asyncio.Protocol, without being one)."""

    def connection_made(self, transport: Any, /) -> None: ...
    def data_received(self, data: bytes, /) -> None: ...
    def eof_received(self) -> bool | None: ...
    def connection_lost(self, error: BaseException | None, /) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class Transport(Protocol):
    """What bytes are written to. Guard writes with `is_closing`: uvloop raises once closed."""

    def write(self, data: bytes, /) -> None: ...
    def write_eof(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def is_closing(self) -> bool: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def set_protocol(self, protocol: Any, /) -> None: ...
    def get_extra_info(self, name: str, /) -> Any: ...


def peer_address(transport: Transport) -> str:
    """`ip:port` of the far end, for logs; v4-mapped addresses in their plain form."""
    peer = transport.get_extra_info("peername")
    if not peer:
        return "-"
    return join_address(plain_address(peer[0]), peer[1])


def plain_address(host: str) -> str:
    """An address without the v4-mapped form and the zone of a dual-stack socket."""
    return host.removeprefix("::ffff:") if "." in host else host.partition("%")[0]


class Discovery(Protocol):
    """What the data path uses of `proxy.discovery.Discovery`."""

    view: View
    ready: bool

    def lookup(self, address: str, done: Callable[[Target | None], None]) -> None: ...
    def service(self, authority: str) -> Service | None: ...
    def on_change(self, callback: Callable[[View, Update], None]) -> None: ...
    def connect_failed(self, address: str, authority: str, reason: str) -> None: ...
    def send_report(self, report: Report) -> None: ...


class Credentials(Protocol):
    """What the data path uses of `mesh.runtime.credentials.Credentials`."""

    identity: str
    bundle: str
    not_after: float
    ready: bool

    def client_context(self, alpn: Sequence[str]) -> ssl.SSLContext: ...
    def server_context(self, alpn: Sequence[str]) -> ssl.SSLContext: ...
    def on_change(self, callback: Callable[[], None]) -> None: ...
