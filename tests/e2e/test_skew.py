"""Proxies and control plane of this version and of the release before, in both directions.

The release before is the newest tag, or what MESH_E2E_PREVIOUS names.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import yaml

from mesh.core import labels
from mesh.local.shop import manifests
from tests.cluster.images import REPOSITORY, image_of
from tests.cluster.node import lifecycle
from tests.e2e.backends import NODE
from tests.e2e.stage import Stage

pytestmark = [pytest.mark.node, pytest.mark.timeout(900)]

VARIABLE = "MESH_E2E_PREVIOUS"
PARTS = (labels.IDENTITY, labels.DESTINATION, labels.INJECT)


@pytest.fixture(scope="module")
def previous(stage: Stage) -> str:
    """The image of the release before, known to the node."""
    describe = ("git", "-C", str(REPOSITORY), "describe", "--tags", "--abbrev=0", "HEAD^")
    tag = subprocess.run(describe, capture_output=True, text=True, check=False).stdout.strip()
    reference = os.environ.get(VARIABLE) or tag
    if not reference:
        pytest.skip(f"there is no release before this one; {VARIABLE} names a commit to take")
    plan, made = lifecycle.find(NODE), image_of(reference)
    assert plan is not None
    lifecycle.import_image(plan, made)
    return made.name


@contextmanager
def under_load(stage: Stage) -> Iterator[None]:
    stage.apply(yaml.safe_dump_all(manifests.split(100, 0)))
    stage.load("/resume?rate=200&target=catalogue", "POST")
    began, before = time.time(), stage.load("/stats")
    try:
        yield
        rows = stage.load(f"/recent?since={began}")
        assert [row for row in rows if row[2] != 200] == []
        assert stage.load("/stats")["failed"] == before["failed"]
    finally:
        stage.load("/resume?rate=20", "POST")
        stage.kubectl("delete", "trafficsplit", "catalogue", "-n", "shop")


def _roll(stage: Stage, namespace: str, *deployments: str) -> None:
    for name in deployments:
        what = f"deployment/{name}"
        stage.kubectl("rollout", "status", what, "-n", namespace, "--timeout=120s")


def _choose_proxy(stage: Stage, image: str | None) -> None:
    """Give the catalogue's pods this proxy (None: the control plane's own)."""
    annotations = {"mesh/proxy-image": image, "rolled": str(time.time())}
    patch = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
    chosen = ("deployment", "catalogue-v1", "-n", "shop")
    stage.kubectl("patch", *chosen, "--type=merge", "-p", json.dumps(patch))
    _roll(stage, "shop", "catalogue-v1")


def test_proxies_of_the_release_before_work_with_this_control_plane(
    stage: Stage, previous: str
) -> None:
    with under_load(stage):
        _choose_proxy(stage, previous)
        _choose_proxy(stage, None)


def test_proxies_of_this_release_work_with_the_control_plane_before(
    stage: Stage, previous: str
) -> None:
    newer = ("--set", f"proxy.image={stage.image}", "--set", "proxy.imagePullPolicy=Never")
    with under_load(stage):
        stage.apply(stage.mesh("upgrade", "--image", previous, *newer))
        _roll(stage, labels.MESH_NAMESPACE, *PARTS)
        _choose_proxy(stage, None)
        stage.apply(stage.mesh("upgrade", "--reset-values", *stage.install_flags))
        _roll(stage, labels.MESH_NAMESPACE, *PARTS)
