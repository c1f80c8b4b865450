"""What the mesh costs on the node: image size, start to ready, memory. For the README."""

from __future__ import annotations

import datetime
import json
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from mesh.core import labels
from tests.cluster.images import mesh_image
from tests.cluster.node import machine
from tests.cluster.node.plan import Plan

ROLES: Final = {
    "python -m proxy": "proxy",
    "python -m identity": "identity",
    "python -m destination": "destination",
    "python -m mesh.inject": "inject",
}
_CHUNK: Final = 1 << 20


def print_figures(plan: Plan) -> None:
    """One line each; memory is of all processes of a role, the largest last."""
    image = mesh_image().file
    print(f"image             {_mb(image.stat().st_size)} MB, {_mb(_compressed(image))} MB as gzip")
    for role, sizes in sorted(_memory(plan).items()):
        shown = ", ".join(f"{size:.1f}" for size in sorted(sizes))
        print(f"{role:<17} {shown} MB (PSS)")
    for name, seconds in sorted(_starts(plan)):
        print(f"{name:<17} {seconds:.1f} s from container start to ready")


def _memory(plan: Plan) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for pid in machine.processes(plan):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue  # ended meanwhile
        role = ROLES.get(command.strip())
        pss = next((line.split()[1] for line in rollup.splitlines() if line.startswith("Pss:")), "")
        if role and pss:
            found.setdefault(role, []).append(int(pss) / 1024)
    return found


def _starts(plan: Plan) -> Iterator[tuple[str, float]]:
    """Of each control-plane pod, whole seconds as the kubelet writes them."""
    command = ["kubectl", f"--kubeconfig={plan.kubeconfig}", "get", "pods", "-o", "json"]
    command += ["-n", labels.MESH_NAMESPACE]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for pod in json.loads(said)["items"]:
        status: dict[str, Any] = pod["status"]
        ready = {item["type"]: item for item in status["conditions"]}["Ready"]
        (state,) = status["containerStatuses"]
        if ready["status"] == "True":
            began = datetime.datetime.fromisoformat(state["state"]["running"]["startedAt"])
            until = datetime.datetime.fromisoformat(ready["lastTransitionTime"])
            yield state["name"], (until - began).total_seconds()


def _compressed(path: Path) -> int:
    squeeze, size = zlib.compressobj(6, wbits=31), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            size += len(squeeze.compress(chunk))
    return size + len(squeeze.flush())


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f}"
