"""Identity's own leaf: signed in this process, and renewed whenever issuer or bundle change."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from identity.issue import Trust, issue_leaf, read_key
from mesh.core.names import WorkloadId
from mesh.pki.csr import make_request
from mesh.pki.leaf import LEAF_LIFE
from mesh.runtime.certify import Issued
from mesh.runtime.credentials import Credentials


class OwnCertifier:
    """Signs identity's own leaf, in this process."""

    def __init__(
        self,
        workload: WorkloadId,
        trust: Callable[[], Trust | None],
        *,
        life: float = LEAF_LIFE,
    ) -> None:
        self._workload = workload
        self._trust = trust
        self._life = life

    async def certify(self, csr: str, bundle: str) -> Issued:
        return issue_leaf(
            self._trust(),
            self._workload,
            read_key(csr),
            now=time.time(),
            life=self._life,
            mesh_namespace=self._workload.namespace,
        )


async def make_own_request(key: str, workload: WorkloadId) -> str:
    """Key and request without a child: this process has cryptography anyway."""
    return make_request(Path(key), workload.uri())


def follow(credentials: Credentials, trust: Trust) -> None:
    """Another issuer or bundle is in force: hold the bundle, and a leaf by that issuer."""
    credentials.set_bundle(trust.bundle)
    credentials.renew_now()
