"""What needs a cluster of its own: a mesh that is taken away, and one whose trust has ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mesh.core import labels
from mesh.pki.authority import make_issuer, make_root
from tests.e2e.backends import alone
from tests.e2e.stage import Stage, eventually
from tests.e2e.workloads import SERVE, apply, container, pod, wait_ready

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(600)]

PART = "app.kubernetes.io/part-of=lightmesh"
KINDS = "clusterrole,clusterrolebinding,mutatingwebhookconfiguration,validatingwebhookconfiguration"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One without a mesh; each test takes its own away."""
    with alone(tmp_path_factory.mktemp("alone")) as stage:
        yield stage


def test_pods_work_on_and_only_the_kinds_stay(cluster: Stage) -> None:
    stage = cluster
    stage.apply(stage.mesh("install", *stage.install_flags))
    stage.mesh("check", "--wait", "90s")
    stage.kubectl("annotate", "namespace", "default", "mesh/inject=enabled")
    serve = ("--", "python", "-m", "http.server", "8080", "--directory", "/opt")
    stage.kubectl("create", "deployment", "web", f"--image={stage.image}", *serve)
    stage.kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    assert _containers(stage) == 2

    refused = stage.mesh("uninstall", check=False)
    removal = stage.mesh("uninstall", "--force")
    stage.kubectl("delete", "-f", "-", text=removal)

    assert refused == ""
    assert stage.kubectl("get", KINDS, "-l", PART, "-o", "name") == ""
    assert "mesh" not in stage.kubectl("get", "namespaces", "-o", "name")
    kept = stage.kubectl("get", "crd", "-l", PART, "-o", "name").split()
    assert len(kept) == 4
    assert _answers(stage) == 200  # the proxy that is left serves without a control plane
    stage.kubectl("rollout", "restart", "deployment/web")
    stage.kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    assert _containers(stage) == 1
    assert eventually(lambda: _answers(stage) == 200)  # it is ready before it listens


def test_trust_that_has_ended_is_named_with_every_leaf_beneath_it(
    cluster: Stage, tmp_path: Path
) -> None:
    life = _enough_to_start(cluster)
    ends = time.time() + life
    flags = _short_trust(tmp_path, life)
    try:
        cluster.apply(cluster.mesh("install", *cluster.install_flags, *flags))
        cluster.mesh("check", "--wait", "60s")
        annotations = {labels.A_INJECT: "enabled"}
        apply(cluster, pod("old", "default", container(cluster, SERVE), annotations=annotations))
        wait_ready(cluster, "default", "pod/old")
        eventually(lambda: time.time() > ends + 1.0, within=life)

        said = cluster.mesh("check", "--proxy", check=False)

        assert "ConfigMap mesh/mesh-trust-roots: " in said
        assert "Secret mesh/mesh-identity-issuer: " in said
        assert "pod default/old: its leaf has expired, so its peers refuse it" in said
    finally:
        cluster.kubectl("delete", "pod", "old", "-n", "default", "--now", check=False)
        cluster.kubectl("delete", "-f", "-", text=cluster.mesh("uninstall", "--force"))


def _enough_to_start(stage: Stage) -> float:
    """Seconds in which the mesh and a pod are ready, by how fast one command is here and now."""
    began = time.monotonic()
    stage.mesh("install")
    return 40.0 + 30.0 * (time.monotonic() - began)


def _short_trust(folder: Path, life: float) -> tuple[str, ...]:
    """The flags of `mesh install` for an anchor and an issuer of so short a life."""
    root = make_root(now=time.time(), life=life)
    issuer = make_issuer(root, now=time.time(), trust_domain=labels.TRUST_DOMAIN, life=life)
    files = {
        "--identity-trust-anchors-file": root.certificate_pem,
        "--identity-issuer-certificate-file": issuer.chain_pem,
        "--identity-issuer-key-file": issuer.key_pem,
    }
    flags: list[str] = []
    for flag, text in files.items():
        path = folder / flag.strip("-")
        path.write_text(text)
        flags += [flag, str(path)]
    return tuple(flags)


def _pod(stage: Stage) -> dict[str, Any]:
    """The one that is not ending."""

    def settled() -> dict[str, Any]:
        pods = stage.pods("app=web", "default")
        (pod,) = (pod for pod in pods if "deletionTimestamp" not in pod["metadata"])
        return dict(pod)

    return eventually(settled)


def _containers(stage: Stage) -> int:
    """Init containers that stay, and others."""
    spec = _pod(stage)["spec"]
    kept = [c for c in spec.get("initContainers", []) if c.get("restartPolicy")]
    return len(kept) + len(spec["containers"])


def _answers(stage: Stage) -> int:
    status, _, _ = stage.ask((_pod(stage)["status"]["podIP"], 8080), "/")
    return status
