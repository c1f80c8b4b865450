"""An upgrade says which routing objects the new version judges differently."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.core.model import Verdict
from mesh.inject.config import InjectConfig
from mesh.install.verdicts import describe_verdicts
from tests.destination.world import deployed

CONFIG = InjectConfig(namespace="mesh")


def split(status: Any, **spec: Any) -> dict[str, Any]:
    backends = [{"service": "web-v1", "weight": 1}]
    return {
        "apiVersion": "split.smi-spec.io/v1alpha2",
        "kind": "TrafficSplit",
        "metadata": {"name": "canary", "namespace": "shop", "uid": "u", "generation": 1},
        "spec": {"service": "web", "backends": backends} | spec,
        "status": status,
    }


def said(verdict: Verdict, message: str = "acts on Service shop/web") -> dict[str, Any]:
    """The status that a control plane before wrote."""
    condition = {"type": "Effective", "status": "True", "reason": verdict.value}
    return {"verdict": verdict.value, "conditions": [condition | {"message": message}]}


def lines(*objects: dict[str, Any]) -> list[str]:
    ports = {"http": 8080}
    services = [
        *deployed("web", ip="10.96.0.1", pod_ip="10.1.0.1", ports=ports),
        *deployed("web-v1", ip="10.96.0.2", pod_ip="10.1.0.2", ports=ports),
    ]
    return describe_verdicts([*services, *objects], CONFIG)


def test_a_verdict_that_stays_is_not_told() -> None:
    assert lines(split(said(Verdict.EFFECTIVE))) == []


def test_an_object_that_was_refused_before_and_acts_now_is_told() -> None:
    (line,) = lines(split(said(Verdict.REJECTED, "spec: not supported")))

    assert line == "TrafficSplit shop/canary: Rejected -> Effective: acts on Service shop/web"


def test_an_object_that_acts_less_than_before_is_told_with_why() -> None:
    backends = [{"service": "web-v1", "weight": 1}, {"service": "gone", "weight": 1}]

    (line,) = lines(split(said(Verdict.EFFECTIVE), backends=backends))

    assert line.startswith("TrafficSplit shop/canary: Effective -> Partial: ")
    assert "gone" in line


def test_another_reason_for_the_same_verdict_is_told() -> None:
    backends = [{"service": "web-v1", "weight": 1}, {"service": "gone", "weight": 1}]

    (line,) = lines(split(said(Verdict.PARTIAL, "something else"), backends=backends))

    assert line.startswith("TrafficSplit shop/canary: Partial as before, but: ")


@pytest.mark.parametrize("status", [None, {}, {"conditions": []}])
def test_an_object_that_nobody_judged_yet_is_not_told(status: Any) -> None:
    assert lines(split(status)) == []
