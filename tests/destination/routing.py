"""Routes on Services for tests: how they are written, and what comes of them."""

from __future__ import annotations

from typing import Any

import yaml

from mesh.core.model import Rule
from tests.destination.world import World, deployed

WEB = "10.96.0.1:80"
GATEWAY = "gateway.networking.k8s.io/v1"


def authority(name: str, port: int = 80, namespace: str = "shop") -> str:
    return f"{name}.{namespace}.svc.cluster.local:{port}"


def route(
    rules: str | list[Any],
    *,
    kind: str = "HTTPRoute",
    name: str = "web",
    namespace: str = "shop",
    parent: str = "{group: '', kind: Service, name: web, namespace: shop}",
    created: str = "2026-01-01T00:00:00Z",
    api: str = GATEWAY,
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "creationTimestamp": created,
            "annotations": annotations or {},
        },
        "spec": {
            "parentRefs": [yaml.safe_load(parent)],
            "rules": yaml.safe_load(rules) if isinstance(rules, str) else rules,
        }
        | spec,
    }


def world(*objects: dict[str, Any]) -> World:
    ports = {"http": 80, "alt": 8080}
    return World(
        [
            *deployed("web", ip="10.96.0.1", pod_ip="10.1.0.1", ports=ports),
            *deployed("web-v1", ip="10.96.0.2", pod_ip="10.1.0.2", ports=ports),
            *deployed("web-v2", ip="10.96.0.3", pod_ip="10.1.0.3", ports=ports),
            *objects,
        ]
    )


def rules(found: World, address: str = WEB, namespace: str = "shop") -> tuple[Rule, ...]:
    return found.target(address, namespace=namespace).rules


def names(found: World, namespace: str = "shop") -> list[str]:
    """The first backend of each rule in order."""
    return [rule.backends[0].authority.partition(".")[0] for rule in rules(found, WEB, namespace)]


V1 = "backendRefs: [{name: web-v1, port: 80}]"
V2 = "backendRefs: [{name: web-v2, port: 80}]"
