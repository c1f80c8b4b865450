"""`python -m destination`: settings, build, run, exit code."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

from destination.endpoints import Cluster
from destination.live import LiveCluster
from destination.metrics import Metrics
from destination.reports import ReportKeeper
from destination.server import StreamServer
from destination.settings import Settings
from destination.snapshot import Reach, Snapshot
from destination.status_writer import StatusWriter
from destination.store import Store
from destination.viewer import ViewerRoutes
from mesh.core import labels
from mesh.core.report import ProxiesAnswer
from mesh.kube.client import KubeClient
from mesh.kube.config import find_access
from mesh.kube.lease import Lease
from mesh.runtime import logs
from mesh.runtime.admin import make_admin, make_registry
from mesh.runtime.bundle import hash_bundle
from mesh.runtime.credentials import Credentials
from mesh.runtime.lifecycle import Lifecycle, run_role
from mesh.runtime.settings import load


async def main(settings: Settings) -> int:
    """Build all parts in the order in which they start, and live until told to end."""
    kube = KubeClient(find_access())
    registry = make_registry()
    metrics = Metrics(registry)
    life = Lifecycle()
    store = Store(cluster_domain=settings.cluster_domain, mesh_namespace=settings.mesh_namespace)
    cluster = Cluster(settings.trust_domain, settings.mesh_namespace, settings.cluster_domain)
    live = LiveCluster(kube, store, cluster, metrics)
    credentials = Credentials.from_settings(settings)
    reports = ReportKeeper(asyncio.get_running_loop().time)
    server = StreamServer(
        store=store,
        snapshot=live.snapshot,
        credentials=credentials,
        metrics=metrics,
        read_pod=live.read_pod,
        keep_report=reports.keep,
        trust_domain=settings.trust_domain,
        host=settings.host,
        port=settings.port,
    )
    lease = Lease(
        kube,
        namespace=settings.mesh_namespace,
        name=labels.STATUS_LEASE,
        holder=settings.pod_name,
    )
    writer = StatusWriter(kube, live, lease)
    live.on_snapshot(server.publish)
    live.on_snapshot(lambda _, reach: writer.changed(reach.objects))
    live.on_snapshot(_follow_bundle(credentials))
    viewer = ViewerRoutes(
        review=kube.token_review,
        reports=reports,
        proxies=lambda: ProxiesAnswer(
            hash_bundle(server.snapshot.bundle), server.proxy_statuses(), live.watch_statuses()
        ),
        ask=server.ask,
        mesh_namespace=settings.mesh_namespace,
    )
    admin = make_admin(
        waiting_for=life.waiting_for,
        registry=registry,
        routes=viewer.routes(),
        host=settings.host,
        port=settings.admin_port,
    )
    life.add("admin", start=admin.start, stop=admin.stop)
    life.add("kubernetes", stop=kube.close)
    life.add("leaf", run=credentials.run)
    life.add("cluster", run=live.run)
    life.add("first lists", start=live.wait_until_synced)
    life.add("streams", start=server.start, drain=server.drain, stop=server.stop)
    life.add("lease", run=lease.run, drain=lease.release)
    life.add("status", run=writer.run)
    life.require("leaf", lambda: credentials.ready)
    life.require("lists", live.synced.is_set)
    return await life.run()


def _follow_bundle(credentials: Credentials) -> Callable[[Snapshot, Reach], None]:
    def follow(snapshot: Snapshot, reach: Reach) -> None:
        if reach.bundle and snapshot.bundle:
            credentials.set_bundle(snapshot.bundle)

    return follow


def start() -> int:
    async def run() -> int:
        settings = load(Settings, os.environ)
        logs.configure("destination", level=settings.log_level, form=settings.log_format)
        return await main(settings)

    return run_role(run)


if __name__ == "__main__":
    sys.exit(start())
