"""One embedded cluster for all end-to-end tests, with the mesh installed and the shop running."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import yaml

from mesh.inject.config import DEFAULT_IMAGE
from mesh.local import cluster
from mesh.local.demo import find_kubectl
from mesh.local.shop import manifests
from tests.e2e.stage import Stage, eventually


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The cluster with nothing in it."""
    kubectl = find_kubectl()
    if os.geteuid() != 0:
        pytest.skip("end-to-end tests make network namespaces: run them as root")
    if kubectl is None:
        pytest.skip("end-to-end tests need kubectl 1.28 or newer in PATH")
    state = tmp_path_factory.mktemp("cluster")
    info = cluster.up(state=state)
    try:
        yield Stage(info.kubeconfig, state, kubectl)
    finally:
        cluster.down(state)


@pytest.fixture(scope="session")
def stage(bare: Stage) -> Stage:
    """The cluster with the mesh and the shop, both in order."""
    bare.apply(bare.mesh("install"))
    bare.mesh("check", "--wait", "60s")
    bare.apply(yaml.safe_dump_all(manifests.shop(DEFAULT_IMAGE)))
    bare.kubectl(
        "wait", "--for=condition=Available", "deploy", "--all", "-n", "shop", "--timeout=90s"
    )
    eventually(lambda: bare.load("/stats")["ok"] > 20)
    return bare
