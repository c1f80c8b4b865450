"""The Gateway API's kinds for as long as a test needs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.stage import Stage


@contextmanager
def gateway_kinds(stage: Stage) -> Iterator[None]:
    """As `mesh install --gateway-api` brings them; gone afterwards, since other tests plan an
    upgrade of the mesh as it was."""
    stage.apply(stage.mesh("install", "--gateway-api", "--crds"))
    try:
        yield
    finally:
        names = [item["metadata"]["name"] for item in stage.get("crds")["items"]]
        ours = [name for name in names if name.endswith(".gateway.networking.k8s.io")]
        stage.kubectl("delete", "crd", *ours, "--wait=false")
