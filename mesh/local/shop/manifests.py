"""The shop as Kubernetes objects: what `mesh demo` applies and `deploy/examples/` holds.

Pure. Pods: gateway 1, catalogue v1 2 and v2 1, orders 1, stock 1, load 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

Object = dict[str, Any]
NAMESPACE = "shop"
_BUSY = "100m"  # of a CPU: what 200 requests/s take; with less asked for, much else may starve it
_HEADER = "# Rendered by `python -m mesh.local.shop.manifests {name}`; do not edit.\n"


def shop(image: str) -> list[Object]:
    """Everything the shop runs, in a namespace that has the mesh switched on."""
    objects: list[Object] = [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "annotations": {"mesh/inject": "enabled"}},
        }
    ]
    for name in ("gateway", "catalogue", "orders", "stock", "load"):
        objects.append(_account(name))
    objects += [
        _service("gateway", 8080),
        _service("catalogue", 8080),
        _service("catalogue-v1", 8080, app="catalogue", version="v1"),
        _service("catalogue-v2", 8080, app="catalogue", version="v2"),
        _service("orders", 8080),
        _service("stock", 7000, port_name="tcp-stock"),
        _service("load", 8080),
        _deployment("gateway", "gateway", image),
        _deployment("catalogue-v1", "catalogue", image, version="v1", replicas=2, cpu=_BUSY),
        _deployment("catalogue-v2", "catalogue", image, version="v2", cpu=_BUSY),
        _deployment("orders", "orders", image),
        _deployment("stock", "stock", image, port=7000),
        _deployment("load", "load", image, env={"RATE": "20"}, cpu=_BUSY),
    ]
    return objects


def split(v1: int = 90, v2: int = 10) -> list[Object]:
    """The TrafficSplit that sends a share of the catalogue's traffic to version 2."""
    return [
        {
            "apiVersion": "split.smi-spec.io/v1alpha2",
            "kind": "TrafficSplit",
            "metadata": {"name": "catalogue", "namespace": NAMESPACE},
            "spec": {
                "service": "catalogue",
                "backends": [
                    {"service": "catalogue-v1", "weight": v1},
                    {"service": "catalogue-v2", "weight": v2},
                ],
            },
        }
    ]


def profile() -> list[Object]:
    """The ServiceProfile that names the catalogue's routes."""
    return [
        {
            "apiVersion": "linkerd.io/v1alpha2",
            "kind": "ServiceProfile",
            "metadata": {
                "name": f"catalogue.{NAMESPACE}.svc.cluster.local",
                "namespace": NAMESPACE,
            },
            "spec": {
                "routes": [
                    {
                        "name": "GET /items",
                        "condition": {"method": "GET", "pathRegex": "/items"},
                        "timeout": "2s",
                    },
                    {
                        "name": "GET /items/{id}",
                        "condition": {"method": "GET", "pathRegex": "/items/[^/]*"},
                        "responseClasses": [
                            {
                                "condition": {"status": {"min": 500, "max": 599}},
                                "isFailure": True,
                            }
                        ],
                    },
                ]
            },
        }
    ]


def examples(image: str) -> dict[str, str]:
    """File name -> text of `deploy/examples/`."""
    parts = {"shop.yaml": shop(image), "split.yaml": split(), "profile.yaml": profile()}
    return {
        name: _HEADER.format(name=name) + yaml.safe_dump_all(objects, sort_keys=False)
        for name, objects in parts.items()
    }


def _account(name: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": NAMESPACE},
    }


def _service(
    name: str, port: int, *, app: str = "", version: str = "", port_name: str = "http"
) -> Object:
    selector = {"app": app or name} | ({"version": version} if version else {})
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "selector": selector,
            "ports": [{"name": port_name, "port": port, "targetPort": port}],
        },
    }


def _deployment(
    name: str,
    app: str,
    image: str,
    *,
    version: str = "",
    replicas: int = 1,
    port: int = 8080,
    env: Mapping[str, str] | None = None,
    cpu: str = "20m",
) -> Object:
    labels = {"app": app} | ({"version": version} if version else {})
    variables = {"PORT": str(port)} | ({"VERSION": version} if version else {}) | dict(env or {})
    probe: Object = {"tcpSocket": {"port": port}}
    if port == 8080:
        probe = {"httpGet": {"path": "/healthz", "port": port}}
    container = {
        "name": app,
        "image": image,
        "command": ["python", "-m", f"mesh.local.shop.{app}"],
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        "ports": [{"containerPort": port}],
        "readinessProbe": {**probe, "periodSeconds": 1},
        "resources": {"requests": {"cpu": cpu, "memory": "48Mi"}},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65534,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"serviceAccountName": app, "containers": [container]},
            },
        },
    }


def main() -> None:
    """Print one example, or write all of them into a folder: `... NAME` or `... --write DIR`."""
    import sys
    from pathlib import Path

    from mesh.inject.config import DEFAULT_IMAGE

    files = examples(DEFAULT_IMAGE)
    if sys.argv[1:2] == ["--write"]:
        for name, text in files.items():
            Path(sys.argv[2], name).write_text(text)
        return
    sys.stdout.write("".join(files[name] for name in sys.argv[1:] or files))


if __name__ == "__main__":
    main()
