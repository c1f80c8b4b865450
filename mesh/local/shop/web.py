"""What the shop's HTTP services share: settings from the environment and a server that drains."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator

from aiohttp import ClientSession, ClientTimeout, web

CLIENT = web.AppKey("client", ClientSession)
_DRAIN = 5.0  # seconds for requests in flight after SIGTERM


def address_of(service: str, port: int) -> str:
    """`http://service:port`, or what `<SERVICE>_URL` says."""
    return os.environ.get(f"{service.upper()}_URL", f"http://{service}:{port}")


async def _client(app: web.Application) -> AsyncIterator[None]:
    async with ClientSession(timeout=ClientTimeout(total=5)) as session:
        app[CLIENT] = session
        yield


def make_app() -> web.Application:
    """An application with a health page and an HTTP client that lives as long as it does."""
    app = web.Application()
    app.cleanup_ctx.append(_client)
    app.router.add_get("/healthz", _healthy)
    return app


async def _healthy(request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def serve(app: web.Application) -> None:
    """Serve on $PORT (8080) until SIGTERM, then finish what runs."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(_serve(app, int(os.environ.get("PORT", "8080"))))


async def _serve(app: web.Application, port: int) -> None:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_DRAIN)
    await runner.setup()
    await web.TCPSite(runner, None, port).start()
    logging.info("listening on port %d", port)
    stopped = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    await stopped.wait()
    await runner.cleanup()
