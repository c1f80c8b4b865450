"""How many pods a Job has, when it ends, and when a CronJob makes the next one."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.local.controllers.cronjobs import due_at, new_job, surplus
from mesh.local.controllers.jobs import (
    FINALIZER,
    end_of,
    missing,
    new_pod,
    status,
    tally,
    wait_for_retry,
)
from mesh.local.controllers.pods import parse_time

NOW = parse_time("2026-11-21T10:00:00Z")


def job(**spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "app"}]}}
    meta = {"name": "once", "namespace": "shop", "uid": "u", "creationTimestamp": "2026-01-01"}
    given = {"completions": 1, "parallelism": 1, "backoffLimit": 6, "template": template} | spec
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": given}


def pod(phase: str = "Running", *, counted: bool = False, restarts: int = 0, **meta: Any) -> Any:
    state = {"name": "app", "restartCount": restarts, "state": {}}
    if phase == "Failed":
        state["state"] = {"terminated": {"exitCode": 1, "finishedAt": "2026-11-21T09:59:59Z"}}
    held = [] if counted else [FINALIZER]
    return {
        "metadata": {"name": "once-x", "finalizers": held, **meta},
        "spec": {"containers": [{"name": "app"}]},
        "status": {"phase": phase, "containerStatuses": [state]},
    }


@pytest.mark.parametrize(
    ("spec", "pods", "expected"),
    [
        ({}, [], 1),
        ({}, [pod()], 0),
        ({}, [pod("Succeeded")], 0),
        ({}, [pod("Failed")], 1),
        ({"completions": 5, "parallelism": 2}, [pod(), pod("Succeeded")], 1),
        ({"completions": 2, "parallelism": 2}, [pod(), pod("Succeeded")], 0),
        ({"completions": None, "parallelism": 3}, [pod()], 2),
        ({"completions": None, "parallelism": 3}, [pod(), pod("Succeeded")], 0),
        ({"suspend": True}, [pod()], -1),
        ({"parallelism": 1, "completions": 3}, [pod(), pod()], -1),
    ],
)
def test_a_job_has_as_many_pods_as_are_left_to_succeed(spec: Any, pods: Any, expected: int) -> None:
    found = job(**spec)

    assert missing(found, tally(found, pods)) == expected


def test_an_end_is_counted_once() -> None:
    found = job(completions=3)
    found["status"] = status(found, tally(found, [pod("Succeeded"), pod("Failed")]), NOW)

    again = tally(found, [pod("Succeeded", counted=True), pod("Failed", counted=True)])

    assert (again.succeeded, again.failed, again.fresh) == (1, 1, ())


def test_a_pod_that_somebody_deletes_has_failed() -> None:
    found = tally(job(), [pod(deletionTimestamp="2026-11-21T10:00:00Z")])

    assert (found.failed, found.active) == (1, ())


@pytest.mark.parametrize(
    ("spec", "pods", "end", "reason"),
    [
        ({}, [pod("Succeeded")], "Complete", "CompletionsReached"),
        ({"backoffLimit": 0}, [pod("Failed")], "Failed", "BackoffLimitExceeded"),
        ({"backoffLimit": 1}, [pod("Failed")], "", ""),
        ({"backoffLimit": 2}, [pod(restarts=3)], "Failed", "BackoffLimitExceeded"),
        ({"completions": None}, [pod(), pod("Succeeded")], "", ""),
        ({"completions": None}, [pod("Succeeded")], "Complete", "CompletionsReached"),
    ],
)
def test_a_job_ends_with_enough_good_or_too_many_bad_ends(
    spec: Any, pods: Any, end: str, reason: str
) -> None:
    found = job(**spec)
    found["status"] = status(found, tally(found, pods), NOW)

    assert end_of(found) == end
    assert not end or found["status"]["conditions"][-1]["reason"] == reason


def test_a_job_that_runs_too_long_has_failed() -> None:
    found = job(activeDeadlineSeconds=30)
    found["status"] = status(found, tally(found, [pod()]), NOW)

    assert not end_of(found)
    found["status"] = status(found, tally(found, [pod()]), NOW + 30)

    assert end_of(found) == "Failed"
    assert "active" not in found["status"]


def test_the_next_pod_waits_longer_after_each_failure() -> None:
    ended = pod("Failed")

    assert wait_for_retry([ended], 1, NOW) == 0.0
    assert wait_for_retry([ended], 3, NOW) == 3.0
    assert wait_for_retry([ended], 30, NOW) == 29.0


def test_a_pod_is_held_until_it_is_counted() -> None:
    made = new_pod(job())

    assert made["metadata"]["finalizers"] == [FINALIZER]
    assert made["metadata"]["generateName"] == "once-"


def cron_job(schedule: str, **more: Any) -> dict[str, Any]:
    meta = {"name": "tick", "namespace": "shop", "uid": "c"}
    limits = {"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0}
    spec = {"schedule": schedule, "jobTemplate": {"spec": {}}, **limits, **more.pop("spec", {})}
    made = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta, "spec": spec}
    meta["creationTimestamp"] = "2026-11-21T09:00:30Z"
    return made | more


def test_a_missed_time_is_served_once_and_the_next_is_known() -> None:
    last, following = due_at(cron_job("*/10 * * * *"), NOW + 1)

    assert (last, following) == (NOW, NOW + 600)


def test_a_time_that_was_served_is_not_due_again() -> None:
    served = cron_job("*/10 * * * *", status={"lastScheduleTime": "2026-11-21T10:00:00Z"})

    assert due_at(served, NOW + 1) == (None, NOW + 600)


def test_a_time_beyond_its_deadline_is_let_go() -> None:
    late = cron_job("0 * * * *", spec={"startingDeadlineSeconds": 60})

    assert due_at(late, NOW + 61)[0] is None


def test_a_job_is_named_by_its_minute() -> None:
    made = new_job(cron_job("* * * * *"), NOW)

    assert made["metadata"]["name"] == f"tick-{int(NOW) // 60}"
    assert made["metadata"]["ownerReferences"][0]["uid"] == "c"


def test_old_jobs_go_and_running_ones_stay() -> None:
    def ended(name: str, kind: str, begun: str) -> Any:
        conditions = [{"type": kind, "status": "True"}] if kind else []
        return {
            "metadata": {"name": name},
            "status": {"startTime": begun, "conditions": conditions},
        }

    jobs = [ended("new", "Complete", "3"), ended("old", "Complete", "1")]
    jobs += [ended("bad", "Failed", "2"), ended("running", "", "0")]

    gone = [item["metadata"]["name"] for item in surplus(cron_job("* * * * *"), jobs)]

    assert gone == ["old", "bad"]
