"""Routing objects on the shop's live traffic, and what the proxies say of it when asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e.stage import Stage, eventually

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

SPLIT = """
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata: {name: catalogue, namespace: shop}
spec:
  service: catalogue
  backends: [{service: catalogue-v1, weight: 7}, {service: gone, weight: 3}]
"""
PROFILE = """
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata: {name: orders.shop.svc.cluster.local, namespace: shop}
spec:
  routes:
  - {name: POST /orders, condition: {method: POST, pathRegex: /orders}, isRetryable: true}
"""


@contextmanager
def applied(stage: Stage, text: str) -> Iterator[None]:
    stage.apply(text)
    try:
        yield
    finally:
        stage.kubectl("delete", "-f", "-", "--wait=false", text=text)


def asked(stage: Stage, *words: str) -> Any:
    return json.loads(stage.mesh(*words, "-o", "json"))


def test_a_retryable_route_hides_the_failures_of_what_is_behind_it(stage: Stage) -> None:
    with applied(stage, PROFILE), applied(stage, SPLIT):

        def hidden() -> bool:
            command = ("routes", "deploy/gateway", "-n", "shop", "--to", "svc/orders", "-t", "10s")
            rows = {row["route"]: row for row in asked(stage, *command)}
            row = rows["POST /orders"]
            return bool(row["effective_success"] > 0.97 and row["actual_success"] < 0.9)

        assert eventually(hidden)


def test_the_clients_own_proxy_says_where_its_requests_go(stage: Stage) -> None:
    with applied(stage, SPLIT):
        words = ("explain", "-n", "shop", "--from", "deploy/gateway", "http://catalogue:8080/items")

        def told() -> Any:
            found = asked(stage, *words, "--draw", "0.9")
            assert found["proxy"] is not None
            return found["owner"] == "TrafficSplit/shop/catalogue" and found

        decision = eventually(told)["proxy"]["decision"]
        served = eventually(lambda: asked(stage, *words, "--draw", "0.1"))["proxy"]["decision"]

    assert (decision["status"], decision["reason"]) == (503, "no-service")
    assert decision["rule"] == "TrafficSplit/shop/catalogue#0"
    assert (served["reason"], served["backend"].partition(".")[0]) == ("", "catalogue-v1")


def test_endpoints_are_told_by_the_proxies_that_use_them(stage: Stage) -> None:
    wanted = {pod["status"]["podIP"] for pod in stage.pods("app=orders")}

    rows = asked(stage, "diagnostics", "endpoints", "orders.shop:8080")

    assert {row["ip"] for row in rows} == wanted
    assert all(row["proxies"] >= 1 and row["identity"] and not row["broken"] for row in rows)
