"""Timeouts across Services, where settings of workloads show who calls whom."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mesh.lint.commands import lint_files
from mesh.lint.rules.calls import find_callers
from mesh.lint.rules.compiled import fill_store
from mesh.lint.rules.finding import Finding
from mesh.lint.rules.source import read_manifests


def service(name: str, request: str = "", **annotations: str) -> dict[str, Any]:
    notes = {f"mesh/{key.replace('_', '-')}": value for key, value in annotations.items()}
    if request:
        notes["mesh/timeout-request"] = request
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop", "annotations": notes},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 8080}]},
    }


def workload(name: str, *calls: str, **container: Any) -> dict[str, Any]:
    env = [{"name": f"C{at}", "value": f"http://{to}:8080/a"} for at, to in enumerate(calls)]
    spec = {"containers": [{"name": "app", "env": env, **container}]}
    template = {"metadata": {"labels": {"app": name}}, "spec": spec}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template},
    }


def found(*objects: dict[str, Any]) -> list[Finding]:
    text = "\n---\n".join(json.dumps(obj, indent=1) for obj in objects)
    return [f for f in lint_files([("a.yaml", text)])[0] if f.reason == "LongerThanCaller"]


def test_a_callee_that_may_take_longer_than_its_caller_waits_is_found() -> None:
    (finding,) = found(
        service("front", "2s"), workload("front", "back"), service("back", "5s"), workload("back")
    )

    assert finding.object == "Service/shop/back"
    assert finding.message == (
        "nobody waits for 5 s: requests to Service shop/front end after 2 s "
        "(Service/shop/front), and behind it deployment/front calls shop/back"
    )
    assert finding.level == "warning"


def test_a_limit_reaches_over_services_that_say_nothing() -> None:
    (finding,) = found(
        service("front", "2s"),
        workload("front", "middle"),
        service("middle"),
        workload("middle", "back.shop.svc.cluster.local"),
        service("back", "5s"),
    )

    assert "deployment/front calls shop/middle, deployment/middle calls shop/back" in (
        finding.message
    )


def test_the_narrowest_limit_on_the_way_is_named() -> None:
    (finding,) = found(
        service("front", "3s"),
        workload("front", "middle"),
        service("middle", "1s"),
        workload("middle", "back"),
        service("back", "2s"),
    )

    assert "requests to Service shop/middle end after 1 s" in finding.message


def test_a_route_of_the_callee_is_named_with_its_rule() -> None:
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "back", "namespace": "shop"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "back"}],
            "rules": [{"timeouts": {"request": "9s"}}],
        },
    }

    (finding,) = found(
        service("front", "2s"), workload("front", "back"), service("back"), workload("back"), route
    )

    assert (finding.object, finding.path) == ("HTTPRoute/shop/back", "spec.rules[0].timeouts")


def test_what_fits_or_has_no_end_is_no_finding() -> None:
    assert not found(service("front", "5s"), workload("front", "back"), service("back", "5s"))
    assert not found(service("front"), workload("front", "back"), service("back", "5s"))
    assert not found(service("front", "2s"), workload("front", "back"), service("back"))
    assert not found(service("front", "2s"), workload("front"), service("back", "5s"))


def test_services_that_call_one_another_end_the_walk() -> None:
    (finding,) = found(
        service("a", "2s"), workload("a", "b"), service("b", "3s"), workload("b", "a")
    )

    assert finding.object == "Service/shop/b"


@pytest.mark.parametrize(
    ("container", "data"),
    [
        ({"args": ["--upstream=back:8080"]}, {}),
        ({"command": ["sh", "-c", "exec app grpc://back.shop:8080"]}, {}),
        ({"envFrom": [{"configMapRef": {"name": "settings"}}]}, {"URL": "http://back:8080"}),
        (
            {
                "env": [
                    {
                        "name": "U",
                        "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "u"}},
                    }
                ]
            },
            {"u": "http://back:8080", "other": "http://front:8080"},
        ),
    ],
)
def test_calls_are_read_from_whatever_a_container_is_told(
    container: dict[str, Any], data: dict[str, str]
) -> None:
    settings = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": "shop"},
        "data": data,
    }
    objects = [service("back"), service("front"), workload("front", **container), settings]
    text = "\n---\n".join(map(json.dumps, objects))
    manifests, _ = read_manifests([("a.yaml", text)])

    (caller,) = find_callers(manifests, fill_store(manifests))

    assert [call.service for call in caller.calls] == [("shop", "back")]


def test_a_bare_name_or_a_port_that_is_not_there_is_no_call() -> None:
    container = {"args": ["back", "back:9090", "https://back", "x.back:8080.y"]}
    objects = [service("back"), workload("front", **container)]
    manifests, _ = read_manifests([("a.yaml", "\n---\n".join(map(json.dumps, objects)))])

    assert find_callers(manifests, fill_store(manifests)) == []
