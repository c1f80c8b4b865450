"""One cluster for all end-to-end tests, with the mesh installed and the shop running."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest
import yaml

from mesh.local.shop import manifests
from tests.e2e.backends import BACKENDS, VARIABLE
from tests.e2e.stage import Stage, eventually
from tests.e2e.workloads import namespace

_numbers = itertools.count(1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A few scenarios are about what only one kind of cluster has: the other leaves them out."""
    other = "embedded" if os.environ.get(VARIABLE) == "node" else "node"
    left = [item for item in items if item.get_closest_marker(other)]
    items[:] = [item for item in items if item not in left]
    config.hook.pytest_deselected(items=left)


@pytest.fixture(scope="package")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The cluster with nothing in it."""
    backend = BACKENDS[os.environ.get(VARIABLE, "")]
    with backend(tmp_path_factory.mktemp("cluster")) as stage:
        yield stage


@pytest.fixture(scope="package")
def stage(bare: Stage) -> Stage:
    """The cluster with the mesh and the shop, both in order."""
    bare.apply(bare.mesh("install", *bare.install_flags))
    bare.mesh("check", "--wait", "60s")
    bare.apply(yaml.safe_dump_all(manifests.shop(bare.image)))
    for deployment in bare.get("deployments", "-n", "shop")["items"]:
        name = deployment["metadata"]["name"]
        bare.kubectl("rollout", "status", f"deployment/{name}", "-n", "shop", "--timeout=120s")
    eventually(lambda: bare.load("/stats")["ok"] > 20)
    return bare


@pytest.fixture
def space(stage: Stage) -> Iterator[str]:
    """A namespace of the test's own whose pods are meshed."""
    with namespace(stage, f"space-{next(_numbers)}") as name:
        yield name
