"""One embedded cluster for the tests of this folder that need a real one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from mesh.local import cluster
from mesh.local.demo import find_kubectl
from tests.local.node.machine import Machine


@pytest.fixture
def root() -> None:
    """Skips with one clear line where the test cannot run."""
    if os.geteuid() != 0:
        pytest.skip("needs root: makes network namespaces")


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The cluster, shared by tests that leave only objects of their own names behind."""
    if os.geteuid() != 0:
        pytest.skip("needs root: makes namespaces for an embedded cluster")
    kubectl = find_kubectl()
    if kubectl is None:
        pytest.skip("needs kubectl 1.28 or newer in PATH")
    state = tmp_path_factory.mktemp("node")
    found = cluster.up(state)
    try:
        yield Machine(found, kubectl)
    finally:
        cluster.down(state)
