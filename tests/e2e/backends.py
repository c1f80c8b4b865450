"""Where the end-to-end tests run: on the embedded cluster, or on a whole Kubernetes node.

`MESH_E2E_ON=node` (set by `make test-cluster`) chooses the node. There a missing condition is
a failure: nobody asks for a node without meaning it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from mesh.inject.config import DEFAULT_IMAGE
from mesh.local import cluster
from mesh.local.demo import find_kubectl
from tests.cluster.cache import BuildError
from tests.cluster.images import mesh_image, previous_image
from tests.cluster.node import lifecycle
from tests.e2e.stage import Stage
from tests.support.previous import packages_of, previous_release

VARIABLE = "MESH_E2E_ON"
NODE = "e2e"  # its name; one that runs already is used and kept


@contextmanager
def embedded(folder: Path) -> Iterator[Stage]:
    """The cluster of `mesh local up`."""
    kubectl = find_kubectl()
    if os.geteuid() != 0:
        pytest.skip("end-to-end tests make network namespaces: run them as root")
    if kubectl is None:
        pytest.skip("end-to-end tests need kubectl 1.28 or newer in PATH")
    state = folder / "state"
    release = previous_release()
    older = DEFAULT_IMAGE.rpartition(":")[0] + f":{release.version}"
    try:
        images, problem = {older: packages_of(release)}, ""
    except BuildError as error:
        images, problem = {}, str(error)

    def previous() -> str:
        if problem:
            raise BuildError(problem)
        return older

    info = cluster.up(state, cluster.Options(images=images))
    try:
        yield Stage(info.kubeconfig, kubectl, DEFAULT_IMAGE, previous=previous)
    finally:
        cluster.down(state)


@contextmanager
def node(_: Path, name: str = NODE) -> Iterator[Stage]:
    """A whole Kubernetes node with our image of the sources as they are."""
    kubectl = find_kubectl()
    if kubectl is None:
        pytest.exit("make test-cluster needs kubectl 1.28 or newer in PATH", returncode=1)
    kept = lifecycle.find(name)
    try:
        plan = kept or lifecycle.up(name, print)
        image = mesh_image()
        if kept:
            lifecycle.import_image(plan, image)
    except BuildError as error:
        pytest.exit(f"make test-cluster: {error}", returncode=1)
    try:
        flags = ("--image", image.name, "--image-pull-policy", "Never")

        def previous() -> str:
            made = previous_image()
            lifecycle.import_image(plan, made)
            return made.name

        yield Stage(plan.kubeconfig, kubectl, image.name, flags, previous)
    finally:
        if not kept:
            lifecycle.down(name)


@contextmanager
def alone(folder: Path) -> Iterator[Stage]:
    """A cluster beside the one that all tests share, of the kind that was chosen."""
    if os.environ.get(VARIABLE) != "node":
        with embedded(folder) as stage:
            yield stage
        return
    name = f"alone-{os.getpid()}"
    try:
        with node(folder, name) as stage:
            yield stage
    finally:
        lifecycle.lock_file(name).unlink()


BACKENDS: Mapping[str, Callable[[Path], AbstractContextManager[Stage]]] = {
    "": embedded,
    "node": node,
}
