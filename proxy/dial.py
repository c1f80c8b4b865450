"""Open a connection to an endpoint: TCP, then TLS with the identity that we expect, in time.

One task per connection, never per request. The caller gets exactly one call back: with an
open transport, or with a fixed word that says why not.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mesh.core.errors import IdentityError
from mesh.runtime import tls as mesh_tls
from proxy.seams import Credentials, Transport
from proxy.sessions import Sessions
from proxy.tls import Flusher, TlsLink

log = logging.getLogger(__name__)

Opened = Callable[[Transport], None]
Failed = Callable[[str], None]
WRITE_HIGH = 64 * 1024  # bytes of unsent data after which the other side is paused
TICKET_SECONDS = 1.0  # after a handshake, when the server's ticket has come


@dataclass(frozen=True, slots=True)
class Mesh:
    """That the other end is a proxy of ours: who it must be, and what is inside."""

    identity: str
    alpn: tuple[str, ...]


class Dial:
    """One attempt. `cancel` stops it without a call back."""

    __slots__ = (
        "_dialler",
        "_failed",
        "_is_second",
        "_mesh",
        "_opened",
        "_place",
        "_task",
        "_timer",
        "_transport",
    )

    def __init__(self, dialler: Dialler, mesh: Mesh | None, opened: Opened, failed: Failed) -> None:
        self._dialler = dialler
        self._mesh = mesh
        self._opened: Opened | None = opened
        self._failed: Failed | None = failed
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._transport: Transport | None = None  # in the middle of its handshake
        self._place = ("", 0)
        self._is_second = False

    def start(self, host: str, port: int) -> None:
        self._place = (host, port)
        loop = self._dialler.loop
        self._timer = loop.call_later(self._dialler.timeout, self._late)
        self._task = loop.create_task(self._run(host, port))

    def cancel(self) -> None:
        self._opened = self._failed = None
        self._finish()
        if self._task is not None:
            self._task.cancel()

    async def _run(self, host: str, port: int) -> None:
        context: ssl.SSLContext | None = None
        try:
            if self._mesh is not None:
                context = self._dialler.credentials.client_context(self._mesh.alpn)
            await self._dialler.loop.create_connection(lambda: self._receiver(context), host, port)
        except IdentityError:
            self._fail("no-credentials")
        except OSError as error:
            log.debug("connect failed to=%s port=%s error=%s", host, port, error)
            self._fail("connect-failed")

    def _receiver(self, context: ssl.SSLContext | None) -> Any:
        if context is None or self._mesh is None:
            return _First(self, None)
        link = TlsLink(
            context,
            self._dialler.flusher,
            self._secured,
            server_name=mesh_tls.server_name(self._mesh.identity),
            session=self._dialler.sessions.offer(
                (self._place, self._mesh), self._mesh.alpn, context
            ),
        )
        return _First(self, link)

    def connected(self, transport: Any, link: TlsLink | None) -> None:
        """TCP is there."""
        sock: socket.socket = transport.get_extra_info("socket")
        if self._opened is None:
            transport.abort()  # too late
            return
        if sock.fileno() >= self._dialler.fd_limit:
            transport.abort()
            self._fail("too-many-files")
            return
        set_options(transport)
        if link is None:
            self.succeed(transport)
            return
        self._transport = transport
        transport.set_protocol(link)
        link.connection_made(transport)

    def _secured(self, link: TlsLink, error: BaseException | None) -> None:
        self._transport = None  # the link's, with all that it still says
        if error is not None:
            if mesh_tls.was_plaintext(error) and self._opened is not None and not self._is_second:
                # Our hello was late, as on a starved node, and the proxy there had asked its
                # application, which speaks first: once more.
                self._is_second = True
                self._task = self._dialler.loop.create_task(self._run(*self._place))
            else:
                self._fail(mesh_tls.failure_reason(error))
            return
        assert self._mesh is not None
        identity = mesh_tls.peer_identity(link.ssl, mesh_namespace=self._dialler.mesh_namespace)
        if identity != self._mesh.identity:
            link.abort()
            self._fail("wrong-identity")
        elif link.ssl.selected_alpn_protocol() not in self._mesh.alpn:
            link.abort()
            self._fail("wrong-protocol")
        else:
            if not link.ssl.session_reused:
                self._dialler.loop.call_later(TICKET_SECONDS, self._remember, link.ssl)
            self.succeed(link)

    def _remember(self, link: ssl.SSLObject) -> None:
        assert self._mesh is not None
        dialler = self._dialler
        now = dialler.loop.time()
        dialler.sessions.learn((self._place, self._mesh), self._mesh.alpn, link, now)

    def succeed(self, transport: Transport) -> None:
        opened = self._opened
        self._finish()
        if opened is None:
            transport.abort()
        else:
            opened(transport)

    def _late(self) -> None:
        task = self._task
        self._fail("connect-timeout")
        if task is not None:
            task.cancel()

    def _fail(self, reason: str) -> None:
        failed = self._failed
        self._finish()
        if failed is not None:
            failed(reason)

    def _finish(self) -> None:
        self._opened = self._failed = None
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()  # nobody waits for the end of its handshake
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _First:
    """The first receiver of a connection, which hands it over as soon as it is there."""

    __slots__ = ("_dial", "_link")

    def __init__(self, dial: Dial, link: TlsLink | None) -> None:
        self._dial = dial
        self._link = link

    def connection_made(self, transport: Any) -> None:
        self._dial.connected(transport, self._link)

    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> bool | None: ...
    def connection_lost(self, error: BaseException | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class Dialler:
    """Opens connections on behalf of one proxy."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        credentials: Credentials,
        flusher: Flusher,
        *,
        timeout: float,
        mesh_namespace: str,
    ) -> None:
        self.loop = loop
        self.credentials = credentials
        self.flusher = flusher
        self.timeout = timeout
        self.mesh_namespace = mesh_namespace
        self.fd_limit = 1 << 30  # descriptors from this one on are kept for others
        self.sessions = Sessions()

    def dial(self, host: str, port: int, mesh: Mesh | None, opened: Opened, failed: Failed) -> Dial:
        """Start to connect; `mesh` None means plaintext. Calls back from a later loop turn."""
        attempt = Dial(self, mesh, opened, failed)
        attempt.start(host, port)
        return attempt


def set_options(transport: Any) -> None:
    """What every socket of the data path gets: no delay, keep-alive, small write buffer.

    A machine that is gone is missed 19 seconds after its last sign of life, where nothing is on
    its way to it; for what is on its way see `limit_silence`.
    """
    sock: socket.socket = transport.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    transport.set_write_buffer_limits(high=WRITE_HIGH)


def limit_silence(transport: Transport, seconds: float) -> None:
    """End a connection whose other end has acknowledged nothing for so long (RFC 5482).

    The kernel alone goes on for a quarter of an hour. It counts a window of zero as silence too,
    so that this is for those who have to read: not for bytes that nobody parses.
    """
    sock: socket.socket = transport.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
