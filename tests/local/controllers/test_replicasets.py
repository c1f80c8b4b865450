"""How many pods, and which ones go."""

from __future__ import annotations

from typing import Any

from mesh.local.controllers.replicasets import new_pod, scaling, status

SET: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "ReplicaSet",
    "metadata": {"name": "web-abc", "namespace": "shop", "uid": "r", "generation": 3},
    "spec": {
        "minReadySeconds": 5,
        "template": {
            "metadata": {"labels": {"app": "web"}, "annotations": {"mesh/inject": "enabled"}},
            "spec": {"containers": [{"name": "c"}]},
        },
    },
}


def pod(name: str, *, age: int = 0, phase: str = "Running", ready: str = "", **meta: Any) -> Any:
    conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": ready}] if ready else []
    return {
        "metadata": {
            "name": name,
            "labels": {"app": "web"},
            "creationTimestamp": f"2026-01-01T00:{59 - age:02d}:00Z",
            **meta,
        },
        "spec": {"nodeName": "n"},
        "status": {"phase": phase, "conditions": conditions},
    }


READY = "1970-01-01T00:00:10Z"


def gone(wanted: int, *pods: Any) -> list[str]:
    return [item["metadata"]["name"] for item in scaling(wanted, list(pods)).delete]


def test_missing_pods_are_counted_without_finished_and_leaving_ones() -> None:
    pods = [pod("a"), pod("b", phase="Failed"), pod("c", deletionTimestamp="2026")]

    assert scaling(3, pods).create == 2


def test_the_least_useful_pods_go_first() -> None:
    old, young = pod("old", age=9, ready=READY), pod("young", age=1, ready=READY)
    unready, pending = pod("unready"), pod("pending", phase="Pending")

    assert gone(0, old, young, unready, pending) == ["pending", "unready", "young", "old"]
    assert gone(3, old, young, unready, pending) == ["pending"]


def test_a_pod_is_made_from_the_template_and_owned() -> None:
    made = new_pod(SET)

    assert made["metadata"]["generateName"] == "web-abc-"
    assert made["metadata"]["annotations"] == {"mesh/inject": "enabled"}
    assert made["metadata"]["ownerReferences"][0]["controller"] is True
    assert made["spec"] == {"containers": [{"name": "c"}]}


def test_a_ready_pod_is_available_after_its_minimum() -> None:
    pods = [pod("a", ready=READY), pod("b")]

    early = status(SET, pods, now=12.0)
    late = status(SET, pods, now=15.0)

    assert (early["readyReplicas"], early.get("availableReplicas")) == (1, None)
    assert (late["replicas"], late["availableReplicas"], late["observedGeneration"]) == (2, 1, 3)


def test_a_refused_pod_is_a_condition() -> None:
    found = status(SET, [], now=0.0, failure="quota")

    assert found["conditions"][0]["type"] == "ReplicaFailure"
    assert found["conditions"][0]["message"] == "quota"
