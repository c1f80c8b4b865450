"""StatefulSets in order, DaemonSets on the one node."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.local.controllers import daemonsets, statefulsets

NOW = 1000.0
READY = [{"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:00:10Z"}]
TEMPLATE = {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c"}]}}


def a_set(kind: str = "StatefulSet", **spec: Any) -> dict[str, Any]:
    meta = {"name": "db", "namespace": "shop", "uid": "u", "generation": 2}
    given = {"replicas": 3, "serviceName": "db", "template": TEMPLATE} | spec
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": meta, "spec": given}


def pod(number: int, *, ready: bool = True, old: bool = False, **more: Any) -> dict[str, Any]:
    made = statefulsets.new_pod(a_set(), number)
    if old:
        made["metadata"]["labels"][statefulsets.REVISION] = "before"
    made["status"] = {"phase": "Running", "conditions": READY if ready else []}
    made["metadata"] |= more
    return made


def step(owner: dict[str, Any], *pods: Any) -> tuple[list[int], list[str]]:
    found = statefulsets.decide(owner, pods, NOW)
    return list(found.create), [item["metadata"]["name"] for item in found.delete]


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ([], ([0], [])),
        ([pod(0, ready=False)], ([], [])),
        ([pod(0)], ([1], [])),
        ([pod(0), pod(2)], ([1], [])),
        ([pod(0), pod(1), pod(2)], ([], [])),
        ([pod(0), pod(1), pod(2), pod(3), pod(4)], ([], ["db-4"])),
        ([pod(0), pod(1, old=True), pod(2, old=True)], ([], ["db-2"])),
        ([pod(0, old=True), pod(1, old=True), pod(2, ready=False)], ([], [])),
        ([pod(0, old=True), pod(1, old=True), pod(2)], ([], ["db-1"])),
    ],
)
def test_pods_come_and_go_in_order(pods: Any, expected: Any) -> None:
    assert step(a_set(), *pods) == expected


def test_parallel_pods_do_not_wait_for_each_other() -> None:
    owner = a_set(podManagementPolicy="Parallel")

    assert step(owner, pod(1, ready=False)) == ([0, 2], [])


def test_a_pod_that_ended_is_made_again() -> None:
    over = pod(0)
    over["status"] = {"phase": "Failed"}

    assert step(a_set(), over) == ([], ["db-0"])


def test_a_pod_is_called_by_its_number_in_its_service() -> None:
    made = statefulsets.new_pod(a_set(), 1)

    assert made["metadata"]["name"] == made["spec"]["hostname"] == "db-1"
    assert made["spec"]["subdomain"] == "db"


def test_the_revision_moves_on_when_all_pods_are_new_and_ready() -> None:
    owner = a_set(replicas=2)
    owner["status"] = {"currentRevision": "before"}

    half = statefulsets.status(owner, [pod(0, old=True), pod(1)], NOW)
    whole = statefulsets.status(owner, [pod(0), pod(1)], NOW)

    assert (half["currentRevision"], half["updatedReplicas"], half["currentReplicas"]) == (
        "before",
        1,
        1,
    )
    assert whole["currentRevision"] == whole["updateRevision"] != "before"


def daemon_pod(*, new: bool, ready: bool = True) -> dict[str, Any]:
    made = daemonsets.new_pod(a_set("DaemonSet"))
    if not new:
        made["metadata"]["labels"][daemonsets.REVISION] = "before"
    made["status"] = {"phase": "Running", "conditions": READY if ready else []}
    return made


SURGE = {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}
ON_DELETE = {"updateStrategy": {"type": "OnDelete"}}


@pytest.mark.parametrize(
    ("spec", "pods", "create", "deleted"),
    [
        ({}, [], True, 0),
        ({}, [daemon_pod(new=True)], False, 0),
        ({}, [daemon_pod(new=False)], False, 1),
        (ON_DELETE, [daemon_pod(new=False)], False, 0),
        (SURGE, [daemon_pod(new=False)], True, 0),
        (SURGE, [daemon_pod(new=False), daemon_pod(new=True, ready=False)], False, 0),
        (SURGE, [daemon_pod(new=False), daemon_pod(new=True)], False, 1),
    ],
)
def test_the_node_has_one_pod_of_the_present_template(
    spec: Any, pods: Any, create: bool, deleted: int
) -> None:
    found = daemonsets.decide(a_set("DaemonSet", **spec), pods, wanted=True)

    assert (found.create, len(found.delete)) == (create, deleted)


def test_a_node_that_does_not_suit_has_none() -> None:
    spec = {"containers": [], "nodeSelector": {"disk": "ssd"}}
    owner = a_set("DaemonSet", template={"metadata": {}, "spec": spec})

    assert not daemonsets.is_wanted(owner, "n")
    assert daemonsets.status(owner, [], False, NOW)["desiredNumberScheduled"] == 0
