"""Pods for tests, and the injection of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mesh.inject.config import InjectConfig
from mesh.inject.jsonpatch import apply_patch
from mesh.inject.patch import Cluster, Injection, Namespace, Skip, plan_injection

Object = dict[str, Any]
# Not a real certificate: injection only carries the text.
BUNDLE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
ON = {"mesh/inject": "enabled"}
NATIVE, ORDINARY = Cluster(native=True), Cluster(native=False)


def make_pod(annotations: Mapping[str, Any] | None = None, **spec: Any) -> Object:
    """A pod of Deployment web that asks for a proxy."""
    container = {"name": "web", "image": "web:1", "ports": [{"name": "http", "containerPort": 80}]}
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d9", "controller": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "web-5d9-",
            "labels": {"app": "web", "pod-template-hash": "5d9"},
            "annotations": {**ON, **(annotations or {})},
            "ownerReferences": [owner],
        },
        "spec": {"containers": [container], **spec},
    }


def plan(
    pod: Object,
    *,
    namespace: Namespace | None = None,
    config: InjectConfig | None = None,
    cluster: Cluster = NATIVE,
) -> Injection | Skip:
    return plan_injection(
        pod,
        namespace or Namespace("shop"),
        config or InjectConfig(),
        bundle=BUNDLE,
        cluster=cluster,
    )


def inject(pod: Object, **options: Any) -> Object:
    """The pod after injection, which must happen."""
    outcome = plan(pod, **options)
    assert isinstance(outcome, Injection), outcome
    return apply_patch(pod, outcome.patch)


def container_of(pod: Object, name: str) -> Object:
    """A container, wherever it stands."""
    spec = pod["spec"]
    every = [*spec.get("initContainers", []), *spec["containers"]]
    return next(container for container in every if container["name"] == name)


def environment(container: Object) -> dict[str, str]:
    """The plain variables of a container."""
    return {item["name"]: item["value"] for item in container["env"] if "value" in item}
