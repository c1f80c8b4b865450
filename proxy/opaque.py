"""Bytes both ways between two connections, half-close kept, each end pausing the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proxy.seams import Transport


class End:
    """The receiver of one of the two transports; what it receives goes to `far`."""

    __slots__ = ("_tunnel", "far", "is_ended", "is_lost", "near", "read_bytes", "written_bytes")

    def __init__(self, tunnel: Tunnel, near: Transport) -> None:
        self._tunnel = tunnel
        self.near = near
        self.far: End
        self.is_ended = False  # this side has said its last byte
        self.is_lost = False
        self.read_bytes = 0
        self.written_bytes = 0

    def connection_made(self, transport: Any) -> None: ...

    def data_received(self, data: bytes) -> None:
        self.read_bytes += len(data)
        far = self.far
        if not far.near.is_closing():
            far.written_bytes += len(data)
            far.near.write(data)

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
        far = self.far
        if not far.is_lost:
            if error is not None or not self.is_ended:
                far.near.abort()
            else:
                far.near.close()
        self._tunnel.lost(self, error)

    def pause_writing(self) -> None:
        far = self.far.near
        if not far.is_closing():
            far.pause_reading()

    def resume_writing(self) -> None:
        far = self.far.near
        if not far.is_closing():
            far.resume_reading()


class Tunnel:
    """Two ends joined. `over` is called once, when both are gone, with the first error."""

    __slots__ = ("_error", "_over", "client", "server")

    def __init__(
        self,
        client: Transport,
        server: Transport,
        over: Callable[[Tunnel, BaseException | None], None],
    ) -> None:
        self.client = End(self, client)
        self.server = End(self, server)
        self.client.far = self.server
        self.server.far = self.client
        self._over: Callable[[Tunnel, BaseException | None], None] | None = over
        self._error: BaseException | None = None

    def lost(self, end: End, error: BaseException | None) -> None:
        self._error = self._error or error
        if self.client.is_lost and self.server.is_lost and self._over is not None:
            over, self._over = self._over, None
            over(self, self._error)

    def abort(self) -> None:
        self.client.near.abort()
        self.server.near.abort()
