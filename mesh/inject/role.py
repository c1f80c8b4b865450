"""The webhook as a process: its parts, in the order in which they start."""

from __future__ import annotations

import asyncio
from typing import Final

from mesh.inject.events import EventWriter
from mesh.inject.reconcile import Reconciler
from mesh.inject.serving import ServingKeeper
from mesh.inject.settings import Settings
from mesh.inject.view import ClusterView
from mesh.inject.webhook import Metrics, Webhook
from mesh.kube.client import KubeClient
from mesh.kube.config import Access, find_access
from mesh.runtime.admin import make_admin, make_registry
from mesh.runtime.lifecycle import Lifecycle, Step
from mesh.runtime.web import HttpServer, Limits

LINGER: Final = 4.0  # seconds: two failed probes, and a second for every node's rules


async def run(settings: Settings, access: Access | None = None) -> int:
    """Serve until asked to end; the exit code."""
    async with KubeClient(access or find_access()) as client:
        life = Lifecycle()
        build(life, client, settings)
        return await life.run()


def build(
    life: Lifecycle,
    client: KubeClient,
    settings: Settings,
    *,
    port: int | None = None,
    admin_port: int | None = None,
    linger: float = LINGER,
) -> tuple[HttpServer, HttpServer]:
    """Put the parts together; gives the webhook's and the admin server.

    `port` and `admin_port` replace those of the settings; 0 takes a free one. For `linger`
    seconds it goes on answering once it is asked to end.
    """
    registry = make_registry()
    metrics = Metrics(registry)
    keeper = ServingKeeper(
        client,
        namespace=settings.mesh_namespace,
        cluster_domain=settings.cluster_domain,
        key_dir=settings.key_dir,
    )
    view = ClusterView(client, namespace=settings.mesh_namespace, on_webhooks=keeper.look)
    events = EventWriter(client, instance=settings.pod_name)
    reconciler = Reconciler(client, view, events.tell, registry)
    metrics.not_after.set_function(lambda: keeper.serving.not_after if keeper.serving else 0.0)
    metrics.events_lost.set_function(lambda: float(events.lost))
    host = settings.host.strip()
    server = HttpServer(
        Webhook(view, metrics, events.tell).make_app(),
        host=host,
        port=settings.port if port is None else port,
        ssl_context=keeper.context,
        limits=Limits(connections=1024),
    )
    admin = make_admin(
        waiting_for=life.waiting_for,
        registry=registry,
        host=host,
        port=settings.admin_port if admin_port is None else admin_port,
    )
    life.require("serving certificate and caBundle", lambda: keeper.ready)
    life.require("cluster state", lambda: not view.waiting_for())
    life.add("admin", start=admin.start, stop=admin.stop)
    life.add("view", run=view.run)
    life.add("events", run=events.run)
    life.add("serving", run=keeper.run)
    life.add("reconciler", run=reconciler.run)
    life.add("webhook", start=server.start, drain=_linger(server, linger), stop=server.stop)
    return server, admin


def _linger(server: HttpServer, seconds: float) -> Step:
    """Go on answering, no longer ready, until no API server is led here any more.

    Where another replica is, requests go there by then; where none is, they are refused at once
    instead of being lost on the way to a pod that is gone, for which each new pod would wait.
    """

    async def drain() -> None:
        await asyncio.sleep(seconds)
        await server.drain()

    return drain
