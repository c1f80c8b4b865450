"""An aiohttp application on a port, with the limits that aiohttp leaves to its user.

Number of connections, and how often one address may connect, both decided before the TLS
handshake; its time; time to the first request head; life of a connection. For control-plane
roles only: the proxy never imports aiohttp.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from mesh.runtime.buckets import Buckets
from mesh.runtime.listen import open_listeners

KEEPALIVE_SECONDS: Final = 75.0
_HANDSHAKE_SECONDS: Final = 10.0
_SHUTDOWN_SECONDS: Final = 1.0
_ACCEPT_PAUSE: Final = 0.1  # after accept itself has failed: no descriptors left

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What one client may hold. Seconds; None = no limit."""

    connections: int = 1024
    head_seconds: float = 10.0  # from connect to the first complete request head
    life_seconds: float | None = None  # of a whole connection
    address_rate: float = 200.0  # connections a second from one address
    address_burst: int = 1000


class HttpServer:
    """Serves `app`; the sockets listen from `start` to `drain`."""

    def __init__(
        self,
        app: web.Application,
        *,
        port: int,
        host: str = "",
        ssl_context: ssl.SSLContext | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.port = port  # the real one after start
        self._host = host
        self._ssl = ssl_context
        self._limits = limits or Limits()
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=KEEPALIVE_SECONDS)
        self._addresses = Buckets(rate=self._limits.address_rate, burst=self._limits.address_burst)
        self._listeners: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._opening: set[asyncio.Task[None]] = set()  # in their handshake
        self._silent: set[Any] = set()  # handlers that have not yet seen a request
        app.middlewares.append(self._hear)

    async def start(self) -> None:
        """Listen. Raises ConfigError when the port cannot be had."""
        self._listeners = open_listeners(self._host, self.port)
        self.port = self._listeners[0].getsockname()[1]
        await self._runner.setup()
        for listener in self._listeners:
            self._accepting.append(asyncio.create_task(self._accept(listener)))

    async def drain(self) -> None:
        """Take no new connection and finish the requests that run."""
        tasks = [*self._accepting, *self._opening]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for listener in self._listeners:
            listener.close()
        self._accepting.clear()
        await self._runner.cleanup()

    async def stop(self) -> None:
        """Close what is left, in the middle of whatever it does."""
        for handler in self._runner.server.connections if self._runner.server else ():
            _abort(handler)
        await asyncio.sleep(0)  # the aborts
        await self.drain()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listener)
            except OSError as error:
                log.warning("accept failed error=%s", error)
                await asyncio.sleep(_ACCEPT_PAUSE)
                continue
            if self._is_welcome(address[0]):
                task = loop.create_task(self._open(connection))
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)
            else:
                connection.close()

    def _is_welcome(self, address: str) -> bool:
        server = self._runner.server
        busy = len(self._opening) + (len(server.connections) if server else 0)
        return (
            busy < self._limits.connections
            and self._addresses.take(address, time.monotonic()) == 0.0
        )

    async def _open(self, connection: socket.socket) -> None:
        extra: dict[str, Any] = {}
        if self._ssl is not None:
            extra["ssl_handshake_timeout"] = _HANDSHAKE_SECONDS
            extra["ssl_shutdown_timeout"] = _SHUTDOWN_SECONDS
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                self._make_handler, connection, ssl=self._ssl, **extra
            )
        except OSError as error:  # SSLError is one
            log.debug("handshake failed error=%s", error)
            connection.close()

    def _make_handler(self) -> asyncio.BaseProtocol:
        server = self._runner.server
        assert server is not None
        handler = server()
        loop = asyncio.get_running_loop()
        self._silent.add(handler)
        loop.call_later(self._limits.head_seconds, self._close_silent, handler)
        if self._limits.life_seconds is not None:
            loop.call_later(self._limits.life_seconds, _abort, handler)
        return handler

    def _close_silent(self, handler: Any) -> None:
        if handler in self._silent:
            self._silent.discard(handler)
            _abort(handler)

    @web.middleware
    async def _hear(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        self._silent.discard(request.protocol)
        return await handler(request)


def _abort(handler: Any) -> None:
    if handler.transport is not None:
        handler.transport.abort()
