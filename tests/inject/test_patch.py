"""What injection does to a pod, when it does nothing, and why it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.inject.config import InjectConfig, dump_config, load_config
from mesh.inject.patch import Injection, Namespace, Skip
from mesh.inject.workload import Workload, find_workload
from mesh.inject.yamltext import dump_document
from tests.inject.pods import NATIVE, ORDINARY, Object, container_of, inject, make_pod, plan
from tests.support.golden import check_golden


def names(pod: Object, kind: str) -> list[str]:
    return [container["name"] for container in pod["spec"].get(kind, [])]


@pytest.mark.parametrize(("name", "cluster"), [("native", NATIVE), ("ordinary", ORDINARY)])
def test_the_injected_pod_as_a_whole(name: str, cluster: Any) -> None:
    pod = make_pod(initContainers=[{"name": "migrate", "image": "web:1"}])
    pod["spec"]["containers"][0]["readinessProbe"] = {"tcpSocket": {"port": "http"}}

    check_golden(f"inject/{name}.yaml", dump_document(inject(pod, cluster=cluster)))


def test_a_native_sidecar_stands_before_the_application_s_init_containers() -> None:
    pod = inject(make_pod(initContainers=[{"name": "migrate"}]), cluster=NATIVE)

    assert names(pod, "initContainers") == ["mesh-init", "mesh-proxy", "migrate"]
    assert names(pod, "containers") == ["web"]


def test_an_ordinary_sidecar_comes_first_and_redirects_after_the_init_containers() -> None:
    pod = inject(make_pod(initContainers=[{"name": "migrate"}]), cluster=ORDINARY)

    assert names(pod, "initContainers") == ["migrate", "mesh-init"]
    assert names(pod, "containers") == ["mesh-proxy", "web"]
    wait = container_of(pod, "mesh-proxy")["lifecycle"]["postStart"]["exec"]["command"]
    assert wait == ["python", "-m", "proxy.wait", "4191"]


@pytest.mark.parametrize("cluster", [NATIVE, ORDINARY])
def test_injecting_twice_is_injecting_once(cluster: Any) -> None:
    pod = inject(make_pod(), cluster=cluster)

    again = plan(pod, cluster=cluster)

    assert again == Injection((), (), is_new=False)


def test_what_another_webhook_added_later_is_completed() -> None:
    pod = inject(make_pod(initContainers=[{"name": "migrate"}]), cluster=ORDINARY)
    pod["spec"]["initContainers"].append({"name": "late"})
    pod["spec"]["containers"].append({"name": "agent", "livenessProbe": {"tcpSocket": {"port": 9}}})

    pod = inject(pod, cluster=ORDINARY)

    assert names(pod, "initContainers") == ["migrate", "late", "mesh-init"]
    assert "httpGet" in container_of(pod, "agent")["livenessProbe"]
    assert plan(pod, cluster=ORDINARY) == Injection((), (), is_new=False)


def test_a_pod_that_nobody_asked_for_is_left_alone_without_a_word() -> None:
    pod = make_pod()
    del pod["metadata"]["annotations"]

    outcome = plan(pod)

    assert isinstance(outcome, Skip)
    assert (outcome.reason, outcome.wanted) == ("annotation_absent", False)


def test_the_stop_of_the_proxy_follows_the_pod_s_grace_period() -> None:
    proxy = container_of(inject(make_pod(terminationGracePeriodSeconds=90)), "mesh-proxy")

    assert {"name": "MESH_PROXY_DRAIN_TIMEOUT", "value": "88s"} in proxy["env"]


def spec(**fields: Any) -> Object:
    return make_pod(**fields)


def container(**fields: Any) -> Object:
    pod = make_pod()
    pod["spec"]["containers"][0].update(fields)
    return pod


REFUSED: list[tuple[str, Object]] = [
    ("host_network", spec(hostNetwork=True)),
    ("windows", spec(os={"name": "windows"})),
    ("windows", spec(nodeSelector={"kubernetes.io/os": "windows"})),
    ("foreign_sidecar", container(name="linkerd-proxy")),
    ("foreign_sidecar", container(name="x", image="docker.io/istio/proxyv2:1.20.0")),
    ("foreign_sidecar", container(name="x", image="cr.l5d.io/linkerd/proxy:edge-25.1.1")),
    ("foreign_sidecar", spec(initContainers=[{"name": "istio-init"}])),
    ("uid_conflict", spec(securityContext={"runAsUser": 2102})),
    ("uid_conflict", container(securityContext={"runAsUser": 2102})),
    ("port_conflict", container(ports=[{"containerPort": 4143}])),
    ("name_conflict", spec(volumes=[{"name": "mesh-proxy-token", "emptyDir": {}}])),
    ("name_conflict", spec(initContainers=[{"name": "mesh-init"}])),
    ("static_pod", make_pod({"kubernetes.io/config.mirror": "x"})),
]


@pytest.mark.parametrize(("reason", "pod"), REFUSED)
def test_a_pod_that_would_break_is_left_alone_and_the_reason_is_news(
    reason: str, pod: Object
) -> None:
    outcome = plan(pod)

    assert isinstance(outcome, Skip)
    assert (outcome.reason, outcome.wanted) == (reason, True)


@pytest.mark.parametrize(
    "pod",
    [
        container(name="app", securityContext={"runAsUser": 1000}, ports=[{"containerPort": 4142}]),
        container(image="registry/linkerd-proxy-exporter:1"),
        container(ports=[{"containerPort": 4143, "protocol": "UDP"}]),
        spec(nodeSelector={"kubernetes.io/os": "linux"}, hostPID=True),
    ],
)
def test_what_only_looks_alike_is_injected(pod: Object) -> None:
    assert isinstance(plan(pod), Injection)


@pytest.mark.parametrize(
    ("level", "allowed"), [("restricted", 0), ("baseline", 0), ("privileged", 1)]
)
def test_a_pod_security_level_that_rejects_net_admin_prevents_injection(
    level: str, allowed: int
) -> None:
    namespace = Namespace("shop", {"pod-security.kubernetes.io/enforce": level})

    assert isinstance(plan(make_pod(), namespace=namespace), Injection) == bool(allowed)


def owned(kind: str, name: str, **labels_: str) -> Object:
    owner = {"kind": kind, "name": name, "controller": True}
    return {"metadata": {"ownerReferences": [owner], "labels": labels_}}


@pytest.mark.parametrize(
    ("pod", "workload"),
    [
        (owned("ReplicaSet", "web-5d9", **{"pod-template-hash": "5d9"}), ("deployment", "web")),
        (owned("ReplicaSet", "web-5d9"), ("replicaset", "web-5d9")),
        (owned("StatefulSet", "db"), ("statefulset", "db")),
        (owned("Job", "report-29381045"), ("cronjob", "report")),
        (owned("Job", "import-20240131"), ("job", "import-20240131")),
        ({"metadata": {"name": "lone"}}, ("pod", "lone")),
        ({"metadata": {"generateName": "lone-"}}, ("pod", "lone")),
        ({}, ("pod", "")),
    ],
)
def test_the_workload_is_what_a_person_would_name(pod: Object, workload: tuple[str, str]) -> None:
    assert find_workload(pod) == Workload(*workload)


def test_a_long_name_still_makes_a_label() -> None:
    assert Workload("deployment", "a" * 62 + "-b").label == "a" * 62


def test_the_config_survives_its_text_and_unknown_keys_are_ignored() -> None:
    config = InjectConfig(image="a:1", defaults={"mesh/access-log": "json"})

    assert load_config(dump_config(config)) == config
    assert load_config('{"image": "a:1", "of_a_later_version": [1]}').image == "a:1"
