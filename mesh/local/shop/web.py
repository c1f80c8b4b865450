"""What the shop's HTTP services share: settings from the environment and a server that drains."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator

from aiohttp import ClientSession, ClientTimeout, web
from aiohttp.typedefs import Handler

CLIENT = web.AppKey("client", ClientSession)
_DRAIN = 5.0  # seconds for requests in flight after SIGTERM
_HEARD = 0.5  # seconds in which those who are connected learn that it ends
_LEAVING = web.AppKey("leaving", asyncio.Event)


def address_of(service: str, port: int) -> str:
    """`http://service:port`, or what `<SERVICE>_URL` says."""
    return os.environ.get(f"{service.upper()}_URL", f"http://{service}:{port}")


async def _client(app: web.Application) -> AsyncIterator[None]:
    async with ClientSession(timeout=ClientTimeout(total=5)) as session:
        app[CLIENT] = session
        yield


def make_app() -> web.Application:
    """An application with a health page and an HTTP client that lives as long as it does."""
    app = web.Application(middlewares=[_say_goodbye])
    app[_LEAVING] = asyncio.Event()
    app.cleanup_ctx.append(_client)
    app.router.add_get("/healthz", _healthy)
    return app


@web.middleware
async def _say_goodbye(request: web.Request, handler: Handler) -> web.StreamResponse:
    """From SIGTERM on each response is its connection's last."""
    response = await handler(request)
    if request.app[_LEAVING].is_set():
        response.force_close()
    return response


async def _healthy(request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def serve(app: web.Application) -> None:
    """Serve on $PORT (8080) until SIGTERM, then finish what runs and what is on its way."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(_serve(app, int(os.environ.get("PORT", "8080"))))


async def _serve(app: web.Application, port: int) -> None:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_DRAIN)
    await runner.setup()
    site = web.TCPSite(runner, None, port)
    await site.start()
    logging.info("listening on port %d", port)
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, app[_LEAVING].set)
    await app[_LEAVING].wait()
    await site.stop()
    await asyncio.sleep(_HEARD)  # aiohttp drops what arrives while it closes a connection
    await runner.cleanup()
