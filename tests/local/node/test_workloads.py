"""Jobs, sets, exec and ports of the node on a running node, as kubectl shows them."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.local.node.machine import Machine, eventually, shell

pytestmark = pytest.mark.root


def template(container: dict[str, Any], **spec: Any) -> dict[str, Any]:
    body = {"terminationGracePeriodSeconds": 0, "containers": [container]} | spec
    return {"metadata": {"labels": {"app": "it"}}, "spec": body}


def made(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    group = "batch/v1" if kind in ("Job", "CronJob") else "apps/v1"
    meta = {"name": name, "namespace": "default"}
    return {"apiVersion": group, "kind": kind, "metadata": meta, "spec": spec}


def test_a_job_runs_to_its_end_and_is_forgotten_in_time(machine: Machine) -> None:
    work = template(shell("echo done"), restartPolicy="Never")
    twice = {"completions": 2, "ttlSecondsAfterFinished": 5}

    machine.apply(made("Job", "twice", template=work, **twice))
    machine.kubectl("wait", "--for=condition=Complete", "job/twice", "--timeout=30s")
    shown = machine.kubectl("get", "job", "twice", "--no-headers")

    assert shown.split()[:3] == ["twice", "Complete", "2/2"]
    eventually(lambda: "not found" in machine.kubectl("get", "job", "twice", check=False))
    eventually(lambda: machine.get("pods", "-l", "job-name=twice")["items"] == [])


def test_a_job_that_always_fails_ends_with_the_reason(machine: Machine) -> None:
    work = template(shell("exit 3"), restartPolicy="Never")
    machine.apply(made("Job", "never", template=work, backoffLimit=1))

    machine.kubectl("wait", "--for=condition=Failed", "job/never", "--timeout=30s")

    state = machine.get("job", "never")["status"]
    assert state["failed"] == 2
    assert state["conditions"][-1]["reason"] == "BackoffLimitExceeded"
    machine.kubectl("delete", "job", "never")


def test_sets_roll_and_are_waited_for(machine: Machine) -> None:
    sleep = template(shell("exec sleep 1000"))
    chosen = {"selector": {"matchLabels": {"app": "it"}}, "template": sleep}
    machine.apply(made("StatefulSet", "sts", replicas=2, serviceName="sts", **chosen))
    machine.kubectl("rollout", "status", "statefulset/sts", "--timeout=30s")
    before = [pod["metadata"]["uid"] for pod in machine.get("pods", "-l", "app=it")["items"]]

    machine.kubectl("rollout", "restart", "statefulset/sts")
    machine.kubectl("rollout", "status", "statefulset/sts", "--timeout=30s")
    machine.kubectl("scale", "statefulset", "sts", "--replicas=1")

    eventually(lambda: len(machine.get("pods", "-l", "app=it")["items"]) == 1)
    (left,) = machine.get("pods", "-l", "app=it")["items"]
    assert left["metadata"]["name"] == "sts-0"
    assert left["metadata"]["uid"] not in before
    machine.kubectl("delete", "statefulset", "sts")


def test_a_daemon_set_has_one_pod_here(machine: Machine) -> None:
    marks = {"matchLabels": {"app": "it"}}
    sleep = template(shell("exec sleep 1000"))
    machine.apply(made("DaemonSet", "ds", selector=marks, template=sleep))

    machine.kubectl("rollout", "status", "daemonset/ds", "--timeout=30s")

    shown = machine.kubectl("get", "daemonset", "ds", "--no-headers").split()
    assert shown[:7] == ["ds", "1", "1", "1", "1", "1", "<none>"]
    machine.kubectl("delete", "daemonset", "ds")


def test_a_cron_job_makes_a_job_on_demand(machine: Machine) -> None:
    work = {"spec": {"template": template(shell("echo tick"), restartPolicy="Never")}}
    machine.apply(made("CronJob", "tick", schedule="0 0 29 2 *", jobTemplate=work))

    machine.kubectl("create", "job", "now", "--from=cronjob/tick")
    machine.kubectl("wait", "--for=condition=Complete", "job/now", "--timeout=30s")

    assert machine.kubectl("logs", "job/now") == "tick\n"
    machine.kubectl("delete", "cronjob", "tick")
    eventually(lambda: "not found" in machine.kubectl("get", "job", "now", check=False))


def test_a_command_runs_inside_with_its_three_streams(machine: Machine) -> None:
    machine.start("talker", {"containers": [shell("exec sleep 1000")]})
    machine.kubectl("wait", "--for=condition=Ready", "pod/talker", "--timeout=30s")
    both = ("exec", "-i", "talker", "--", "sh", "-c", "cat; echo oops >&2; exit 3")

    said = machine.kubectl("exec", "talker", "--", "hostname")
    mixed = machine.kubectl(*both, text="given", check=False)
    unknown = machine.kubectl("exec", "talker", "-c", "x", "--", "true", check=False)

    assert said == "talker\n"
    assert mixed == "givenoops\ncommand terminated with exit code 3\n"
    assert "container x is not valid" in unknown
    machine.kubectl("delete", "pod", "talker", "--now")


def test_two_pods_do_not_share_a_port_of_the_node(machine: Machine) -> None:
    ports = [{"containerPort": 8080, "hostPort": 18099}]
    serve = shell("exec python -m http.server 8080", ports=ports)
    machine.start("first", {"containers": [serve]})
    machine.start("second", {"containers": [serve]})

    url = f"http://{machine.cluster.ranges.node}:18099/"
    ask = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url]
    eventually(lambda: subprocess.run(ask, capture_output=True, text=True).stdout == "200")
    assert machine.phase("second") == "Pending"
    assert "didn't have free ports" in json.dumps(machine.get("pod", "second")["status"])

    machine.kubectl("delete", "pod", "first", "--now")
    machine.kubectl("wait", "--for=condition=Ready", "pod/second", "--timeout=30s")
    machine.kubectl("delete", "pod", "second", "--now")
