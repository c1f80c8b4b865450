"""identity's HTTPS server on loopback, over fakes of the Kubernetes API."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client import CollectorRegistry

from identity.issue import Trust
from identity.server import CertificateService, Metrics, make_server
from identity.tokens import TokenReader
from mesh.core import labels
from mesh.core.names import WorkloadId
from mesh.pki.csr import build_csr, make_key
from mesh.runtime import tls
from mesh.runtime.certify import CERTIFICATES_PATH
from tests.identity.fakes import FakeReviewer
from tests.support.authority import TrustChain

ME = WorkloadId("cluster.local", "mesh", "mesh-identity")


class Rig:
    """A running server; `trust` may be replaced at any time."""

    def __init__(self, folder: Path, chain: TrustChain) -> None:
        self.chain = chain
        self.api = FakeReviewer()
        self.registry = CollectorRegistry()
        self.trust: Trust | None = Trust(chain.issuer, chain.root.not_after, chain.bundle)
        metrics = Metrics(self.registry, lambda: self.trust)
        self.service = CertificateService(
            trust=lambda: self.trust,
            tokens=TokenReader(self.api.review, trust_domain="cluster.local"),
            metrics=metrics,
        )
        leaf = chain.leaf_file(folder, ME)
        alpn = (labels.ALPN_IDENTITY,)
        context = tls.server_context(chain.bundle, leaf, alpn, require_client=False)
        self.server = make_server(self.service, metrics, context=context, host="127.0.0.1", port=0)
        self.client_context = tls.client_context(chain.bundle, None, alpn)
        self.csr = build_csr(make_key(), "spiffe://cluster.local/ns/any/sa/any")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def count(self, result: str) -> float:
        name = "mesh_identity_requests_total"
        return self.registry.get_sample_value(name, {"result": result}) or 0.0

    async def post(
        self, client: aiohttp.ClientSession, body: Any, *, source: str = ""
    ) -> tuple[int, dict[str, Any]]:
        """POST JSON (or bytes as they are); status and answer."""
        how: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
        url = f"https://{self.address}{CERTIFICATES_PATH}"
        async with client.post(url, ssl=self.client_context, **how) as answer:
            return answer.status, await answer.json()

    async def ask(
        self, client: aiohttp.ClientSession, token: str, csr: str | None = None
    ) -> tuple[int, dict[str, Any]]:
        return await self.post(client, {"token": token, "csr": csr or self.csr})


@contextlib.asynccontextmanager
async def serving(folder: Path, chain: TrustChain | None = None) -> AsyncIterator[Rig]:
    rig = Rig(folder, chain or TrustChain())
    await rig.server.start()
    try:
        yield rig
    finally:
        await rig.server.stop()


def session(*, source: str = "127.0.0.1") -> aiohttp.ClientSession:
    """A client that calls from `source`, one of loopback's many addresses: one pod each."""
    connector = aiohttp.TCPConnector(
        local_addr=(source, 0), limit=0, force_close=True, enable_cleanup_closed=False
    )
    return aiohttp.ClientSession(connector=connector)


def plain_context() -> ssl.SSLContext:
    """A client that takes any server and any version that Python still speaks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
