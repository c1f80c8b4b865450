"""/live, /ready and /metrics of a control-plane role, plus the routes that the role adds.

Read-only: nothing here stops or changes the process, and there is no profiling endpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from aiohttp import web
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from mesh.core import labels
from mesh.runtime.web import HttpServer, Limits


def make_registry() -> CollectorRegistry:
    """A registry with the metrics that each process has: memory, CPU, descriptors, collector."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def make_admin(
    *,
    waiting_for: Callable[[], Sequence[str]],
    registry: CollectorRegistry,
    routes: Iterable[web.AbstractRouteDef] = (),
    host: str = "",
    port: int = labels.CONTROL_ADMIN_PORT,
) -> HttpServer:
    """The admin server; `waiting_for` is `Lifecycle.waiting_for`."""

    async def live(_: web.Request) -> web.Response:
        return web.Response(text="live\n")

    async def ready(_: web.Request) -> web.Response:
        waiting = waiting_for()
        if waiting:
            return web.Response(status=503, text="".join(f"waiting for {w}\n" for w in waiting))
        return web.Response(text="ready\n")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST}
        )

    app = web.Application(client_max_size=64 * 1024)
    app.router.add_get("/live", live)
    app.router.add_get("/ready", ready)
    app.router.add_get("/metrics", metrics)
    app.add_routes(routes)
    return HttpServer(app, host=host, port=port, limits=Limits(connections=256))
