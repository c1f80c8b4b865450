"""Other people's rules: pods and namespaces as they are found in real clusters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mesh.core import labels
from tests.e2e.stage import Stage, eventually
from tests.e2e.workloads import (
    SERVE,
    SLEEP,
    Object,
    apply,
    check_says,
    container,
    namespace,
    pod,
    wait_ready,
    workload,
)

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(300)]

SPACE = "rules"
LONG = "-".join(["account"] * 31) + "-extra"  # 253 characters: no DNS name holds such an identity
LONG_POD = "-".join(["pod"] * 50)  # a kubelet's log folder has room for about ten more
HOST_PORT = 18080
TOO_MUCH = {"resources": {"requests": {"cpu": "400m"}}}


@pytest.fixture(scope="module")
def space(stage: Stage) -> Iterator[str]:
    """A meshed namespace with all these pods, which start at the same time."""
    with namespace(stage, SPACE):
        apply(stage, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _named(LONG)})
        apply(stage, *_pods(stage))
        yield SPACE


def _named(name: str) -> Object:
    return {"name": name, "namespace": SPACE}


def _pods(stage: Stage) -> list[Object]:
    serve = container(stage, SERVE)
    quiet = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    variables = [{"name": f"VARIABLE_{n}", "value": "x" * 64} for n in range(250)]
    other = [*SERVE[:3], "9090"]
    host_port = [{"containerPort": 8080, "hostPort": HOST_PORT}]
    return [
        pod(
            "own-user",
            SPACE,
            serve | {"securityContext": quiet},
            securityContext={"runAsUser": 1000, "runAsGroup": 1000, "runAsNonRoot": True},
        ),
        pod("host-port", SPACE, serve | {"ports": host_port}),
        pod("shared-processes", SPACE, serve, shareProcessNamespace=True),
        pod(
            "two-ports",
            SPACE,
            serve | {"ports": [{"name": "web", "containerPort": 8080}]},
            container(stage, other) | {"name": "raw", "ports": [{"containerPort": 9090}]},
            annotations={"mesh/skip-inbound-ports": "9090"},
        ),
        pod("many-variables", SPACE, serve | {"env": variables}),
        pod("long-account", SPACE, serve, serviceAccountName=LONG),
        pod(LONG_POD, SPACE, serve),
    ]


PODS = ("own-user", "shared-processes", "two-ports", "many-variables", "long-account")


@pytest.mark.parametrize("name", [*PODS, "host-port", LONG_POD])
def test_such_a_pod_is_meshed_and_serves(stage: Stage, space: str, name: str) -> None:
    wait_ready(stage, space, f"pod/{name}")

    found = stage.get("pod", name, "-n", space)
    names = [item["name"] for item in found["spec"]["initContainers"]]
    assert names == [labels.INIT_CONTAINER, labels.PROXY_CONTAINER]
    assert _serves(stage, found["status"]["podIP"], 8080)


def _serves(stage: Stage, address: str, port: int) -> bool:
    """Whether the application answers, which may listen later than its pod is ready: no probe."""
    return eventually(lambda: stage.ask((address, port), "/")[0] == 200)


def test_a_host_port_and_a_port_that_is_skipped_are_reached(stage: Stage, space: str) -> None:
    wait_ready(stage, space, "pod/host-port pod/two-ports")
    (node,) = stage.get("nodes")["items"]
    address = next(a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP")

    assert _serves(stage, address, HOST_PORT)
    two = stage.get("pod", "two-ports", "-n", space)["status"]["podIP"]
    assert _serves(stage, two, 9090)
    assert not any(f'target_addr="{two}:9090"' in line for line in stage.metrics(two))


def test_what_we_add_counts_in_a_quota_and_is_settable(stage: Stage, space: str) -> None:
    name = "rules-quota"
    default = {"memory": "64Mi", "cpu": "500m"}
    limit = {"type": "Container", "default": default, "defaultRequest": {"memory": "32Mi"}}
    hard = {"requests.cpu": "400m", "limits.memory": "1Gi"}
    asked = {"resources": {"requests": {"cpu": "100m"}}}
    with namespace(stage, name):
        apply(
            stage,
            _object("LimitRange", name, limits=[limit]),
            _object("ResourceQuota", name, hard=hard),
        )
        eventually(lambda: _used(stage, name))
        wanted = {"mesh/proxy-cpu-request": "50m", "mesh/proxy-memory-limit": "96Mi"}
        apply(stage, pod("web", name, container(stage, SLEEP, **asked), annotations=wanted))
        wait_ready(stage, name, "pod/web")

        used = eventually(lambda: (u := _used(stage, name))["requests.cpu"] != "0" and u)
        assert used == {"requests.cpu": "150m", "limits.memory": "160Mi"}
        apply(stage, workload("Deployment", "big", name, container(stage, SLEEP, **TOO_MUCH)))
        check = eventually(lambda: check_says(stage, name, "exceeded quota: rule"))
        assert "annotations mesh/proxy-cpu-request" in check


def _object(kind: str, namespace: str, **spec: Any) -> Object:
    meta = {"name": "rule", "namespace": namespace}
    return {"apiVersion": "v1", "kind": kind, "metadata": meta, "spec": spec}


def _used(stage: Stage, namespace: str) -> dict[str, str]:
    found = stage.get("resourcequota", "rule", "-n", namespace)
    used: dict[str, str] = (found.get("status") or {}).get("used") or {}
    return used


def test_our_network_policies_are_accepted_with_every_port_that_we_serve(stage: Stage) -> None:
    flags = ("--set", "controlPlane.networkPolicy=true")
    text = stage.mesh("install", *stage.install_flags, *flags)

    said = stage.kubectl("apply", "--dry-run=server", "-f", "-", text=text)

    assert said.count("networkpolicy.networking.k8s.io/") == 3


def test_a_tainted_node_takes_what_tolerates_it(stage: Stage, space: str) -> None:
    """Pods keep their tolerations beside a proxy; the control plane can be given some."""
    (node,) = stage.get("nodes")["items"]
    taint = "dedicated=mesh:NoSchedule"
    stage.kubectl("taint", "node", node["metadata"]["name"], taint)
    try:
        tolerant = {"tolerations": [{"key": "dedicated", "operator": "Exists"}]}
        serve = container(stage, SERVE)
        apply(stage, pod("tolerant", SPACE, serve, **tolerant), pod("barred", SPACE, serve))
        wait_ready(stage, SPACE, "pod/tolerant")
        check = eventually(lambda: check_says(stage, SPACE, "untolerated taint"))
        assert f"pod {SPACE}/barred: Pending" in check
        stage.apply(stage.mesh("upgrade", "--set", f"controlPlane.tolerations={taint}"))
        for part in (labels.IDENTITY, labels.DESTINATION, labels.INJECT):
            what = ("rollout", "status", f"deployment/{part}", "-n", labels.MESH_NAMESPACE)
            stage.kubectl(*what, "--timeout=120s")
    finally:
        stage.kubectl("taint", "node", node["metadata"]["name"], f"{taint}-")
        stage.apply(stage.mesh("upgrade", "--reset-values", *stage.install_flags))
    wait_ready(stage, SPACE, "pod/barred")
