"""Objects for end-to-end tests on a node: pods, workloads, Services of a few lines each."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from mesh.core import labels
from tests.e2e.stage import Stage, eventually

Object = dict[str, Any]
SERVE = ["python", "-m", "http.server", "8080", "--directory", "/opt"]
SLEEP = ["python", "-c", "import time; time.sleep(3600)"]


def container(stage: Stage, command: list[str], **more: Any) -> Object:
    return {"name": "app", "image": stage.image, "command": command} | more


def pod(name: str, space: str, *containers: Object, **spec: Any) -> Object:
    """`annotations` and `labels` go to the metadata, everything else to the spec."""
    meta = {"name": name, "namespace": space}
    meta |= {key: spec.pop(key, {}) for key in ("annotations", "labels")}
    body = {"terminationGracePeriodSeconds": 1, "containers": list(containers)} | spec
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": body}


def workload(kind: str, name: str, space: str, container: Object, **spec: Any) -> Object:
    """A Deployment or its like; `pod` is merged into the pod's spec, `annotations` and `labels`
    into its metadata."""
    marks = {"app": name}
    body = {"containers": [container]} | spec.pop("pod", {})
    meta = {"labels": marks | spec.pop("labels", {}), "annotations": spec.pop("annotations", {})}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": space},
        "spec": {
            "selector": {"matchLabels": marks},
            "template": {"metadata": meta, "spec": body},
            **spec,
        },
    }


def job(name: str, space: str, container: Object, *, annotations: Any = (), **pod: Any) -> Object:
    body = {"restartPolicy": "Never", "containers": [container]} | pod
    template = {"metadata": {"annotations": dict(annotations)}, "spec": body}
    meta = {"name": name, "namespace": space}
    spec = {"backoffLimit": 3, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec}


def service(name: str, space: str, port: int = 8080, **spec: Any) -> Object:
    ports = [{"name": "http", "port": port}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": space},
        "spec": {"selector": {"app": name}, "ports": ports} | spec,
    }


@contextlib.contextmanager
def namespace(stage: Stage, name: str) -> Iterator[str]:
    """One whose pods are meshed. It is left to end behind us; where a turn before ours did the
    same, that one ends first."""
    phase = ("get", "namespace", name, "-o", "jsonpath={.status.phase}", "--ignore-not-found")
    eventually(lambda: stage.kubectl(*phase) != "Terminating", within=120)
    meta = {"name": name, "annotations": {labels.A_INJECT: "enabled"}}
    apply(stage, {"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
    try:
        yield name
    finally:
        stage.kubectl("delete", "namespace", name, "--wait=false")


def apply(stage: Stage, *objects: Object) -> None:
    stage.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))


def wait_ready(stage: Stage, space: str, name: str) -> None:
    stage.kubectl("wait", "--for=condition=Ready", *name.split(), "-n", space, "--timeout=90s")


def check_says(stage: Stage, space: str, words: str) -> str:
    """What `mesh check` says, where these words are in it."""
    said = stage.mesh("check", "--proxy", "-n", space, check=False)
    return said if words in said else ""


def settle(
    stage: Stage,
    deployment: str = "catalogue-v1",
    space: str = "shop",
    pods: str = "app=catalogue,version=v1",
) -> None:
    """Wait until the two new pods are ready and the old ones gone."""
    what = f"deployment/{deployment}"
    stage.kubectl("rollout", "status", what, "-n", space, "--timeout=120s")
    eventually(lambda: len(stage.pods(pods, space)) == 2)
