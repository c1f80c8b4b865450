"""Pods on a running node: what a process finds around itself, and how its life goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.local.node.machine import Machine, eventually, python, shell

pytestmark = pytest.mark.root

ABOUT = """
import json, os, sys
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
def writable(path):
    try:
        open(path, "w").close()
        return True
    except OSError:
        return False
print(json.dumps({
    "uid": os.getuid(), "pid": os.getpid(), "prefix": sys.prefix, "host": os.uname().nodename,
    "caps": [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd")],
    "nnp": status["NoNewPrivs"].strip(), "env": dict(os.environ),
    "writable": [path for path in ("/x", "/tmp/x", "/opt/mesh/x", "/data/x") if writable(path)],
    "processes": len([name for name in os.listdir("/proc") if name.isdigit()]),
}))
"""


def test_the_proxy_user_runs_our_python_without_capabilities(machine: Machine) -> None:
    found = json.loads(machine.run("about", {"containers": [python(ABOUT)]}))

    assert (found["uid"], found["pid"], found["processes"]) == (2102, 1, 1)
    assert found["prefix"] == "/opt/mesh"
    assert found["host"] == "about"
    assert found["caps"] == [0, 0, 0, 0]
    assert found["writable"] == ["/tmp/x"]
    assert found["env"]["KUBERNETES_SERVICE_HOST"] == machine.cluster.ranges.api


def test_a_read_only_root_leaves_only_volumes_to_write(machine: Machine) -> None:
    context = {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False}
    mounts = [{"name": "data", "mountPath": "/data"}]
    container = python(ABOUT, volumeMounts=mounts)
    container["securityContext"] |= context

    found = json.loads(
        machine.run("frozen", {"containers": [container], "volumes": [volume("data")]})
    )

    assert found["writable"] == ["/data/x"]
    assert found["nnp"] == "1"


def volume(name: str, **source: Any) -> dict[str, Any]:
    return {"name": name, **(source or {"emptyDir": {}})}


def test_volumes_variables_and_the_account_token(machine: Machine) -> None:
    machine.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "settings", "namespace": "default"},
            "data": {"colour": "red"},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "login", "namespace": "default"},
            "stringData": {"password": "sesame"},
        },
    )
    token = {"serviceAccountToken": {"path": "mesh", "audience": "mesh-identity"}}
    code = (
        "cd /var/run/secrets/kubernetes.io/serviceaccount; cat namespace; echo; head -1 ca.crt;"
        "cat /config/colour /single; echo; cat /secret/password; echo; cut -d. -f2 /tokens/mesh;"
        'echo "$URL $IP $PASSWORD"; stat -Lc %a /config/colour /secret/password /mem'
    )
    container = shell(
        code,
        env=[
            {"name": "COLOUR", "valueFrom": reference("configMapKeyRef", "settings", "colour")},
            {"name": "PASSWORD", "valueFrom": reference("secretKeyRef", "login", "password")},
            {"name": "URL", "value": "http://$(COLOUR)"},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ],
        volumeMounts=[
            {"name": "config", "mountPath": "/config"},
            {"name": "config", "mountPath": "/single", "subPath": "colour"},
            {"name": "secret", "mountPath": "/secret"},
            {"name": "tokens", "mountPath": "/tokens"},
            {"name": "mem", "mountPath": "/mem"},
        ],
    )
    spec = {
        "containers": [container],
        "volumes": [
            volume("config", configMap={"name": "settings"}),
            volume("secret", secret={"secretName": "login", "defaultMode": 0o400}),
            volume("tokens", projected={"sources": [token]}),
            volume("mem", emptyDir={"medium": "Memory", "sizeLimit": "1Mi"}),
        ],
    }

    lines = machine.run("volumes", spec).splitlines()

    address = machine.get("pod", "volumes")["status"]["podIP"]
    assert lines[:4] == ["default", "-----BEGIN CERTIFICATE-----", "redred", "sesame"]
    claims = decoded(lines[4])
    assert claims["aud"] == ["mesh-identity"]
    assert claims["kubernetes.io"]["pod"]["name"] == "volumes"
    assert lines[5] == f"http://red {address} sesame"
    assert lines[6:] == ["644", "400", "777"]


def reference(kind: str, name: str, key: str) -> dict[str, Any]:
    return {kind: {"name": name, "key": key}}


def decoded(part: str) -> Any:
    from base64 import urlsafe_b64decode

    return json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def test_a_changed_config_map_reaches_a_running_pod(machine: Machine) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "live", "namespace": "default"},
        "data": {"k": "one"},
    }
    machine.apply(config)
    code = "until grep -q two /config/k; do sleep 0.02; done; echo seen"
    mounts = [{"name": "config", "mountPath": "/config"}]
    machine.start(
        "reader",
        {
            "restartPolicy": "Never",
            "containers": [shell(code, volumeMounts=mounts)],
            "volumes": [volume("config", configMap={"name": "live"})],
        },
    )
    eventually(lambda: machine.phase("reader") == "Running")

    machine.apply({**config, "data": {"k": "two"}})

    eventually(lambda: machine.phase("reader") == "Succeeded")
    assert machine.kubectl("logs", "reader") == "seen\n"


@pytest.mark.parametrize("tool", ["iptables-nft", "iptables-legacy", "ip6tables-nft"])
def test_a_pod_with_net_admin_redirects_its_own_traffic(machine: Machine, tool: str) -> None:
    context = {"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]}}
    rule = "OUTPUT -p tcp -m owner --uid-owner 2102 -j RETURN"
    code = (
        f"{tool} -t nat -A {rule} && {tool} -t nat -A OUTPUT -p tcp -j REDIRECT --to-ports 4140"
        f" && {tool} -t nat -S OUTPUT"
    )
    container = shell(
        code,
        securityContext={**context, "readOnlyRootFilesystem": True},
        volumeMounts=[{"name": "run", "mountPath": "/run"}],
    )

    printed = machine.run(tool, {"containers": [container], "volumes": [volume("run")]})

    assert f"-A {rule}" in printed
    assert "REDIRECT --to-ports 4140" in printed


def test_init_containers_and_sidecars_keep_their_order(machine: Machine) -> None:
    mounts = [{"name": "d", "mountPath": "/d"}]
    sidecar = shell(
        "trap 'echo side-ends >> /d/log; exit 0' TERM; echo side >> /d/log; touch /d/up;"
        "while :; do sleep 0.02; done",
        restartPolicy="Always",
        startupProbe={"exec": {"command": ["test", "-e", "/d/up"]}, "periodSeconds": 1},
    )
    spec = {
        "initContainers": [
            shell("echo first >> /d/log") | {"name": "first"},
            sidecar | {"name": "side"},
            shell("echo second >> /d/log") | {"name": "second"},
        ],
        "containers": [
            shell(
                "echo app >> /d/log; cat /d/log",
                lifecycle={"preStop": {"exec": {"command": ["true"]}}},
            )
        ],
        "volumes": [volume("d")],
    }
    for container in (*spec["initContainers"], *spec["containers"]):
        container["volumeMounts"] = mounts

    assert machine.run("ordered", spec).split() == ["first", "side", "second", "app"]
    states = {
        entry["name"]: entry["state"]["terminated"]["exitCode"]
        for entry in machine.get("pod", "ordered")["status"]["initContainerStatuses"]
    }
    assert states == {"first": 0, "side": 0, "second": 0}


def test_sidecars_are_told_to_end_after_the_application_has(
    machine: Machine, tmp_path: Path
) -> None:
    mounts = [{"name": "d", "mountPath": "/d"}]

    def ending(name: str, slow: float) -> dict[str, Any]:
        code = (
            f"trap 'sleep {slow}; echo {name} >> /d/log; exit 0' TERM; touch /d/{name};"
            "while :; do sleep 0.02; done"
        )
        return shell(code, volumeMounts=mounts) | {"name": name}

    machine.start(
        "ending",
        {
            "terminationGracePeriodSeconds": 20,
            "initContainers": [
                ending("outer", 0) | {"restartPolicy": "Always"},
                ending("inner", 0.2) | {"restartPolicy": "Always"},
            ],
            "containers": [ending("app", 0.4)],
            "volumes": [volume("d", hostPath={"path": str(tmp_path)})],
        },
    )
    eventually(lambda: (tmp_path / "app").exists())

    machine.kubectl("delete", "pod", "ending")

    assert (tmp_path / "log").read_text().split() == ["app", "inner", "outer"]


def container_status(machine: Machine, name: str) -> Any:
    entries = machine.get("pod", name)["status"].get("containerStatuses")
    return entries[0] if entries else {"state": {}, "restartCount": 0}


@pytest.mark.parametrize(
    ("name", "container", "reason"),
    [
        ("no-command", {"name": "c", "image": "nginx"}, "NoCommand"),
        (
            "as-root",
            shell("true", securityContext={"runAsNonRoot": True}),
            "CreateContainerConfigError",
        ),
        (
            "no-key",
            shell(
                "true",
                env=[{"name": "A", "valueFrom": reference("secretKeyRef", "none", "a")}],
            ),
            "CreateContainerConfigError",
        ),
        ("crashing", shell("exit 3"), "CrashLoopBackOff"),
    ],
)
def test_a_container_that_cannot_run_says_why(
    machine: Machine, name: str, container: dict[str, Any], reason: str
) -> None:
    machine.start(name, {"containers": [container]})

    eventually(
        lambda: container_status(machine, name)["state"].get("waiting", {}).get("reason") == reason
    )
    machine.kubectl("delete", "pod", name, "--now")


def test_a_failing_liveness_probe_restarts_and_the_old_log_stays(machine: Machine) -> None:
    container = shell(
        "trap 'echo ended; exit 0' TERM; echo begun; while :; do sleep 0.02; done",
        livenessProbe={"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1},
        lifecycle={"preStop": {"exec": {"command": ["sh", "-c", "echo hook > /proc/1/fd/1"]}}},
    )
    machine.start("sick", {"containers": [container], "terminationGracePeriodSeconds": 30})

    eventually(lambda: container_status(machine, "sick")["restartCount"] >= 1)

    assert machine.kubectl("logs", "sick", "--previous").split() == ["begun", "hook", "ended"]
    machine.kubectl("delete", "pod", "sick", "--now")


def test_the_application_waits_for_the_hook_of_the_container_before_it(machine: Machine) -> None:
    first = shell(
        "while :; do sleep 0.02; done",
        lifecycle={"postStart": {"exec": {"command": ["sh", "-c", "sleep 0.3; touch /d/ready"]}}},
        volumeMounts=[{"name": "d", "mountPath": "/d"}],
    ) | {"name": "first"}
    second = shell(
        "test -e /d/ready && echo after", volumeMounts=[{"name": "d", "mountPath": "/d"}]
    )
    machine.start(
        "hooked",
        {"restartPolicy": "Never", "containers": [first, second], "volumes": [volume("d")]},
    )

    eventually(lambda: "after" in machine.kubectl("logs", "hooked", "-c", "c", check=False))
    machine.kubectl("delete", "pod", "hooked", "--now")


def test_the_end_of_a_container_is_explained_by_its_message(machine: Machine) -> None:
    container = shell("echo because > /dev/termination-log; exit 7")

    machine.run("message", {"containers": [container]})

    state = container_status(machine, "message")["state"]["terminated"]
    assert (state["exitCode"], state["message"], state["reason"]) == (7, "because\n", "Error")
    assert machine.phase("message") == "Failed"


def test_a_pod_that_ignores_sigterm_is_killed_when_its_grace_is_over(machine: Machine) -> None:
    machine.start("stubborn", {"containers": [shell("while :; do sleep 0.02; done")]})
    eventually(lambda: machine.phase("stubborn") == "Running")

    machine.kubectl("delete", "pod", "stubborn", "--grace-period=1")

    assert "NotFound" in machine.kubectl("get", "pod", "stubborn", check=False)
