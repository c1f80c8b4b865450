"""The API server as an aiohttp application, and the one way to serve it. A shell."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from socket import socket
from typing import Final

from aiohttp import web

from mesh.local.api.authn import Authenticator
from mesh.local.api.bodies import MAX_BODY
from mesh.local.api.certs import Files
from mesh.local.api.front import Front
from mesh.local.api.handlers import Handlers
from mesh.local.api.proxying import Forwarder
from mesh.local.api.reviews import Reviews
from mesh.local.api.server import Api
from mesh.local.api.tokens import Signer

SHUTDOWN: Final = 2.0  # seconds that open requests get at the end


def build(api: Api, signer: Signer, *, admin_token: str = "") -> web.Application:
    """The application over one Api. `admin_token`, if given, stands for the administrator."""
    auth = Authenticator(api.store, signer, admin_token=admin_token)
    forwarder = Forwarder(api.store)
    handlers = Handlers(api, Reviews(api.store, auth, signer), forwarder)
    front = Front(handlers, auth, signer, api.store.registry)
    application = web.Application(client_max_size=MAX_BODY)
    application.router.add_route("*", "/{path:.*}", front.handle)

    async def begin_shutdown(_: web.Application) -> None:
        handlers.close()

    async def clean_up(_: web.Application) -> None:
        await forwarder.close()

    application.on_shutdown.append(begin_shutdown)
    application.on_cleanup.append(clean_up)
    return application


def server_context(files: Files) -> ssl.SSLContext:
    """TLS with the server's certificate; client certificates of the cluster CA are taken."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.server, files.server_key)
    context.load_verify_locations(files.ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    return context


@contextlib.asynccontextmanager
async def serve(
    application: web.Application, sockets: Sequence[socket], context: ssl.SSLContext
) -> AsyncIterator[None]:
    """Serve on bound sockets while the block runs; watches end when it does."""
    runner = web.AppRunner(
        application, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN
    )
    await runner.setup()
    try:
        for listener in sockets:
            await web.SockSite(runner, listener, ssl_context=context, backlog=512).start()
        yield
    finally:
        await asyncio.shield(runner.cleanup())
