"""A certificate authority for tests: root, issuer and leaves, made by the code under `mesh.pki`.

Making one costs about a millisecond; nothing is shared between tests.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from pathlib import Path

from mesh.core.names import WorkloadId
from mesh.pki.authority import Authority, make_issuer, make_root
from mesh.pki.csr import key_pem, make_key, verify_csr
from mesh.pki.leaf import LEAF_LIFE, sign_leaf
from mesh.runtime.certify import Issued


def workload(
    account: str = "web", namespace: str = "shop", trust_domain: str = "cluster.local"
) -> WorkloadId:
    return WorkloadId(trust_domain, namespace, account)


class TrustChain:
    """A root with one issuer. Also a `Certifier` that signs for one workload, `asking`."""

    __test__ = False

    def __init__(self, *, trust_domain: str = "cluster.local", now: float | None = None) -> None:
        self.now = time.time() if now is None else now
        self.root: Authority = make_root(now=self.now)
        self.issuer: Authority = make_issuer(self.root, now=self.now, trust_domain=trust_domain)
        self.bundle = self.root.certificate_pem
        self.asking = workload()
        self.life = LEAF_LIFE
        self.asked = 0
        self.skew = 0.0  # seconds that its clock is ahead

    def sign(self, whose: WorkloadId, csr: str) -> tuple[str, float]:
        return sign_leaf(
            self.issuer,
            whose,
            verify_csr(csr),
            now=time.time() + self.skew,
            ends_before=self.root.not_after,
            life=self.life,
        )

    def leaf_file(self, folder: Path, whose: WorkloadId, *, life: float = LEAF_LIFE) -> Path:
        """Key and chain of a leaf for `whose` in one PEM file, as `mesh.runtime.tls` takes it."""
        key = make_key()
        chain, _ = sign_leaf(
            self.issuer,
            whose,
            key.public_key(),
            now=self.now,
            ends_before=self.root.not_after,
            life=life,
        )
        path = folder / f"{whose.service_account[:40]}-{secrets.token_hex(8)}.pem"
        path.write_text(key_pem(key) + chain)
        return path

    def leaf_text(self) -> str:
        """Key and chain of a leaf for `asking`, as text."""
        with tempfile.TemporaryDirectory() as folder:
            return self.leaf_file(Path(folder), self.asking).read_text()

    async def certify(self, csr: str, bundle: str) -> Issued:
        self.asked += 1
        chain, end = self.sign(self.asking, csr)
        return Issued(chain=chain, bundle=self.bundle, not_after=end)
