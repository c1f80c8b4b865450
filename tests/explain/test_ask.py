"""mesh explain and mesh diagnostics where proxies can be asked, against a stand-in API server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner, Result

from destination.view import Client, look
from mesh.core import labels
from mesh.core.report import AskedAnswer, ProxyAnswer
from mesh.explain.commands import explain
from mesh.explain.diagnostics import diagnostics, full_authority
from tests.check.world import control_pod
from tests.destination.world import World, deployed, load
from tests.explain.test_live import SPLIT, answers
from tests.support.fake_api import running_fake_api

MESH = "/api/v1/namespaces/mesh"
ASK = f"GET {MESH}/pods/mesh-destination-7d9-abc:9990/proxy/v1/ask"
WEB = "web.shop.svc.cluster.local:80"
ENTRY = {
    "id": "abc-1", "at": 1700000000.0, "seconds": 0.0123, "method": "GET", "host": "web",
    "path": "/a", "address": "10.96.0.1:80", "service": WEB, "rule": "HTTPRoute/shop/r#1",
    "route": "", "backend": WEB, "endpoint": "10.1.0.1:8080", "pod": "web-1", "tries": 2,
    "status": 503, "reason": "", "view": 7,
}  # fmt: skip


def told_view() -> dict[str, Any]:
    """What a proxy says whose view is that of the cluster."""
    found = World(
        [
            *deployed("web", ip="10.96.0.1", pod_ip="10.1.0.1"),
            *deployed("web-v1", ip="10.96.0.2", pod_ip="10.1.0.2"),
            *load(SPLIT),
        ]
    )
    view = look(found.snapshot, Client("shop", "web-1"), ["10.96.0.1:80"], version=9).view
    endpoint = msgspec.to_builtins(view.services[WEB].endpoints[0])
    state = {
        "pending": 2, "latencySeconds": 0.0021, "connections": 1,
        "isBroken": True, "probeInSeconds": 3.5,
    }  # fmt: skip
    return {
        "version": 9,
        "target": msgspec.to_builtins(view.targets["10.96.0.1:80"]),
        "services": {name: msgspec.to_builtins(one) for name, one in view.services.items()},
        "requireTls": False,
        "decision": {
            "rule": "TrafficSplit/shop/web#0", "route": "", "backend": WEB,
            "isDrawn": True, "status": 0, "reason": "",
        },
        "budget": {"ratio": 0.2, "left": 20},
        "backends": {
            WEB: {
                "exists": True, "balancing": "ewma", "denial": "", "count": 1,
                "endpoints": [{**endpoint, **state}],
            }
        },
    }  # fmt: skip


def run(command: click.Command, folder: Path, *arguments: str, **bodies: Any) -> Result:
    told = tuple(
        ProxyAnswer("shop", pod.replace("_", "-"), json.dumps(body)) for pod, body in bodies.items()
    )
    changes = {
        f"GET {MESH}/pods": [control_pod(labels.DESTINATION)],
        f"POST {MESH}/serviceaccounts/mesh-viewer/token": {"status": {"token": "viewer"}},
        ASK: msgspec.json.encode(AskedAnswer(told)),
    }
    with running_fake_api(answers() | changes) as api:
        where = ["--kubeconfig", api.kubeconfig(folder)]
        result = CliRunner().invoke(command, [*arguments, *where])
    result.asked = [r[1] for r in api.requests if "/proxy/" in r[1]]  # type: ignore[attr-defined]
    return result


def test_the_clients_own_proxy_answers_and_says_how_its_endpoints_are(tmp_path: Path) -> None:
    result = run(explain, tmp_path, "--draw", "0.1", "http://web/", web_1=told_view())

    assert result.exit_code == 0, result.output
    assert "the proxy of shop/web-1, its view in force (version 9)" in result.output
    assert "decides: TrafficSplit/shop/web#0: sent to web.shop.svc" in result.output
    assert "BROKEN, asked again in 3.5s, 2 in hand, 2.1 ms, 1 connections" in result.output
    assert "DIFFERS" not in result.output
    assert "view is on its way" not in result.output


def test_a_proxy_with_an_older_view_is_noticed(tmp_path: Path) -> None:
    told = told_view()
    told["target"]["rules"][0]["backends"] = [{"authority": WEB, "weight": 1}]

    result = run(explain, tmp_path, "--draw", "0.9", "http://web/", web_1=told)

    assert "would give another outcome: its view is on its way" in result.output


def test_without_a_connected_proxy_the_objects_decide(tmp_path: Path) -> None:
    result = run(explain, tmp_path, "http://web/")

    assert result.exit_code == 0
    assert "no proxy of namespace shop is connected" in result.output
    assert "compiled here" in result.output


def test_the_answer_is_there_as_json_too(tmp_path: Path) -> None:
    result = run(explain, tmp_path, "-o", "json", "http://web/", web_1=told_view())

    assert json.loads(result.stdout)["proxy"]["budget"]["left"] == 20


def test_a_request_is_found_by_its_id(tmp_path: Path) -> None:
    result = run(
        explain, tmp_path, "--id", "abc-1", web_1={"request": ENTRY}, web_2={"request": None}
    )

    assert result.exit_code == 0, result.output
    assert (
        "client      pod shop/web-1, ended 2023-11-14 22:13:20 UTC after 12.3 ms" in result.output
    )
    assert "rule        HTTPRoute/shop/r#1" in result.output
    assert "endpoint    10.1.0.1:8080 web-1, try 2" in result.output
    assert "outcome     503, the server's" in result.output


def test_an_id_that_nobody_knows_is_said_so(tmp_path: Path) -> None:
    result = run(explain, tmp_path, "--id", "x", web_1={"request": None})

    assert result.exit_code == 1
    assert 'none of 1 proxies knows request "x"' in str(result.exception)


def test_neither_url_nor_id_is_wrong_usage(tmp_path: Path) -> None:
    assert CliRunner().invoke(explain, []).exit_code == 2


def test_endpoints_are_shown_with_what_proxies_think_of_them(tmp_path: Path) -> None:
    body = {"version": 9, "backends": told_view()["backends"]}

    result = run(diagnostics, tmp_path, "endpoints", "web.shop:80", client_1=body, client_2=body)

    assert result.exit_code == 0, result.output
    title, row = result.output.splitlines()
    assert title.split()[:6] == ["NAMESPACE", "IP", "PORT", "POD", "MESHED", "PROXIES"]
    assert row.split()[1:3] + row.split()[5:8] == ["10.1.0.1", "8080", "2", "2", "4"]


def test_endpoints_of_what_nobody_uses_are_an_error(tmp_path: Path) -> None:
    result = run(diagnostics, tmp_path, "endpoints", "web.shop:81", client_1={"backends": {}})

    assert result.exit_code == 1
    assert "none of 1 proxies" in str(result.exception)


def test_a_profile_comes_from_a_proxy_that_uses_the_service(tmp_path: Path) -> None:
    target = told_view()["target"]
    view = {"targets": {target["address"]: target}, "services": {}}

    result = run(diagnostics, tmp_path, "profile", "web.shop:80", web_1=view)

    assert json.loads(result.output)["target"]["authority"] == WEB
    assert json.loads(result.output)["proxy"] == "shop/web-1"


def test_a_view_is_that_of_the_pod_that_was_named(tmp_path: Path) -> None:
    result = run(diagnostics, tmp_path, "view", "-n", "shop", "web-1", web_1={"version": 3})

    assert json.loads(result.output) == {"version": 3}
    (asked,) = result.asked  # type: ignore[attr-defined]
    assert asked.endswith("what=view&namespace=shop&pod=web-1")


def test_a_view_is_asked_of_a_pod_and_of_nothing_else(tmp_path: Path) -> None:
    told = {"version": 9, "targets": {}}

    result = run(diagnostics, tmp_path, "view", "-n", "shop", "pod/web-1", web_1=told)
    other = run(diagnostics, tmp_path, "view", "-n", "shop", "deploy/web", web_1=told)

    assert json.loads(result.output)["version"] == 9
    assert other.exit_code == 2
    assert 'expected the name of a pod, got "deploy/web"' in other.output


@pytest.mark.parametrize(
    "text", ["web.shop:80", "web.shop.svc:80", "web.shop.svc.cluster.local:80"]
)
def test_every_form_of_a_name_means_the_service(text: str) -> None:
    assert full_authority(text) == WEB


@pytest.mark.parametrize(
    ("code", "words"),
    [(403, "ask for the right to create tokens"), (404, "no mesh in namespace mesh: install one")],
)
def test_who_may_not_ask_is_told_what_to_do(tmp_path: Path, code: int, words: str) -> None:
    changes = {
        f"GET {MESH}/pods": [control_pod(labels.DESTINATION)],
        f"POST {MESH}/serviceaccounts/mesh-viewer/token": code,
    }
    with running_fake_api(answers() | changes) as api:
        where = ["--kubeconfig", api.kubeconfig(tmp_path)]
        result = CliRunner().invoke(diagnostics, ["endpoints", "web.shop:80", *where])

    assert result.exit_code == 1
    assert words in str(result.exception)
