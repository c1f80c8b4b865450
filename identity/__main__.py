"""`python -m identity`: settings, build, run, exit code."""

from __future__ import annotations

import logging
import os
import sys
from typing import Final

from identity.events import EventWriter
from identity.own import OwnCertifier, follow, make_own_request
from identity.rotation import TrustKeeper
from identity.server import CertificateService, Metrics, make_server
from identity.settings import Settings
from identity.tokens import TokenReader
from mesh.core import labels
from mesh.core.errors import ApiError, ConfigError
from mesh.kube.client import KubeClient
from mesh.kube.config import find_access
from mesh.runtime import logs, tls
from mesh.runtime.admin import make_admin, make_registry
from mesh.runtime.credentials import Credentials
from mesh.runtime.lifecycle import Lifecycle, run_role
from mesh.runtime.settings import load

_REVIEWS: Final = "tokenreviews.authentication.k8s.io"

log = logging.getLogger(__name__)


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
        certifier=OwnCertifier(
            settings.workload, lambda: keeper.trust, life=settings.leaf_lifetime
        ),
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
    life.add("kubernetes", start=lambda: check_rights(kube), stop=kube.close)
    life.add("events", run=events.run, drain=events.drain)
    life.add("trust", start=keeper.start, run=keeper.run)
    life.add("leaf", run=credentials.run)
    life.add("certificates", start=server.start, drain=server.drain, stop=server.stop)
    life.require("leaf", lambda: credentials.ready)
    return await life.run()


async def check_rights(kube: KubeClient) -> None:
    """Refuse to start where no token can be reviewed. Raises ConfigError."""
    try:
        allowed = await kube.can_i("create", _REVIEWS)
    except ApiError as error:
        log.warning("rights not checked error=%s", error.message)
        return
    if not allowed:
        raise ConfigError(
            f"service account {labels.IDENTITY}: expected the right to create {_REVIEWS}; "
            "apply the output of mesh install"
        )


def start() -> int:
    async def run() -> int:
        settings = load(Settings, os.environ)
        logs.configure("identity", level=settings.log_level, form=settings.log_format)
        return await main(settings)

    return run_role(run)


if __name__ == "__main__":
    sys.exit(start())
