"""An aiohttp application on a port, with the limits that aiohttp leaves to its user.

Number of connections, time to the first request head, life of a connection, time of the TLS
handshake. For control-plane roles only: the proxy never imports aiohttp.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from mesh.runtime.listen import open_listeners

KEEPALIVE_SECONDS: Final = 75.0
_HANDSHAKE_SECONDS: Final = 5.0
_SHUTDOWN_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Limits:
    """What one client may hold. Seconds; None = no limit."""

    connections: int = 1024
    head_seconds: float = 10.0  # from connect to the first complete request head
    life_seconds: float | None = None  # of a whole connection


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
        self._servers: list[asyncio.Server] = []
        self._silent: set[Any] = set()  # handlers that have not yet seen a request
        app.middlewares.append(self._hear)

    async def start(self) -> None:
        """Listen. Raises ConfigError when the port cannot be had."""
        listeners = open_listeners(self._host, self.port)
        self.port = listeners[0].getsockname()[1]
        await self._runner.setup()
        extra: dict[str, Any] = {}
        if self._ssl is not None:
            extra["ssl_handshake_timeout"] = _HANDSHAKE_SECONDS
            extra["ssl_shutdown_timeout"] = _SHUTDOWN_SECONDS
        loop = asyncio.get_running_loop()
        for listener in listeners:
            server = await loop.create_server(
                self._accept, sock=listener, ssl=self._ssl, backlog=1024, **extra
            )
            self._servers.append(server)

    async def drain(self) -> None:
        """Take no new connection and finish the requests that run."""
        for server in self._servers:
            server.close()
        await self._runner.cleanup()

    async def stop(self) -> None:
        """Close what is left, in the middle of whatever it does."""
        for handler in self._runner.server.connections if self._runner.server else ():
            _abort(handler)
        await asyncio.sleep(0)  # the aborts
        await self.drain()

    def _accept(self) -> asyncio.BaseProtocol:
        server = self._runner.server
        assert server is not None
        if len(server.connections) >= self._limits.connections:
            return _Refused()
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


class _Refused(asyncio.Protocol):
    """One connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


def _abort(handler: Any) -> None:
    if handler.transport is not None:
        handler.transport.abort()
