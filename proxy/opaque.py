"""Bytes both ways between two connections, half-close kept, each end pausing the other.

Small talk goes through the transports. Where a lot flows between two plaintext sockets the
kernel moves it (`splice`); TLS needs the bytes.
"""

from __future__ import annotations

import socket
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any, Final

from proxy.seams import CLOSED, Transport
from proxy.splice import Splice

BULK: Final = 512 * 1024  # bytes of one direction after which the kernel may take over
LARGE: Final = 16 * 1024  # bytes of a read that looks like bulk
_TCP_CLOSE: Final = 7  # linux/tcp_states.h
_SETTLE: Final = 0.001  # seconds between two looks at whether a side has come to rest


class End:
    """The receiver of one of the two transports; what it receives goes to `far`."""

    __slots__ = (
        "_is_paused",
        "_splice",
        "_tunnel",
        "far",
        "is_ended",
        "is_lost",
        "may_splice",
        "near",
        "read_bytes",
        "written_bytes",
    )

    def __init__(self, tunnel: Tunnel, near: Transport) -> None:
        self._tunnel = tunnel
        self._splice: Splice | None = None
        self.near = near
        self.far: End
        self.is_ended = False  # this side has said its last byte
        self.is_lost = False
        self.may_splice = False
        self._is_paused = False
        self.read_bytes = 0
        self.written_bytes = 0

    def connection_made(self, transport: Any) -> None: ...

    def data_received(self, data: bytes) -> None:
        size = len(data)
        self.read_bytes += size
        far = self.far
        if not far.near.is_closing():
            far.written_bytes += size
            far.near.write(data)
            if self.may_splice and size >= LARGE and self.read_bytes >= BULK:
                self.may_splice = False
                self.near.pause_reading()
                self._settle()

    def eof_received(self) -> bool:
        self.is_ended = True
        far = self.far
        if far.is_ended:
            far.near.close()
            self.near.close()
        elif not far.near.is_closing():
            far.near.write_eof()
        return True

    def connection_lost(self, error: BaseException | None) -> None:
        self.is_lost = True
        self._stop()
        far = self.far
        far._stop()
        if not far.is_lost:
            if error is not None or not self.is_ended:
                far.near.abort()
            else:
                far.near.close()
        self._tunnel.lost(self, error)
        self.near = CLOSED  # the two ends and their tunnel know each other

    def pause_writing(self) -> None:
        far = self.far
        if not far.near.is_closing():
            far._is_paused = True
            far.near.pause_reading()

    def resume_writing(self) -> None:
        far = self.far
        if not far.near.is_closing() and far._splice is None:
            far._is_paused = False
            far.near.resume_reading()

    def is_reset(self) -> bool:
        """Whether a side that nobody reads from has been reset meanwhile, which no event
        tells. Asked now and then."""
        if self.is_lost or not (self._is_paused or self._splice is not None):
            return False
        sock = self.near.get_extra_info("socket")
        state: bytes = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        return state[0] == _TCP_CLOSE

    # -- bulk --------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Let the kernel take over once the far side has sent all that was written to it."""
        near, far = self.near, self.far.near
        if self.is_lost or near.is_closing() or far.is_closing():
            return
        near.pause_reading()
        if far.get_write_buffer_size():
            self._tunnel.loop.call_later(_SETTLE, self._settle)
            return
        try:
            self._splice = Splice(
                self._tunnel.loop,
                near.get_extra_info("socket"),
                far.get_extra_info("socket"),
                moved=self._moved,
                ended=self._ended,
                failed=self._failed,
            )
        except OSError:
            near.resume_reading()  # no descriptors left: go on as before

    def _moved(self, size: int) -> None:
        self.read_bytes += size
        self.far.written_bytes += size

    def _ended(self) -> None:
        self._splice = None
        self.eof_received()

    def _failed(self, error: OSError) -> None:
        self._splice = None
        self._tunnel.abort()

    def _stop(self) -> None:
        splice, self._splice = self._splice, None
        if splice is not None:
            splice.close()


class Tunnel:
    """Two ends joined. `over` is called once, when both are gone, with the first error."""

    __slots__ = ("_error", "_over", "client", "loop", "server")

    def __init__(
        self,
        loop: AbstractEventLoop,
        client: Transport,
        server: Transport,
        over: Callable[[Tunnel, BaseException | None], None],
    ) -> None:
        self.loop = loop
        self.client = End(self, client)
        self.server = End(self, server)
        self.client.far = self.server
        self.server.far = self.client
        self._over: Callable[[Tunnel, BaseException | None], None] | None = over
        self._error: BaseException | None = None
        is_plain = client.get_extra_info("socket") and server.get_extra_info("socket")
        if is_plain and not any(t.get_extra_info("ssl_object") for t in (client, server)):
            self.client.may_splice = self.server.may_splice = True

    def lost(self, end: End, error: BaseException | None) -> None:
        self._error = self._error or error
        if self.client.is_lost and self.server.is_lost and self._over is not None:
            over, self._over = self._over, None
            over(self, self._error)

    def check(self) -> None:
        """Called every second."""
        if self.client.is_reset() or self.server.is_reset():
            self.abort()

    def abort(self) -> None:
        self.client.near.abort()
        self.server.near.abort()
