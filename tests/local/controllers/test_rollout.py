"""How a Deployment rolls: played through with ReplicaSets that obey at once."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.local.controllers import rollout

NOW = 1000.0


def deployment(replicas: int = 3, image: str = "v1", **spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"image": image}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "uid": "d", "generation": 1},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template,
            **spec,
        },
    }


def rolling(surge: Any, unavailable: Any) -> dict[str, Any]:
    limits = {"maxSurge": surge, "maxUnavailable": unavailable}
    return {"type": "RollingUpdate", "rollingUpdate": limits}


def replica_set(
    owner: dict[str, Any], others: list[dict[str, Any]], replicas: int, *, available: int = -1
) -> dict[str, Any]:
    made = rollout.new_replica_set(owner, others, [other["metadata"]["name"] for other in others])
    made["metadata"] |= {
        "uid": made["metadata"]["name"],
        "creationTimestamp": f"2026-01-01T00:00:{len(others):02d}Z",
    }
    made["spec"]["replicas"] = replicas
    fill(made, replicas if available < 0 else available)
    return made


def fill(item: dict[str, Any], available: int) -> None:
    item["status"] = {
        "replicas": item["spec"]["replicas"],
        "readyReplicas": available,
        "availableReplicas": available,
    }


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "wanted"),
    [
        (4, "25%", "25%", (1, 1)),
        (3, "25%", "25%", (1, 0)),
        (10, 2, 0, (2, 0)),
        (3, 0, "10%", (0, 1)),
        (1, "100%", 0, (1, 0)),
    ],
)
def test_surge_rounds_up_and_unavailable_down_and_never_both_are_nothing(
    replicas: int, surge: Any, unavailable: Any, wanted: tuple[int, int]
) -> None:
    found = rollout.bounds(deployment(replicas, strategy=rolling(surge, unavailable)))

    assert found == wanted


@pytest.mark.parametrize("replicas", [1, 2, 3, 7, 20])
@pytest.mark.parametrize(("surge", "unavailable"), [("25%", "25%"), (1, 0), (0, 1), ("100%", 0)])
def test_a_roll_ends_and_stays_within_its_bounds(
    replicas: int, surge: Any, unavailable: Any
) -> None:
    strategy = rolling(surge, unavailable)
    before = deployment(replicas, strategy=strategy)
    after = deployment(replicas, image="v2", strategy=strategy)
    old = replica_set(before, [], replicas)
    new = replica_set(after, [old], 0)
    most, least = rollout.bounds(after)

    for _ in range(200):
        changes = rollout.scale(after, new, [old], old_pods=old["spec"]["replicas"])
        if not changes:
            break
        for item in (new, old):
            item["spec"]["replicas"] = changes.get(
                item["metadata"]["name"], item["spec"]["replicas"]
            )
        kept = min(old["status"]["availableReplicas"], old["spec"]["replicas"])
        ready_before = new["status"]["availableReplicas"]
        total = new["spec"]["replicas"] + old["spec"]["replicas"]
        assert total <= replicas + most
        assert kept + ready_before >= replicas - least
        fill(old, kept)
        fill(new, new["spec"]["replicas"])

    assert (new["spec"]["replicas"], old["spec"]["replicas"]) == (replicas, 0)
    assert rollout.is_complete(after, rollout.counts(new, [old]))


def test_new_pods_that_never_get_ready_stop_the_roll() -> None:
    after = deployment(4, image="v2", strategy=rolling(1, 1))
    old = replica_set(deployment(4), [], 3)
    new = replica_set(after, [old], 2, available=0)

    assert rollout.scale(after, new, [old], old_pods=3) == {}


def test_old_pods_that_are_sick_go_first() -> None:
    after = deployment(3, image="v2", strategy=rolling(1, 0))
    old = replica_set(deployment(3), [], 3, available=0)
    new = replica_set(after, [old], 1, available=1)

    assert rollout.scale(after, new, [old], old_pods=3) == {old["metadata"]["name"]: 2}


def test_recreate_waits_for_the_last_old_pod() -> None:
    after = deployment(2, image="v2", strategy={"type": "Recreate"})
    old = replica_set(deployment(2), [], 2)
    new = replica_set(after, [old], 0)
    name = {"old": old["metadata"]["name"], "new": new["metadata"]["name"]}

    assert rollout.scale(after, new, [old], old_pods=2) == {name["old"]: 0}
    old["spec"]["replicas"] = 0
    assert rollout.scale(after, new, [old], old_pods=1) == {}
    assert rollout.scale(after, new, [old], old_pods=0) == {name["new"]: 2}


def test_a_paused_deployment_scales_but_does_not_roll() -> None:
    after = deployment(5, image="v2", paused=True)
    old = replica_set(deployment(3), [], 3)
    new = replica_set(after, [old], 0)

    assert rollout.scale(after, new, [old], old_pods=3) == {old["metadata"]["name"]: 5}


def test_the_same_template_is_found_again_whatever_its_hash_label() -> None:
    before, after = deployment(), deployment(image="v2")
    first = replica_set(before, [], 0)
    second = replica_set(after, [first], 3)

    assert rollout.find_new(before, [first, second]) is first
    assert rollout.find_new(after, [first, second]) is second
    assert rollout.find_new(deployment(image="v3"), [first, second]) is None


def test_going_back_makes_the_old_one_the_newest_revision() -> None:
    first = replica_set(deployment(), [], 0)
    second = replica_set(deployment(image="v2"), [first], 3)

    found = rollout.next_annotations(deployment(), first, [second])

    assert rollout.revision(second) == 2
    assert found[rollout.REVISION] == "3"
    assert found[rollout.HISTORY] == "1"


def test_the_change_cause_is_copied_and_what_kubectl_applied_is_not() -> None:
    owner = deployment()
    owner["metadata"]["annotations"] = {
        "kubernetes.io/change-cause": "because",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
    }

    found = replica_set(owner, [], 0)["metadata"]["annotations"]

    assert found["kubernetes.io/change-cause"] == "because"
    assert "kubectl.kubernetes.io/last-applied-configuration" not in found


def conditions(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {item["type"]: (item["status"], item["reason"]) for item in found["conditions"]}


def test_a_complete_roll_is_available_and_has_progressed() -> None:
    owner = deployment()
    found = rollout.status(owner, replica_set(owner, [], 3), [], now=NOW)

    assert conditions(found) == {
        "Available": ("True", "MinimumReplicasAvailable"),
        "Progressing": ("True", "NewReplicaSetAvailable"),
    }
    assert (found["updatedReplicas"], found["availableReplicas"]) == (3, 3)


def test_no_progress_within_the_deadline_is_said() -> None:
    owner = deployment(progressDeadlineSeconds=10)
    new = replica_set(owner, [], 3, available=0)
    owner["status"] = rollout.status(owner, new, [], now=NOW)

    soon = rollout.status(owner, new, [], now=NOW + 9)
    late = rollout.status(owner, new, [], now=NOW + 11)

    assert conditions(soon)["Progressing"] == ("True", "ReplicaSetUpdated")
    assert conditions(late)["Progressing"] == ("False", "ProgressDeadlineExceeded")
    assert conditions(late)["Available"] == ("False", "MinimumReplicasUnavailable")


def test_only_so_much_history_is_kept() -> None:
    sets: list[dict[str, Any]] = []
    for number in range(5):
        sets.append(replica_set(deployment(image=f"v{number}"), sets, 0, available=0))

    found = rollout.surplus_history(deployment(revisionHistoryLimit=2), sets)

    assert [rollout.revision(item) for item in found] == [1, 2, 3]
