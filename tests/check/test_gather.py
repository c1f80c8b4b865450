"""The shell of check against a stand-in API server: the same facts as in `world`, over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from mesh import __version__
from mesh.check import gather
from mesh.check.commands import check
from mesh.core import labels
from mesh.core.report import ProxiesAnswer
from mesh.runtime.bundle import hash_bundle
from tests.check.world import app_pod, healthy, issuer_secret, status
from tests.support.authority import TrustChain
from tests.support.fake_api import HANGS, FakeApi, running_fake_api

MESH = "/api/v1/namespaces/mesh"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
PROXIES = f"{MESH}/pods/mesh-destination-7d9-abc:9990/proxy/v1/proxies"


def world() -> dict[str, Any]:
    """A healthy mesh as answers, at this moment."""
    facts, chain = healthy(), TrustChain()
    config = facts.config.value
    config["data"]["version"] = __version__
    bundle = hash_bundle(chain.bundle)
    proxies = tuple(
        status(name, leaf_not_after=time.time() + 99, bundle_hash=bundle)
        for name in ("web-1", "web-2")
    )
    answer = ProxiesAnswer(bundle, proxies)
    beat = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return {
        "GET /version": facts.version.value,
        "GET /api/v1/namespaces": facts.namespaces.value,
        "GET /api/v1/pods": facts.pods.value,
        "GET /api/v1/events": [],
        f"GET {CRDS}": facts.crds.value,
        f"GET {WEBHOOKS}/mutatingwebhookconfigurations": facts.mutating.value,
        f"GET {WEBHOOKS}/validatingwebhookconfigurations": facts.validating.value,
        "GET /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases": [
            {"metadata": {"name": "node-1"}, "spec": {"renewTime": beat}}
        ],
        f"GET {MESH}/configmaps/{labels.CONFIG_MAP}": config,
        f"GET {MESH}/configmaps/{labels.TRUST_ROOTS}": {
            "data": {labels.TRUST_ROOTS_KEY: chain.bundle}
        },
        f"GET {MESH}/secrets/{labels.ISSUER_SECRET}": issuer_secret(chain),
        "GET /apis/apps/v1/namespaces/mesh/deployments": facts.mesh_deployments.value,
        f"GET {MESH}/services": facts.mesh_services.value,
        f"GET {MESH}/serviceaccounts": facts.mesh_accounts.value,
        f"GET {MESH}/pods": facts.mesh_pods.value,
        f"GET {MESH}/events": [],
        f"POST {REVIEWS}": {"status": {"allowed": True}},
        "POST /api/v1/namespaces/default/pods": facts.dry_run.value,
        f"POST {MESH}/serviceaccounts/mesh-viewer/token": {"status": {"token": "viewer"}},
        f"GET {PROXIES}": msgspec.json.encode(answer),
    }


@contextmanager
def cluster(**changes: Any) -> Iterator[FakeApi]:
    """A healthy mesh with other answers for the one path that ends in a given word."""
    answers = world()
    for ending, answer in changes.items():
        (path,) = [path for path in answers if path.endswith("/" + ending)]
        answers[path] = answer
    with running_fake_api(answers) as api:
        yield api


def run(api: FakeApi, folder: Path, *arguments: str) -> Result:
    result = CliRunner().invoke(check, [*arguments, "--kubeconfig", api.kubeconfig(folder)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def faults(result: Result) -> list[str]:
    answer = json.loads(result.stdout)
    checks = [check for category in answer["categories"] for check in category["checks"]]
    return [check["error"] for check in checks if "error" in check]


@pytest.mark.parametrize("mode", [[], ["--proxy"], ["--proxy", "-n", "shop"]])
def test_a_healthy_mesh_is_found_healthy_over_http(tmp_path: Path, mode: list[str]) -> None:
    with cluster() as api:
        api.answers["GET /api/v1/namespaces/shop/pods"] = api.answers["GET /api/v1/pods"]
        api.answers["GET /api/v1/namespaces/shop/events"] = []
        result = run(api, tmp_path, *mode, "-o", "json")

    assert faults(result) == []
    assert result.exit_code == 0


def test_the_dry_run_persists_nothing_and_the_viewers_token_travels_in_its_own_header(
    tmp_path: Path,
) -> None:
    with cluster() as api:
        run(api, tmp_path)

    writes = [path for method, path, _ in api.requests if method == "POST" and "/pods" in path]
    assert writes == ["/api/v1/namespaces/default/pods?fieldManager=mesh&dryRun=All"]
    (asked,) = [headers for _, path, headers in api.requests if path == PROXIES]
    assert asked[labels.H_VIEWER_TOKEN] == "viewer"


def test_before_an_installation_nothing_is_written(tmp_path: Path) -> None:
    with cluster() as api:
        run(api, tmp_path, "--pre")

    assert {path for method, path, _ in api.requests if method != "GET"} == {
        f"{REVIEWS}?fieldManager=mesh"
    }


def test_a_kind_that_hangs_holds_up_only_its_own_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "READ_SECONDS", 1.5)
    with cluster(leases=HANGS) as api:
        result = run(api, tmp_path, "-o", "json")

    assert faults(result) == ["no answer within 1.5 s"]


def test_an_answer_of_another_form_is_a_fault_and_no_traceback(tmp_path: Path) -> None:
    with cluster(proxies=b"<html>", token={"status": {}}, leases=b"[]") as api:
        result = run(api, tmp_path, "--proxy", "-o", "json")

    assert result.exit_code == 1
    assert len(faults(result)) >= 2


def test_waiting_ends_as_soon_as_the_pods_are_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.check.run.RETRY_SECONDS", 0.01)
    with cluster() as api:
        path = f"GET {MESH}/pods"
        ready, api.answers[path] = api.answers[path], []
        seen: list[str] = []

        class Healing(dict[str, Any]):
            def get(self, key: str, default: Any = None) -> Any:
                if key == path:
                    seen.append(key)
                    return ready if len(seen) > 2 else []
                return super().get(key, default)

        api.answers = Healing(api.answers)
        result = run(api, tmp_path, "--wait", "30s")

    assert result.exit_code == 0
    assert "waiting: pods of the control plane are ready (Deployment mesh/" in result.stderr


def test_a_thousand_pods_are_checked_in_less_than_three_seconds_of_a_core(tmp_path: Path) -> None:
    pods = [app_pod(f"web-{n}", annotations={"mesh/access-log": "off"}) for n in range(1000)]
    proxies = tuple(status(f"web-{n}") for n in range(1000))
    with cluster() as api:
        bundle = ProxiesAnswer(proxies[0].bundle_hash, proxies)
        api.answers["GET /api/v1/pods"] = pods
        api.answers[f"GET {PROXIES}"] = msgspec.json.encode(bundle)
        before = time.thread_time()
        run(api, tmp_path, "--proxy", "-o", "json")
        took = time.thread_time() - before

    assert took < 3
