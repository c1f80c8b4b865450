"""`mesh uninstall` on a node of its own: pods go on, and what it says is all that is left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.images import mesh_image
from tests.cluster.node import lifecycle
from tests.e2e.stage import Stage, eventually

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]

NAME = f"uninstall-{os.getpid()}"
PART = "app.kubernetes.io/part-of=lightmesh"
KINDS = "clusterrole,clusterrolebinding,mutatingwebhookconfiguration,validatingwebhookconfiguration"


@pytest.fixture
def stage() -> Iterator[Stage]:
    plan = lifecycle.up(NAME, print)
    try:
        yield Stage(plan.kubeconfig, "kubectl", mesh_image().name)
    finally:
        lifecycle.down(NAME)
        lifecycle.lock_file(NAME).unlink()


def test_pods_work_on_and_only_the_kinds_stay(stage: Stage) -> None:
    _install(stage)
    stage.kubectl("annotate", "namespace", "default", "mesh/inject=enabled")
    serve = ("--", "python", "-m", "http.server", "8080", "--directory", "/opt")
    stage.kubectl("create", "deployment", "web", f"--image={stage.image}", *serve)
    stage.kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    assert _containers(stage) == 2

    refused = stage.mesh("uninstall", check=False)
    removal = stage.mesh("uninstall", "--force")
    stage.kubectl("delete", "-f", "-", text=removal)

    assert refused == ""
    assert stage.kubectl("get", KINDS, "-l", PART, "-o", "name") == ""
    assert "mesh" not in stage.kubectl("get", "namespaces", "-o", "name")
    kept = stage.kubectl("get", "crd", "-l", PART, "-o", "name").split()
    assert len(kept) == 4
    assert _answers(stage) == 200  # the proxy that is left serves without a control plane
    stage.kubectl("rollout", "restart", "deployment/web")
    stage.kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    assert _containers(stage) == 1
    assert _answers(stage) == 200


def _install(stage: Stage) -> None:
    flags = ("--image", stage.image, "--image-pull-policy", "Never")
    stage.apply(stage.mesh("install", *flags))
    stage.mesh("check", "--wait", "90s")


def _pod(stage: Stage) -> dict[str, Any]:
    """The one that is not ending."""

    def settled() -> dict[str, Any]:
        pods = stage.pods("app=web", "default")
        (pod,) = (pod for pod in pods if "deletionTimestamp" not in pod["metadata"])
        return dict(pod)

    return eventually(settled)


def _containers(stage: Stage) -> int:
    """Init containers that stay, and others."""
    spec = _pod(stage)["spec"]
    kept = [c for c in spec.get("initContainers", []) if c.get("restartPolicy")]
    return len(kept) + len(spec["containers"])


def _answers(stage: Stage) -> int:
    status, _, _ = stage.ask((_pod(stage)["status"]["podIP"], 8080), "/")
    return status
