"""What only a kubelet, a scheduler and controllers show: kinds of workload, Jobs, the image."""

from __future__ import annotations

import datetime
import json

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
    job,
    pod,
    service,
    wait_ready,
    workload,
)

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(300)]

ASK = "import urllib.request as u; print(u.urlopen('http://gateway.shop:8080/healthz').status)"
ASK_ALWAYS = """
import time, urllib.request as u
while True:
    time.sleep(0.05)
    try:
        u.urlopen("http://all:8080/", timeout=5).read()
    except OSError:
        pass  # nobody listens yet
"""
_NAMES = {
    "deployment": "web",
    "statefulset": "set",
    "daemonset": "daemon",
    "replicaset": "bare-set",
    "pod": "bare",
}


def test_every_kind_of_workload_is_meshed_balanced_and_named(stage: Stage, space: str) -> None:
    """The annotation that is written as a label has `mesh check` name each workload."""
    app = container(stage, SERVE, readinessProbe={"tcpSocket": {"port": 8080}, "periodSeconds": 1})
    marks: Object = {"labels": {"all": "of-them", "mesh/skip-outbound-ports": "1"}}
    apply(
        stage,
        service("set", space, clusterIP="None"),
        service("all", space, selector={"all": "of-them"}),
        workload("Deployment", "web", space, app, **marks),
        workload("StatefulSet", "set", space, app, serviceName="set", replicas=2, **marks),
        workload("DaemonSet", "daemon", space, app, **marks),
        workload("ReplicaSet", "bare-set", space, app, replicas=1, **marks),
        pod("bare", space, app, **marks),
        pod("client", space, container(stage, ["python", "-c", ASK_ALWAYS])),
    )

    for name in ("deployment/web", "statefulset/set", "daemonset/daemon"):
        stage.kubectl("rollout", "status", name, "-n", space, "--timeout=120s")
    wait_ready(stage, space, "pod/bare")
    servers = stage.pods("all=of-them", space)
    for found in servers:
        names = [item["name"] for item in found["spec"].get("initContainers", [])]
        assert names == [labels.INIT_CONTAINER, labels.PROXY_CONTAINER]
    assert len(servers) == 6
    eventually(lambda: all(_inbound(stage, space, p["metadata"]["name"]) for p in servers))
    rows = eventually(lambda: _rows(stage, space, count=7))
    assert {"deploy/web", "sts/set", "ds/daemon", "rs/bare-set", "po/bare"} <= set(rows)
    said = stage.mesh("check", "--proxy", "-n", space, check=False)
    for kind in ("deployment", "statefulset", "daemonset", "replicaset", "pod"):
        assert f"{kind} {space}/{_NAMES[kind]}: mesh/skip-outbound-ports is written as" in said


def _rows(stage: Stage, space: str, *, count: int) -> list[str]:
    text = stage.mesh("stat", "all", "-n", space)
    found = [line.split()[0] for line in text.splitlines() if "/" in line]
    return found if len(found) >= count else []


def test_a_pod_of_a_headless_service_is_reached_by_its_own_name(stage: Stage, space: str) -> None:
    ready = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
    app = container(stage, SERVE, readinessProbe=ready)
    apply(
        stage,
        service("set", space, clusterIP="None"),
        workload("StatefulSet", "set", space, app, serviceName="set"),
    )
    stage.kubectl("rollout", "status", "statefulset/set", "-n", space, "--timeout=120s")

    code = ASK.replace("gateway.shop:8080/healthz", "set-0.set:8080/")
    apply(
        stage,
        pod("client", space, container(stage, ["python", "-c", code]), restartPolicy="OnFailure"),
    )

    assert eventually(lambda: stage.kubectl("logs", "client", "-n", space, "-c", "app") == "200\n")
    series = eventually(lambda: _inbound(stage, space, "set-0"))
    assert any(f'client_id="default.{space}.serviceaccount' in line for line in series)


def _inbound(stage: Stage, space: str, name: str) -> list[str]:
    address = stage.get("pod", name, "-n", space)["status"]["podIP"]
    lines = stage.metrics(address)
    return [line for line in lines if line.startswith("request_total{") and 'tls="true"' in line]


@pytest.mark.parametrize("native", ["true", "false"])
def test_the_proxy_of_a_job_ends_soon_after_its_application(
    stage: Stage, space: str, native: str
) -> None:
    """Its init container has network, meshed or not."""
    ask = container(stage, ["python", "-c", ASK])
    kind = {"mesh/native-sidecar": native}
    apply(
        stage,
        job("once", space, ask, annotations=kind, initContainers=[ask | {"name": "first"}]),
    )

    stage.kubectl("wait", "--for=condition=Complete", "job/once", "-n", space, "--timeout=90s")

    (ran,) = (p for p in stage.pods("job-name=once", space) if p["status"]["phase"] == "Succeeded")
    assert _ended(ran, labels.PROXY_CONTAINER) - _ended(ran, "app") <= datetime.timedelta(seconds=5)
    assert stage.kubectl("logs", "-n", space, "job/once", "-c", "first").split() == ["200"]


def test_a_cron_job_is_named_by_its_own_name(stage: Stage, space: str) -> None:
    made = job("x", space, container(stage, SLEEP), terminationGracePeriodSeconds=1)
    template = made["spec"]["template"]
    template["metadata"]["labels"] = {"mesh/skip-outbound-ports": "1"}  # it has no effect
    meta = {"name": "nightly", "namespace": space}
    spec = {"schedule": "0 0 29 2 *", "jobTemplate": {"spec": made["spec"]}}
    apply(stage, {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta, "spec": spec})
    stage.kubectl("create", "job", "nightly-28000000", "--from=cronjob/nightly", "-n", space)

    eventually(lambda: stage.pods("job-name=nightly-28000000", space))
    wait_ready(stage, space, "pod --selector=job-name=nightly-28000000")

    assert "cj/nightly" in eventually(lambda: _rows(stage, space, count=2))
    assert check_says(stage, space, f"cronjob {space}/nightly: mesh/skip-outbound-ports")


def _ended(pod: Object, name: str) -> datetime.datetime:
    status = pod["status"]
    (state,) = (
        item["state"]
        for item in [*status["initContainerStatuses"], *status["containerStatuses"]]
        if item["name"] == name
    )
    return datetime.datetime.fromisoformat(state["terminated"]["finishedAt"])


@pytest.mark.parametrize("mode", ["nft", "legacy"])
def test_both_kinds_of_rules_are_programmed_and_proven(stage: Stage, space: str, mode: str) -> None:
    chosen = {"mesh/redirect-mode": mode}
    apply(stage, pod(mode, space, container(stage, SERVE), annotations=chosen))

    wait_ready(stage, space, f"pod/{mode}")

    said = stage.kubectl("logs", mode, "-n", space, "-c", labels.INIT_CONTAINER)
    assert f"backend={mode}" in said
    assert "ipv4:proven" in said


def test_an_application_that_does_not_listen_is_not_ready(stage: Stage, space: str) -> None:
    probe = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    apply(stage, pod("deaf", space, container(stage, SLEEP, readinessProbe=probe)))

    eventually(lambda: _statuses(stage, space, "deaf").get(labels.PROXY_CONTAINER, False))
    events = ("get", "events", "-n", space, "-o", "jsonpath={.items[*].message}")
    eventually(lambda: "Readiness probe failed" in stage.kubectl(*events))

    assert _statuses(stage, space, "deaf")["app"] is False


def _statuses(stage: Stage, space: str, name: str) -> dict[str, bool]:
    status = stage.get("pod", name, "-n", space)["status"]
    listed = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    return {item["name"]: item["ready"] for item in listed}


def test_what_cannot_be_meshed_runs_and_an_event_says_why(stage: Stage, space: str) -> None:
    apply(stage, pod("wide", space, container(stage, SLEEP), hostNetwork=True))
    level = "pod-security.kubernetes.io/enforce=restricted"
    stage.kubectl("label", "namespace", space, level)
    quiet = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    user = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}

    def reason(name: str) -> str:
        chosen = f"reason=InjectionSkipped,involvedObject.name={name}"
        events = ("get", "events", "-n", space, "--field-selector", chosen, "-o", "json")
        return "".join(item["message"] for item in json.loads(stage.kubectl(*events))["items"])

    assert eventually(lambda: "hostNetwork" in reason("wide"))
    app = container(stage, SLEEP, securityContext=quiet)
    apply(stage, pod("strict", space, app, securityContext=user))
    wait_ready(stage, space, "pod/strict")
    assert eventually(lambda: "NET_ADMIN" in reason("strict"))
    check = stage.mesh("check", "--proxy", "-n", space, check=False)
    assert f"pod {space}/wide: a pod asks for a proxy and has none: hostNetwork" in check
    assert f"pod {space}/strict: a pod asks for a proxy and has none" in check
    stage.kubectl("delete", "pod", "wide", "strict", "-n", space, "--now", "--wait=false")


@pytest.mark.node  # containers of the embedded cluster have the machine's files: no image
def test_the_image_has_no_shell_and_runs_as_nobody_in_particular(stage: Stage, space: str) -> None:
    code = "import os; print(os.getuid(), os.access('/', os.W_OK), os.path.exists('/bin/sh'))"
    plain = container(stage, ["python", "-c", code])
    off = {"mesh/inject": "disabled"}
    apply(stage, pod("who", space, plain, restartPolicy="Never", annotations=off))

    said = eventually(lambda: stage.kubectl("logs", "who", "-n", space, check=False))

    assert said.split() == [str(labels.CONTROL_UID), "False", "False"]
