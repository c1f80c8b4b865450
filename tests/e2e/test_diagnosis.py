"""What goes wrong in real clusters, provoked: `mesh check` names the object and the remedy.

Outages, quotas, taints, Pod Security levels and old proxies are provoked where they are tested;
trust that has ended in `test_alone`.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mesh.core import labels
from tests.e2e.load import loaded_with, sent_to
from tests.e2e.processes import process_of
from tests.e2e.stage import Stage, eventually
from tests.e2e.workloads import SLEEP, Object, apply, check_says, container, pod, workload

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(300)]


def test_another_meshs_injector_is_named(stage: Stage) -> None:
    nowhere = {"matchLabels": {"nobody-has": "this-label"}}
    hook = {
        "name": "linkerd-proxy-injector.linkerd.io",
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "rules": [
            {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"]}
            | {"resources": ["pods"]}
        ],
        "namespaceSelector": nowhere,
        "failurePolicy": "Ignore",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    kind = "MutatingWebhookConfiguration"
    theirs = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "webhooks": [hook]}
    apply(stage, theirs | {"metadata": {"name": "linkerd-proxy-injector-webhook-config"}})
    try:
        said = stage.mesh("check")
    finally:
        stage.kubectl("delete", kind, "linkerd-proxy-injector-webhook-config")

    name = f"{kind} linkerd-proxy-injector-webhook-config"
    assert f"{name}: Linkerd's injector is in this cluster" in said
    assert "inject with mesh/inject: enabled, the only switch of ours that counts" in said


def test_an_application_with_the_proxys_user_is_named(stage: Stage, space: str) -> None:
    user = {"runAsUser": labels.PROXY_UID, "runAsGroup": labels.PROXY_UID, "runAsNonRoot": True}
    apply(stage, pod("twin", space, container(stage, SLEEP), securityContext=user))

    said = eventually(lambda: check_says(stage, space, "a pod asks for a proxy and has none: "))

    assert f"pod {space}/twin: a pod asks for a proxy and has none" in said
    assert str(labels.PROXY_UID) in said


def test_a_limit_range_without_room_for_the_proxy_is_named(stage: Stage, space: str) -> None:
    limit = {"type": "Container", "max": {"memory": "16Mi"}, "default": {"memory": "16Mi"}}
    meta = {"name": "small", "namespace": space}
    kind = {"apiVersion": "v1", "kind": "LimitRange", "metadata": meta}
    apply(stage, kind | {"spec": {"limits": [limit]}})
    apply(stage, workload("Deployment", "big", space, container(stage, SLEEP)))

    said = eventually(lambda: check_says(stage, space, "its pods are not made"))

    assert f"ReplicaSet {space}/big-" in said
    assert "a LimitRange has no room for the proxy: set its resources by annotation" in said


@pytest.mark.node  # images are names only on the embedded cluster
def test_an_image_that_is_not_there_is_named(stage: Stage, space: str) -> None:
    chosen = {"mesh/proxy-image": "docker.io/nobody/nothing:1"}
    apply(stage, pod("lost", space, container(stage, SLEEP), annotations=chosen))

    said = eventually(lambda: check_says(stage, space, "docker.io/nobody/nothing:1"))

    assert f"pod {space}/lost: Pending" in said


def test_a_frozen_watch_heals_within_30_seconds_and_is_told(stage: Stage) -> None:
    """The API server's words of all open connections are lost; new connections work."""
    try:
        with loaded_with(stage, 50):
            before = {_name(found) for found in _servers(stage)}
            with _deaf(stage, labels.DESTINATION):
                began = time.monotonic()
                stage.kubectl("scale", "deployment/catalogue-v1", "-n", "shop", "--replicas=3")
                (new,) = eventually(lambda: [p for p in _servers(stage) if _name(p) not in before])
                eventually(lambda: _is_used(stage, _name(new)), within=40.0)
                healed = time.monotonic() - began
            said = stage.mesh("check")
    finally:
        stage.kubectl("scale", "deployment/catalogue-v1", "-n", "shop", "--replicas=2")

    assert healed <= 30.0
    assert "fell silent without an end" in said
    assert "look for what drops connections between it and the API server" in said


def _servers(stage: Stage) -> list[Object]:
    return stage.pods("app=catalogue,version=v1")


def _name(found: Object) -> str:
    return str(found["metadata"]["name"])


def _is_used(stage: Stage, name: str) -> bool:
    """Whether the load generator's proxy has sent requests to this pod."""
    address = stage.get("pod", name, "-n", "shop")["status"]["podIP"]
    return sent_to(stage, f"{address}:8080") > 0


@contextmanager
def _deaf(stage: Stage, part: str) -> Iterator[None]:
    """What the API server says on connections that are open now never reaches this part."""
    (found,) = stage.pods(f"{labels.L_COMPONENT}={part.removeprefix('mesh-')}", "mesh")
    pid = process_of(found, part.removeprefix("mesh-"))
    environ = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    (remote,) = (v.partition("=")[2] for v in environ if v.startswith("KUBERNETES_SERVICE_PORT="))
    rules = [
        ["INPUT", "-p", "tcp", "--sport", remote, "--dport", str(port), "-j", "DROP"]
        for port in _ports_to(pid, int(remote))
    ]
    assert rules
    inside = ["nsenter", f"--net=/proc/{pid}/ns/net", "iptables"]
    for rule in rules:
        subprocess.run([*inside, "-A", *rule], check=True)
    try:
        yield
    finally:
        for rule in rules:
            subprocess.run([*inside, "-D", *rule], check=True)


def _ports_to(pid: int, remote: int) -> list[int]:
    """Local ports of established IPv4 connections to a port, in the network of a process."""
    found = []
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        _, local, far, state = line.split()[:4]
        if state == "01" and int(far.rpartition(":")[2], 16) == remote:
            found.append(int(local.rpartition(":")[2], 16))
    return found
