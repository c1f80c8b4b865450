"""Profiles from what proxies say they have seen, against a stand-in API server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import yaml
from click.testing import CliRunner, Result

from mesh.core import labels
from mesh.core.report import AskedAnswer, ProxyAnswer
from mesh.profile.commands import profile
from tests.check.world import control_pod
from tests.support.fake_api import running_fake_api

MESH = "/api/v1/namespaces/mesh"
ASK = f"GET {MESH}/pods/mesh-destination-7d9-abc:9990/proxy/v1/ask"
SLICE = {
    "metadata": {"name": "orders-1"},
    "ports": [{"port": 8080}],
    "endpoints": [{"targetRef": {"kind": "Pod", "name": "orders-a"}}],
}


def run(folder: Path, *arguments: str, **kinds: list[dict[str, Any]]) -> tuple[Result, list[str]]:
    """`kinds` are told by the proxies of these pods."""
    told = tuple(
        ProxyAnswer("shop", pod.replace("_", "-"), json.dumps({"kinds": kinds[pod]}))
        for pod in kinds
    )
    answers = {
        "GET /api/v1/namespaces/shop/services/orders": {"spec": {"ports": [{"port": 80}]}},
        "GET /apis/discovery.k8s.io/v1/namespaces/shop/endpointslices": [SLICE],
        f"GET {MESH}/pods": [control_pod(labels.DESTINATION)],
        f"POST {MESH}/serviceaccounts/mesh-viewer/token": {"status": {"token": "viewer"}},
        ASK: msgspec.json.encode(AskedAnswer(told)),
    }
    command = ["--observed", "-n", "shop", *arguments]
    with running_fake_api(answers) as api:
        result = CliRunner().invoke(profile, [*command, "--kubeconfig", api.kubeconfig(folder)])
    return result, [path for _, path, _ in api.requests if "/v1/ask" in path]


def kind(path: str, method: str = "GET", count: int = 1) -> dict[str, Any]:
    return {"place": "8080", "method": method, "path": path, "count": count, "age": 1.0}


def test_the_pods_of_a_service_say_what_they_have_seen(tmp_path: Path) -> None:
    result, asked = run(
        tmp_path,
        *("--window", "10m", "orders"),
        orders_a=[kind("/orders/{id}", count=5), kind("/orders", "POST")],
        other=[kind("/not-mine")],
    )

    assert result.exit_code == 0, result.output
    found = yaml.safe_load(result.stdout)
    assert found["metadata"]["name"] == "orders.shop.svc.cluster.local"
    assert [(r["name"], r["condition"]["pathRegex"]) for r in found["spec"]["routes"]] == [
        ("POST /orders", "/orders"),
        ("GET /orders/{id}", "/orders/[^/]+"),
    ]
    (query,) = [parse_qs(urlsplit(path).query) for path in asked]
    assert (query["what"], query["namespace"]) == (["observed"], ["shop"])
    assert (query["places"], query["window"]) == (["8080"], ["600.0"])


def test_where_its_own_proxies_know_nothing_those_of_clients_are_asked(tmp_path: Path) -> None:
    result, asked = run(tmp_path, "orders", web_1=[kind("/orders")])

    assert "/orders" in result.stdout
    places = [parse_qs(urlsplit(path).query)["places"] for path in asked]
    assert places == [["8080"], ["orders.shop.svc.cluster.local:80"]]


def test_nothing_seen_is_said_with_what_to_do(tmp_path: Path) -> None:
    result, _ = run(tmp_path, "orders", orders_a=[])

    assert result.exit_code == 1
    assert "no proxy has seen a request to shop/orders in the last 3600 s" in str(result.exception)


def test_a_service_that_is_not_there_is_named(tmp_path: Path) -> None:
    result, _ = run(tmp_path, "ordres")

    assert "Service shop/ordres" in str(result.exception)


def test_a_window_is_a_duration(tmp_path: Path) -> None:
    result, _ = run(tmp_path, "--window", "0s", "orders")

    assert result.exit_code == 2
    assert "expected a window from 1s to 168h" in result.output
