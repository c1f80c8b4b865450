"""The control plane changes under load, and nobody notices: upgrade, --ha, lost replicas."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from mesh.core import labels
from tests.e2e.load import failed_since, loaded_with, told
from tests.e2e.stage import Stage, eventually
from tests.e2e.workloads import SERVE, apply, container, pod, wait_ready

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(600)]

CONTROL = labels.MESH_NAMESPACE
PARTS = (labels.IDENTITY, labels.DESTINATION, labels.INJECT)


@pytest.fixture
def loaded(stage: Stage) -> Iterator[Stage]:
    """200 requests a second; none may fail until the test is over."""
    with loaded_with(stage, 200):
        began, before = time.time(), stage.load("/stats")
        yield stage
        assert told(failed_since(stage, began)) == []
        assert stage.load("/stats")["failed"] == before["failed"]


def _settled(stage: Stage, namespace: str, *deployments: str) -> None:
    for name in deployments:
        what = f"deployment/{name}"
        stage.kubectl("rollout", "status", what, "-n", namespace, "--timeout=120s")


def test_an_upgrade_without_a_change_changes_nothing(stage: Stage) -> None:
    plan = stage.mesh("upgrade", "--plan")

    assert plan.startswith("= ")
    assert plan.count("\n") == 1


def test_control_plane_and_workloads_are_replaced_under_load(loaded: Stage) -> None:
    flags = ("--log-level", "debug", "--proxy-log-level", "debug")
    plan = loaded.mesh("upgrade", *flags, "--plan")
    assert "~ Deployment mesh/mesh-identity" in plan
    assert "new pods: mesh/proxy-log-level info -> debug" in plan

    loaded.apply(loaded.mesh("upgrade", *flags))
    _settled(loaded, CONTROL, *PARTS)
    loaded.kubectl("rollout", "restart", "deployment/catalogue-v1", "-n", "shop")
    _settled(loaded, "shop", "catalogue-v1")

    assert "mesh/proxy-log-level" not in loaded.mesh("upgrade", "--plan")
    loaded.apply(loaded.mesh("upgrade", "--reset-values", *loaded.install_flags))
    _settled(loaded, CONTROL, *PARTS)


def test_losing_any_replica_of_three_costs_nothing(loaded: Stage) -> None:
    loaded.apply(loaded.mesh("upgrade", "--ha"))
    _settled(loaded, CONTROL, *PARTS)
    try:
        for number, part in enumerate(PARTS):
            chosen = f"{labels.L_COMPONENT}={part.removeprefix('mesh-')}"
            lost = loaded.pods(chosen, CONTROL)[0]["metadata"]["name"]
            loaded.kubectl("delete", "pod", lost, "-n", CONTROL, "--grace-period=0", "--force")
            annotations = {labels.A_INJECT: "enabled"}
            name = f"after-{number}"
            serve = container(loaded, SERVE)
            apply(loaded, pod(name, "default", serve, annotations=annotations))
            wait_ready(loaded, "default", f"pod/{name}")
            found = loaded.get("pod", name)
            assert labels.L_CONTROL_NAMESPACE in found["metadata"]["labels"]
            loaded.kubectl("delete", "pod", name, "--now", "--wait=false")
    finally:
        loaded.apply(loaded.mesh("upgrade", "--reset-values", *loaded.install_flags))
        plan = loaded.mesh("upgrade", "--plan")
        assert plan.count("apply does not remove it") == 4  # budgets and the priority class
        loaded.kubectl("delete", "poddisruptionbudget", "--all", "-n", CONTROL)
        loaded.kubectl("delete", "priorityclass", labels.PRIORITY_CLASS)
        _settled(loaded, CONTROL, *PARTS)
    eventually(lambda: loaded.mesh("upgrade", "--plan").startswith("= "))
