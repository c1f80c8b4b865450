"""`python -m identity`: settings, build, run, exit code."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from identity.events import EventWriter
from identity.issue import Trust, issue_leaf, read_key
from identity.rotation import TrustKeeper
from identity.server import CertificateService, Metrics, make_server
from identity.settings import Settings
from identity.tokens import TokenReader
from mesh.core import labels
from mesh.core.names import WorkloadId
from mesh.kube.client import KubeClient
from mesh.kube.config import find_access
from mesh.pki.csr import make_request
from mesh.runtime import logs, tls
from mesh.runtime.admin import make_admin, make_registry
from mesh.runtime.certify import Issued
from mesh.runtime.credentials import Credentials
from mesh.runtime.lifecycle import Lifecycle, run_role
from mesh.runtime.settings import load


class OwnCertifier:
    """Signs identity's own leaf, in this process."""

    def __init__(self, settings: Settings, trust: Callable[[], Trust | None]) -> None:
        self._settings = settings
        self._trust = trust

    async def certify(self, csr: str, bundle: str) -> Issued:
        return issue_leaf(
            self._trust(),
            self._settings.workload,
            read_key(csr),
            now=time.time(),
            life=self._settings.leaf_lifetime,
            mesh_namespace=self._settings.mesh_namespace,
        )


async def make_own_request(key: Path, workload: WorkloadId) -> str:
    """Key and request without a child: this process has cryptography anyway."""
    return make_request(key, workload.uri())


async def main(settings: Settings) -> int:
    """Build all parts in the order in which they start, and live until told to end."""
    kube = KubeClient(find_access())
    registry = make_registry()
    life = Lifecycle()
    events = EventWriter(kube, namespace=settings.mesh_namespace, pod_name=settings.pod_name)
    keeper = TrustKeeper(
        kube,
        workload=settings.workload,
        issuer_dir=settings.issuer_dir,
        announce=events.announce,
        on_change=lambda trust: follow(credentials, trust),
    )
    credentials = Credentials(
        workload=settings.workload,
        certifier=OwnCertifier(settings, lambda: keeper.trust),
        bundle="",
        key_dir=settings.key_dir,
        state_dir=settings.state_dir,
        mesh_namespace=settings.mesh_namespace,
        make_request=make_own_request,
    )
    metrics = Metrics(registry, lambda: keeper.trust)
    service = CertificateService(
        trust=lambda: keeper.trust,
        tokens=TokenReader(kube.token_review, trust_domain=settings.trust_domain),
        metrics=metrics,
        leaf_life=settings.leaf_lifetime,
        mesh_namespace=settings.mesh_namespace,
    )
    context = tls.rotating_server_context(
        lambda: credentials.server_context((labels.ALPN_IDENTITY,), require_client=False),
        require_client=False,
    )
    server = make_server(service, metrics, context=context, host=settings.host, port=settings.port)
    admin = make_admin(
        waiting_for=life.waiting_for,
        registry=registry,
        host=settings.host,
        port=settings.admin_port,
    )
    life.add("admin", start=admin.start, stop=admin.stop)
    life.add("kubernetes", stop=kube.close)
    life.add("events", run=events.run)
    life.add("trust", start=keeper.start, run=keeper.run)
    life.add("leaf", run=credentials.run)
    life.add("certificates", start=server.start, drain=server.drain, stop=server.stop)
    life.require("leaf", lambda: credentials.ready)
    return await life.run()


def follow(credentials: Credentials, trust: Trust) -> None:
    """Another issuer or bundle is in force: hold the bundle, and a leaf by that issuer."""
    credentials.set_bundle(trust.bundle)
    credentials.renew_now()


def start() -> int:
    async def run() -> int:
        settings = load(Settings, os.environ)
        logs.configure("identity", level=settings.log_level, form=settings.log_format)
        return await main(settings)

    return run_role(run)


if __name__ == "__main__":
    sys.exit(start())
