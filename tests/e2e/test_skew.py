"""Proxies and control plane of this version and of the release before, in both directions.

`tests/previous-release` names it. Traffic, splits and mutual TLS, and no failed request.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mesh import __version__
from mesh.core import labels
from tests.cluster.cache import BuildError
from tests.e2e.load import loaded_with, split
from tests.e2e.stage import Stage, eventually
from tests.e2e.workloads import check_says
from tests.support.previous import previous_release, run_previous

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(900)]

PARTS = (labels.IDENTITY, labels.DESTINATION, labels.INJECT)
WORKLOADS = ("gateway", "orders", "stock", "catalogue-v1", "catalogue-v2")  # clients first


@pytest.fixture(scope="module")
def previous(stage: Stage) -> str:
    """The image of the release before, known to the cluster."""
    try:
        return stage.previous()
    except BuildError as error:
        pytest.fail(str(error), pytrace=False)


@contextmanager
def under_load(stage: Stage, target: str = "catalogue", rate: int = 200) -> Iterator[None]:
    """So many requests a second, none of which may fail; the catalogue is split."""
    with loaded_with(stage, rate, target):
        eventually(lambda: stage.load("/stats")["ok"] > 100)
        began, before = time.time(), stage.load("/stats")
        yield
        rows = stage.load(f"/recent?since={began}")
        assert [row for row in rows if not 200 <= row[2] < 400] == []
        assert stage.load("/stats")["failed"] == before["failed"]


def _follows_a_split(stage: Stage) -> None:
    """The load generator's proxy sends all requests to the version that has the weight."""
    for wanted, weights in (("v2", (0, 100)), ("v1", (100, 0))):
        split(stage, *weights)
        eventually(functools.partial(_is_served_by, stage, wanted), within=15.0)


def _is_served_by(stage: Stage, version: str) -> bool:
    """Whether this one alone answered the last requests."""
    return {row[1] for row in stage.load(f"/recent?since={time.time() - 0.5}")} == {version}


def _roll(stage: Stage, namespace: str, *deployments: str) -> None:
    """Until the new pods are there and the old ones gone: an injector that ends still answers."""
    for name in deployments:
        what = f"deployment/{name}"
        stage.kubectl("rollout", "status", what, "-n", namespace, "--timeout=120s")
    eventually(
        lambda: not any("deletionTimestamp" in p["metadata"] for p in stage.pods("", namespace))
    )


def _choose_proxy(stage: Stage, image: str | None, *deployments: str) -> None:
    """Give these workloads new pods with this proxy (None: the control plane's own)."""
    annotations = {"mesh/proxy-image": image, "rolled": str(time.time())}
    patch = json.dumps({"spec": {"template": {"metadata": {"annotations": annotations}}}})
    for name in deployments:
        stage.kubectl("patch", "deployment", name, "-n", "shop", "--type=merge", "-p", patch)
    _roll(stage, "shop", *deployments)


def _proxies(stage: Stage, app: str) -> dict[str, str]:
    """Pods and the versions that their proxies say of themselves."""
    return {
        pod["metadata"]["name"]: _version_of(stage, pod)
        for pod in stage.pods(f"app={app}")
        if "deletionTimestamp" not in pod["metadata"]
    }


def _metrics(stage: Stage, pod: Any) -> list[str]:
    return stage.metrics(pod["status"]["podIP"])


def _version_of(stage: Stage, pod: Any) -> str:
    (line,) = (line for line in _metrics(stage, pod) if line.startswith("proxy_build_info{"))
    return line.partition('version="')[2].partition('"')[0]


def _is_encrypted(stage: Stage) -> None:
    """What the load generator's proxy sent has been mutually authenticated, all of it."""
    (pod,) = stage.pods("app=load")
    lines = [line for line in _metrics(stage, pod) if line.startswith("request_total{")]
    sent = [line for line in lines if 'direction="outbound"' in line and "target_addr=" in line]
    assert sent
    assert all('tls="true"' in line and "server_id=" in line for line in sent)


def test_an_upgrade_mixes_releases_in_both_directions_and_loses_no_request(
    stage: Stage, previous: str
) -> None:
    """From the release before: newer proxies with the old control plane, then the control plane,
    then older proxies with the new one, then every workload."""
    stage.apply(_install_previous(stage, previous))
    try:
        _roll(stage, labels.MESH_NAMESPACE, *PARTS)
        _choose_proxy(stage, None, *WORKLOADS, "load")
        assert _versions(stage, "load", "catalogue") == {previous_release().version}
        with under_load(stage):
            _choose_proxy(stage, stage.image, "catalogue-v1")
            assert _versions(stage, "catalogue") == {previous_release().version, __version__}
            _mixes(stage)

            plan = stage.mesh("upgrade", *stage.install_flags, "--plan")
            stage.apply(stage.mesh("upgrade", *stage.install_flags))
            _roll(stage, labels.MESH_NAMESPACE, *PARTS)
            older = f"its proxies have version {previous_release().version}, this command is"
            eventually(lambda: check_says(stage, "shop", f"deployment shop/orders: {older}"))
            _mixes(stage)
        with under_load(stage, "gateway", 40):
            for name in WORKLOADS:
                _choose_proxy(stage, None, name)
    finally:
        stage.apply(stage.mesh("upgrade", "--reset-values", *stage.install_flags))
    _choose_proxy(stage, None, "load")

    assert f"control plane: version {previous_release().version} -> " in plan
    assert "~ Deployment mesh/mesh-identity" in plan
    assert _versions(stage, "load", "catalogue") == {__version__}
    assert stage.mesh("upgrade", "--plan").startswith("= ")


def _mixes(stage: Stage) -> None:
    """An old client with servers of both releases: traffic follows splits, all of it encrypted."""
    _follows_a_split(stage)
    _is_encrypted(stage)


def _versions(stage: Stage, *apps: str) -> set[str]:
    """The releases that the proxies of these pods say they are."""
    return {version for app in apps for version in _proxies(stage, app).values()}


def _install_previous(stage: Stage, image: str, *flags: str) -> str:
    """What the release before prints for its own `mesh install`."""
    policy = ("--image", image, "--image-pull-policy", "Never")
    return run_previous("-m", "mesh", "install", *policy, *flags, environ=stage.environ)
