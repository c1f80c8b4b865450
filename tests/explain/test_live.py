"""mesh explain on a cluster: the objects of its API, compiled as files are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from mesh.explain.commands import explain
from tests.destination.world import deployed, load
from tests.support.fake_api import running_fake_api

GROUP = "split.smi-spec.io"
SPLIT = """
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata: {name: web, namespace: shop, creationTimestamp: "2026-01-01T00:00:00Z"}
spec: {service: web, backends: [{service: web, weight: 3}, {service: web-v1, weight: 1}]}
"""


def answers() -> dict[str, Any]:
    objects = [
        *deployed("web", ip="10.96.0.1", pod_ip="10.1.0.1"),
        *deployed("web-v1", ip="10.96.0.2", pod_ip="10.1.0.2"),
    ]
    kinds: dict[str, list[Any]] = {"Service": [], "Pod": [], "EndpointSlice": []}
    for obj in objects:
        kinds[obj["kind"]].append(obj)
    split = {"name": "trafficsplits", "kind": "TrafficSplit", "namespaced": True}
    return {
        "GET /api/v1/namespaces": [],
        "GET /api/v1/services": kinds["Service"],
        "GET /api/v1/pods": kinds["Pod"],
        "GET /apis/discovery.k8s.io/v1/endpointslices": kinds["EndpointSlice"],
        f"GET /apis/{GROUP}": {"versions": [{"version": "v1alpha2"}]},
        f"GET /apis/{GROUP}/v1alpha2": {"resources": [split]},
        f"GET /apis/{GROUP}/v1alpha2/trafficsplits": load(SPLIT),
    }


def run(folder: Path, *arguments: str, **changes: Any) -> Result:
    with running_fake_api(answers() | changes) as api:
        return CliRunner().invoke(explain, [*arguments, "--kubeconfig", api.kubeconfig(folder)])


def test_the_objects_of_the_cluster_decide(tmp_path: Path) -> None:
    result = run(tmp_path, "--draw", "0.8", "http://web/")

    assert result.exit_code == 0, result.output
    assert "objects of the cluster: 7, compiled here; no proxy was asked" in result.output
    assert "TrafficSplit/shop/web: the only split of shop/web" in result.output
    assert "outcome     web-v1.shop:80: sent to one of its endpoints" in result.output


def test_a_right_that_is_missing_is_named(tmp_path: Path) -> None:
    result = run(tmp_path, "http://web/", **{"GET /api/v1/pods": 403})

    assert result.exit_code == 1
    assert "ask for the right to list it" in str(result.exception)


def test_files_and_cluster_at_once_are_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(explain, ["-f", str(tmp_path), "--live", "http://web/"])

    assert result.exit_code == 2
    assert "expected -f or --live, got both" in result.output
