"""How long each contender needs from exec to listening."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.bench import peers
from tests.bench.processes import Proxy, free_port, start, wait_for
from tests.support.authority import TrustChain


def start_times(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Milliseconds, by contender. Ours is `python -m proxy` with nobody to talk to."""
    found: dict[str, list[float]] = {"envoy": [], "nginx": [], "haproxy": [], "lightmesh": []}
    bundle = TrustChain().bundle
    for _ in range(rounds):
        for name, launch in (
            ("envoy", peers.start_envoy),
            ("nginx", peers.start_nginx),
            ("haproxy", peers.start_haproxy),
        ):
            began = time.monotonic()
            proxy = launch(folder, 1)
            found[name].append((time.monotonic() - began) * 1000)
            proxy.stop()
        began = time.monotonic()
        proxy = _start_proxy(folder, bundle)
        found["lightmesh"].append((time.monotonic() - began) * 1000)
        proxy.stop()
    return found


def _start_proxy(folder: Path, bundle: str) -> Proxy:
    port = free_port()
    process = start(
        [sys.executable, "-m", "proxy"],
        folder,
        MESH_POD_NAME="web-1",
        MESH_POD_NAMESPACE="shop",
        MESH_POD_UID="uid",
        MESH_POD_IPS="127.0.0.1",
        MESH_SERVICE_ACCOUNT="web",
        MESH_IDENTITY_ADDRESS="127.0.0.1:1",
        MESH_DESTINATION_ADDRESS="127.0.0.1:1",
        MESH_TRUST_BUNDLE=bundle,
        MESH_KEY_DIR=str(folder),
        MESH_STATE_DIR=str(folder),
        MESH_PROXY_NATIVE_SIDECAR="enabled",
        MESH_PROXY_OUTBOUND_PORT=str(free_port()),
        MESH_PROXY_INBOUND_PORT=str(port),
        MESH_PROXY_ADMIN_PORT=str(free_port()),
    )
    wait_for(port, process)
    return Proxy("lightmesh", port, [process])
