"""The Gateway API's conformance suite for meshes: every test with every feature, none skipped.

Twenty good answers in a row for each case, where the suite itself asks for three: with two
backends three in a row come by luck. What it does not look at (Location, rewritten paths,
status) is held by tests of our own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.images import mesh_image
from tests.cluster.node import lifecycle
from tests.conformance.gateway_suite import definitions, echo_image, run_suite
from tests.e2e.stage import Stage

pytestmark = [pytest.mark.node, pytest.mark.timeout(1800)]

NAME = f"gateway-{os.getpid()}"
TESTS = 22  # of version 1.6.3


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A node with the Gateway API's own definitions, the suite's application and the mesh."""
    application = echo_image()
    plan = lifecycle.up(NAME, print)
    try:
        lifecycle.import_image(plan, application)
        made = Stage(plan.kubeconfig, "kubectl", mesh_image().name)
        made.kubectl("apply", "--server-side", "-f", str(definitions()))
        flags = ("--image", made.image, "--image-pull-policy", "Never")
        made.apply(made.mesh("install", *flags))
        made.mesh("check", "--wait", "90s")
        yield made
    finally:
        lifecycle.down(NAME)
        lifecycle.lock_file(NAME).unlink()


@pytest.mark.skipif(os.environ.get("MESH_E2E_ON") != "node", reason="make test-gateway runs it")
def test_every_test_of_the_suite_passes_with_every_feature(stage: Stage, tmp_path: Path) -> None:
    log = tmp_path / "suite.log"

    results = run_suite(stage.kubeconfig, log, successes=20, seconds=1500)

    assert results.failed == frozenset(), results.log[-4000:]
    assert len(results.passed) == TESTS
