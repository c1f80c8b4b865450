"""`mesh stat` against a stand-in API server: what it asks, merges and prints."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from mesh.core import labels
from mesh.core.errors import MeshError
from mesh.core.report import ReportsAnswer, WindowReport
from mesh.stat.commands import stat
from tests.check.world import control_pod
from tests.stat.test_rows import named, outbound, pod
from tests.stat.traffic import ProxySim
from tests.support.fake_api import FakeApi, running_fake_api

MESH = "/api/v1/namespaces/mesh"
DESTINATION = "mesh-destination-7d9-abc"
REPORTS = f"GET {MESH}/pods/{DESTINATION}:9990/proxy/v1/reports"


def answer(*proxies: ProxySim) -> bytes:
    reports = tuple(report for proxy in proxies if (report := proxy.window(100.0)))
    return msgspec.json.encode(ReportsAnswer(60.0, reports))


def web(number: int = 1, **more: Any) -> ProxySim:
    return ProxySim(f"web-{number}", rate=10, begin=0, end=1000, **more)


def world() -> dict[str, Any]:
    """Namespace shop with Deployment web of one meshed pod, and one destination."""
    destination = control_pod(labels.DESTINATION)
    return {
        f"GET {MESH}/pods": [destination],
        f"POST {MESH}/serviceaccounts/mesh-viewer/token": {"status": {"token": "viewer"}},
        REPORTS: answer(web()),
        "GET /api/v1/namespaces/shop/pods": [pod("web-1", "web")],
        "GET /api/v1/pods": [pod("web-1", "web")],
        "GET /apis/apps/v1/namespaces/shop/deployments": [named("web")],
        "GET /apis/apps/v1/deployments": [named("web")],
    }


def run(folder: Path, *arguments: str, **changes: Any) -> tuple[Result, FakeApi]:
    with running_fake_api(world() | changes) as api:
        arguments = (*arguments, "--kubeconfig", api.kubeconfig(folder))
        result = CliRunner().invoke(stat, arguments, standalone_mode=True)
    return result, api


def test_a_deployment_is_shown_and_the_window_and_token_are_sent(tmp_path: Path) -> None:
    result, api = run(tmp_path, "deploy", "-t", "30s", "-o", "json")

    (row,) = json.loads(result.stdout)
    assert (row["name"], row["meshed"]) == ("web", "1/1")
    assert row["rps"] == pytest.approx(10, rel=0.02)
    (asked,) = [r for r in api.requests if "/proxy/" in r[1]]
    assert asked[1].endswith("/proxy/v1/reports?window=30&namespace=shop")
    assert asked[2][labels.H_VIEWER_TOKEN] == "viewer"


def test_reports_of_several_destinations_are_merged(tmp_path: Path) -> None:
    second = control_pod(labels.DESTINATION)
    second["metadata"]["name"] = "other"
    result, _ = run(
        tmp_path,
        "-o",
        "json",
        **{
            f"GET {MESH}/pods": [control_pod(labels.DESTINATION), second],
            f"GET {MESH}/pods/other:9990/proxy/v1/reports": answer(web(2, phase=1.0)),
            "GET /api/v1/namespaces/shop/pods": [pod("web-1", "web"), pod("web-2", "web")],
        },
    )

    (row,) = json.loads(result.stdout)
    assert row["meshed"] == "2/2"
    assert row["rps"] == pytest.approx(20, rel=0.02)


def test_one_silent_destination_is_a_warning_and_all_silent_an_error(tmp_path: Path) -> None:
    second = control_pod(labels.DESTINATION)
    second["metadata"]["name"] = "other"
    both = {f"GET {MESH}/pods": [control_pod(labels.DESTINATION), second]}

    result, _ = run(tmp_path, **both)
    assert "web" in result.stdout
    assert "pod mesh/other gave no report" in result.stderr

    result, _ = run(tmp_path, **{REPORTS: 500})
    assert result.exit_code == 1
    assert "mesh check" in str(result.exception)


@pytest.mark.parametrize(
    ("path", "code", "advice"),
    [
        (f"POST {MESH}/serviceaccounts/mesh-viewer/token", 403, "ask for this right"),
        (f"POST {MESH}/serviceaccounts/mesh-viewer/token", 500, "`mesh check` says more"),
        ("GET /api/v1/namespaces/shop/pods", 403, "ask for this right"),
    ],
)
def test_a_refusal_is_one_sentence_that_ends_with_what_to_do(
    tmp_path: Path, path: str, code: int, advice: str
) -> None:
    result, _ = run(tmp_path, **{path: code})

    assert isinstance(result.exception, MeshError)
    assert str(result.exception).startswith(f"{path} answered {code}; ")
    assert advice in str(result.exception)


def test_a_cluster_without_a_mesh_is_told_with_the_command_that_installs_one(
    tmp_path: Path,
) -> None:
    result, _ = run(tmp_path, **{f"POST {MESH}/serviceaccounts/mesh-viewer/token": 404})

    assert isinstance(result.exception, MeshError)
    assert str(result.exception).startswith("no mesh in namespace mesh: install one (mesh install")


def test_splits_of_every_served_group_are_read(tmp_path: Path) -> None:
    split = named("canary", service="web", backends=[{"service": "web-v2", "weight": 1}])
    group = "/apis/split.smi-spec.io"
    served = {"resources": [{"name": "trafficsplits", "kind": "TrafficSplit", "namespaced": True}]}

    result, _ = run(
        tmp_path,
        *("ts", "-o", "json"),
        **{
            f"GET {group}": {"versions": [{"version": "v1alpha4"}]},
            f"GET {group}/v1alpha4": served,
            f"GET {group}/v1alpha4/namespaces/shop/trafficsplits": [split],
            REPORTS: answer(web(key=outbound("web", "web-v2"))),
        },
    )

    (row,) = json.loads(result.stdout)
    assert (row["apex"], row["leaf"], row["weight"], row["share"]) == ("web", "web-v2", "1", 1.0)


def test_a_name_that_is_not_there_is_told_and_the_others_are_shown(tmp_path: Path) -> None:
    result, _ = run(tmp_path, "deploy", "web", "wbe")

    assert result.exit_code == 1
    assert "deploy/wbe: found none in namespace shop" in result.stderr
    assert "web" in result.stdout


def test_no_row_is_said_on_stderr_and_is_no_error(tmp_path: Path) -> None:
    nothing: dict[str, Any] = {"GET /apis/apps/v1/namespaces/shop/deployments": []}

    result, _ = run(tmp_path, **nothing)
    assert (result.stdout, result.stderr, result.exit_code) == ("", "No traffic found.\n", 0)
    result, _ = run(tmp_path, "-o", "json", **nothing)
    assert result.stdout == "[]\n"


def test_the_selector_goes_to_the_objects_and_all_namespaces_add_a_column(tmp_path: Path) -> None:
    result, api = run(tmp_path, "-A", "-l", "app=web")

    assert result.stdout.startswith("NAMESPACE   NAME")
    (asked,) = [path for _, path, _ in api.requests if "deployments" in path]
    assert "labelSelector=app%3Dweb" in asked


@pytest.mark.parametrize("arguments", [["-t", "3s"], ["-t", "x"], ["-n", "a", "-A"], ["frob"]])
def test_wrong_usage_exits_with_two(tmp_path: Path, arguments: list[str]) -> None:
    assert run(tmp_path, *arguments)[0].exit_code == 2


def test_where_the_proxy_subresource_is_refused_kubectl_forwards_a_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kubectl is a script here that prints the port of the stand-in itself."""
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    with running_fake_api(world() | {REPORTS: 403}) as api:
        script = tools / "kubectl"
        script.write_text(
            f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n'
            f'echo "Forwarding from 127.0.0.1:{api.port} -> 9990"\nexec sleep 60\n'
        )
        script.chmod(0o755)
        api.answers["GET /v1/reports"] = answer(web())
        kubeconfig = api.kubeconfig(tmp_path)
        result = CliRunner().invoke(stat, ["-o", "json", "--kubeconfig", kubeconfig])

    assert json.loads(result.stdout)[0]["name"] == "web"
    assert (tmp_path / "asked").read_text().split() == [
        *("--kubeconfig", kubeconfig, "-n", "mesh"),
        *("port-forward", f"pod/{DESTINATION}", ":9990"),
    ]


def test_a_thousand_pods_take_less_than_two_seconds_of_a_core(tmp_path: Path) -> None:
    one = web().window(100.0)
    assert one is not None
    twenty = one.series * 20
    reports = tuple(
        WindowReport("shop", f"web-{n}", one.started, one.ended, 1.0, True, twenty, incarnation="a")
        for n in range(1000)
    )
    changes = {
        REPORTS: msgspec.json.encode(ReportsAnswer(60.0, reports)),
        "GET /api/v1/namespaces/shop/pods": [pod(f"web-{n}", "web") for n in range(1000)],
    }

    before = time.thread_time()
    result, _ = run(tmp_path, "-o", "json", **changes)

    assert time.thread_time() - before < 2
    assert json.loads(result.stdout)[0]["meshed"] == "1000/1000"
