"""What LimitRanges give to containers, and which pods a ResourceQuota has no room for."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.core.errors import ApiError
from mesh.local.api.limits import check_quotas, fill_limits, quota_faults, range_faults, used_by


def pod(*containers: Any, init: Any = (), phase: str = "Running") -> dict[str, Any]:
    spec = {"containers": list(containers), "initContainers": list(init)}
    return {"metadata": {"name": "web"}, "spec": spec, "status": {"phase": phase}}


def container(cpu: str = "", memory: str = "", **more: Any) -> dict[str, Any]:
    asked = {"requests": {"cpu": cpu}} if cpu else {}
    limit = {"limits": {"memory": memory}} if memory else {}
    return {"name": "app", "resources": asked | limit} | more


def limit_range(**item: Any) -> dict[str, Any]:
    return {"spec": {"limits": [{"type": "Container", **item}]}}


def quota(**hard: str) -> dict[str, Any]:
    named = {key.replace("_", "."): value for key, value in hard.items()}
    return {"metadata": {"name": "rule"}, "spec": {"hard": named}}


def test_a_container_that_asks_for_nothing_gets_the_defaults() -> None:
    made = pod(container(cpu="1"))

    fill_limits(made, [limit_range(default={"memory": "64Mi"}, defaultRequest={"cpu": "10m"})])

    (found,) = (one["resources"] for one in made["spec"]["containers"])
    assert found["limits"] == {"memory": "64Mi"}
    assert found["requests"] == {"cpu": "1", "memory": "64Mi"}


def test_a_container_beyond_the_range_is_refused() -> None:
    with pytest.raises(ApiError, match="maximum memory usage per Container is 1Gi, but limit is"):
        fill_limits(pod(container(memory="2Gi")), [limit_range(max={"memory": "1Gi"})])


def test_what_pods_use_is_counted_as_the_scheduler_does() -> None:
    sidecar = container("100m", "64Mi", restartPolicy="Always")
    first = container("300m")
    pods = [
        pod(container("150m", "96Mi"), init=[sidecar, first]),
        pod(container("1"), phase="Failed"),
    ]

    used = used_by(quota(requests_cpu="1", limits_memory="1Gi", pods="9"), pods)

    assert used == {"requests.cpu": "400m", "limits.memory": "160Mi", "pods": "1"}


def test_a_pod_beyond_the_quota_is_refused_with_what_is_used() -> None:
    there = [pod(container("300m"))]
    words = (
        "exceeded quota: rule, requested: requests.cpu=200m, used: requests.cpu=300m, "
        "limited: requests.cpu=400m"
    )

    with pytest.raises(ApiError, match=words):
        check_quotas(pod(container("200m")), [quota(requests_cpu="400m")], there)
    check_quotas(pod(container("100m")), [quota(requests_cpu="400m")], there)


def test_a_pod_that_names_no_amount_is_refused_where_one_is_counted() -> None:
    with pytest.raises(ApiError, match=r"failed quota: rule: must specify limits.memory for: app"):
        check_quotas(pod(container("1")), [quota(limits_memory="1Gi")], [])


def test_what_is_not_counted_is_refused_and_not_ignored() -> None:
    assert [fault.field for fault in quota_faults(quota(services="1"))] == ["spec.hard[services]"]
    assert [fault.field for fault in range_faults({"spec": {"limits": [{"type": "Pod"}]}})] == [
        "spec.limits[0].type"
    ]
