"""What tests do with a running embedded cluster: kubectl, waiting, and looks at the machine."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mesh.local.cluster import Cluster

T = TypeVar("T")
PATIENCE = 30.0  # seconds until something that must happen counts as not happening


@dataclass(frozen=True)
class Machine:
    """One cluster and the kubectl that talks to it."""

    cluster: Cluster
    kubectl_path: str

    def kubectl(self, *args: str, text: str = "", check: bool = True) -> str:
        """Run kubectl; its stdout, or all it said when `check` is off."""
        done = subprocess.run(
            [self.kubectl_path, *args],
            input=text,
            env={**os.environ, "KUBECONFIG": str(self.cluster.kubeconfig)},
            text=True,
            capture_output=True,
            timeout=60,
        )
        if check:
            assert done.returncode == 0, f"kubectl {' '.join(args)}\n{done.stdout}\n{done.stderr}"
        return done.stdout if check else done.stdout + done.stderr

    def apply(self, *objects: dict[str, Any]) -> None:
        """kubectl apply."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "-f", "-", text=json.dumps(items))

    def get(self, *args: str) -> Any:
        """kubectl get as an object."""
        return json.loads(self.kubectl("get", *args, "-o", "json"))

    def run(self, name: str, spec: dict[str, Any], **meta: Any) -> str:
        """Run a pod to its end; its log."""
        self.start(name, {"restartPolicy": "Never", **spec}, **meta)
        eventually(lambda: self.phase(name) in ("Succeeded", "Failed"))
        return self.kubectl("logs", name)

    def start(self, name: str, spec: dict[str, Any], **meta: Any) -> None:
        """Create a pod."""
        full = {"terminationGracePeriodSeconds": 1, **spec}
        metadata = {"name": name, "namespace": "default", **meta}
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": full})

    def phase(self, name: str) -> str:
        """A pod's phase."""
        return str(self.get("pod", name)["status"].get("phase"))


def fill(path: Path) -> None:
    """Leave no room on the disk of `path`."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        for size in (65536, 4096):
            with contextlib.suppress(OSError):
                while os.write(fd, b"x" * size):
                    pass
    finally:
        os.close(fd)


def python(code: str, **more: Any) -> dict[str, Any]:
    """A container that runs Python code as the proxy's user does."""
    context = {"runAsUser": 2102, "capabilities": {"drop": ["ALL"]}}
    return {
        "name": "c",
        "image": "none",
        "command": ["python", "-u", "-c", code],
        "securityContext": context,
        **more,
    }


def shell(code: str, **more: Any) -> dict[str, Any]:
    """A container that runs a shell as root."""
    return {"name": "c", "image": "none", "command": ["sh", "-c", code], **more}


def eventually(probe: Callable[[], T], *, within: float = PATIENCE) -> T:
    """The first true value of `probe`."""
    deadline = time.monotonic() + within
    while True:
        value = probe()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {within} s"
        time.sleep(0.03)
