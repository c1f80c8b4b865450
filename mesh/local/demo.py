"""`mesh demo`: the whole mesh on this machine in some seconds, each step a command to copy.

Starts the embedded cluster, installs the mesh as a user would (`mesh install | kubectl apply
-f -`), waits for `mesh check`, runs the shop, splits its traffic and shows `mesh stat`.
Deliberately knows no inner part of the mesh: it runs commands and reads the API.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
import yaml

from mesh.core.errors import MeshError
from mesh.local import cluster
from mesh.local.shop import manifests

OLDEST_KUBECTL: Final = (1, 28)
_BUSY: Final = 4  # workloads that take requests: both catalogues, gateway and orders
_SOUND: Final = 1.0  # share of requests that must succeed for exit code 0
_PATIENCE: Final = 90.0  # seconds for one step before it counts as failed


class DemoError(MeshError):
    """A step did not come to its end."""


@dataclass
class Stage:
    """Where the demonstration runs: kubeconfig, kubectl if any, and the clock."""

    kubeconfig: Path
    kubectl: str | None
    state: Path | None
    started: float = field(default_factory=time.monotonic)
    patience: float = _PATIENCE * 2  # seconds for one command

    def say(self, text: str) -> None:
        click.echo(f"{time.monotonic() - self.started:6.1f} s  {text}")

    @property
    def apply_command(self) -> str:
        return "kubectl apply" if self.kubectl else "mesh local apply"

    @property
    def environ(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}

    def mesh(self, *args: str, check: bool = True, quiet: bool = True) -> str:
        """Run one `mesh` command; its stdout. Raises DemoError with its stderr."""
        return self._run([sys.executable, "-m", "mesh", *args], check=check, quiet=quiet)

    def apply(self, text: str) -> None:
        """Apply manifests with kubectl, or with our own command where there is none."""
        command = [self.kubectl] if self.kubectl else [sys.executable, "-m", "mesh", "local"]
        self._run([*command, "apply", "-f", "-"], text)

    def _run(
        self, command: Sequence[str], text: str = "", *, check: bool = True, quiet: bool = True
    ) -> str:
        shown = " ".join(["mesh", *command[3:]] if command[1:3] == ["-m", "mesh"] else command)
        try:
            done = subprocess.run(
                command,
                input=text,
                env=self.environ,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if quiet else None,
                timeout=self.patience,
            )
        except subprocess.TimeoutExpired as error:
            raise DemoError(
                f"{shown}: no end after {self.patience:.0f} s; is this machine very busy? "
                "`mesh check` says what is wrong, `mesh local down` stops the cluster"
            ) from error
        if check and done.returncode != 0:
            raise DemoError(f"{shown}: exit {done.returncode}\n{done.stdout}{done.stderr or ''}")
        return done.stdout


def run(*, once: bool) -> int:
    """Run the demonstration; 0 when all of it worked. `once` uses a cluster of its own."""
    if os.geteuid() != 0:
        raise MeshError(
            "mesh demo makes network namespaces and iptables rules inside them, which needs root: "
            "run it with sudo"
        )
    if not once:
        return _demonstrate(_start(None))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what follows is cleaned up
    with tempfile.TemporaryDirectory(prefix="mesh-demo-") as folder:
        state = Path(folder, "state")
        try:
            return _demonstrate(_start(state), farewell=False)
        finally:
            cluster.down(state)
            click.echo("cleaned up: no process, namespace or rule is left")


def _start(state: Path | None) -> Stage:
    begun = time.monotonic()
    info = cluster.up(state=state)
    stage = Stage(info.kubeconfig, find_kubectl(), state, begun)
    stage.say("mesh local up: an API server, a node and DNS in namespaces of their own")
    if stage.kubectl is None:
        stage.say("no kubectl 1.28 or newer in PATH: applying with mesh local apply instead")
    return stage


def _demonstrate(stage: Stage, *, farewell: bool = True) -> int:
    stage.apply(stage.mesh("install"))
    stage.say(f"mesh install | {stage.apply_command} -f -")
    stage.mesh("check", "--wait", "60s", "-o", "short")
    stage.say("mesh check: everything is in order")
    image = _image()
    stage.apply(yaml.safe_dump_all(manifests.shop(image), sort_keys=False))
    stage.apply(yaml.safe_dump_all(manifests.profile(), sort_keys=False))
    _wait_for_shop(stage)
    stage.say(f"{stage.apply_command} -f shop.yaml: 7 pods, each with a proxy, are ready")
    stage.apply(yaml.safe_dump_all(manifests.split(), sort_keys=False))
    stage.say(f"{stage.apply_command} -f split.yaml: 10 % of the catalogue to version 2")
    table = _wait_for_traffic(stage)
    stage.say("mesh stat: live traffic, every connection with mutual TLS")
    click.echo()
    click.echo(stage.mesh("stat", "deploy", "-n", manifests.NAMESPACE))
    click.echo(stage.mesh("stat", "ts", "-n", manifests.NAMESPACE))
    if farewell:
        _say_farewell(stage)
    return 0 if _is_sound(table) else 1


def find_kubectl() -> str | None:
    """A kubectl of 1.28 or newer from PATH, or None."""
    path = shutil.which("kubectl")
    if path is None:
        return None
    try:
        done = subprocess.run(
            [path, "version", "--client", "-o", "json"], capture_output=True, text=True, timeout=20
        )
        version = json.loads(done.stdout)["clientVersion"]
        found = int(version["major"]), int("".join(c for c in version["minor"] if c.isdigit()))
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
        return None
    return path if found >= OLDEST_KUBECTL else None


def _image() -> str:
    from mesh.inject.config import DEFAULT_IMAGE

    return DEFAULT_IMAGE


def _wait_for_shop(stage: Stage) -> None:
    """Until every Deployment of the shop is available."""
    import anyio

    from mesh.kube.client import KubeClient
    from mesh.kube.config import find_access

    names = [o["metadata"]["name"] for o in manifests.shop("") if o["kind"] == "Deployment"]

    async def wait() -> list[str]:
        missing = list(names)
        async with KubeClient(find_access(str(stage.kubeconfig))) as client:
            with anyio.move_on_after(_PATIENCE):
                while missing:
                    listing = await client.list("deployments.apps", manifests.NAMESPACE)
                    missing = [n for n in names if n not in {_name(d) for d in listing if _up(d)}]
                    await anyio.sleep(0.1)
        return missing

    if missing := anyio.run(wait):
        raise DemoError(
            f"not available after {_PATIENCE:.0f} s: {', '.join(missing)}; "
            f"see KUBECONFIG={stage.kubeconfig} kubectl get pods -n {manifests.NAMESPACE}"
        )


def _name(obj: dict[str, Any]) -> str:
    return str(obj["metadata"]["name"])


def _up(deployment: dict[str, Any]) -> bool:
    status, wanted = deployment.get("status") or {}, deployment["spec"].get("replicas", 1)
    return bool(
        status.get("availableReplicas", 0) >= wanted
        and status.get("observedGeneration") == deployment["metadata"]["generation"]
    )


def _wait_for_traffic(stage: Stage) -> list[dict[str, Any]]:
    """Until every leaf of the split has had requests and the pods that took them have said so,
    which proxies do every few seconds; the rows of `mesh stat deploy -o json`."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        leaves = _rows(stage, "ts")
        if len(leaves) == 2 and all(row.get("rps") for row in leaves):
            rows = _rows(stage, "deploy")
            if len(_busy(rows)) >= _BUSY or time.monotonic() > deadline:
                return rows
        elif time.monotonic() > deadline:
            raise DemoError(f"no traffic on both versions after {_PATIENCE:.0f} s: {leaves}")
        time.sleep(0.5)


def _rows(stage: Stage, kind: str) -> list[dict[str, Any]]:
    text = stage.mesh("stat", kind, "-n", manifests.NAMESPACE, "-t", "30s", "-o", "json")
    rows: list[dict[str, Any]] = json.loads(text or "[]")
    return rows


def _is_sound(rows: list[dict[str, Any]]) -> bool:
    """Whether every workload has traffic and answers it; the table shows any single failure."""
    busy = _busy(rows)
    return len(busy) >= _BUSY and all(row["success"] >= _SOUND for row in busy)


def _busy(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row.get("rps")]


def _say_farewell(stage: Stage) -> None:
    click.echo(
        f"""Try next, after  export KUBECONFIG={stage.kubeconfig}

  mesh stat ts -n shop                                  the split, with the share really observed
  kubectl -n shop patch trafficsplit catalogue --type merge \\
    -p '{{"spec":{{"backends":[{{"service":"catalogue-v1","weight":50}},\
{{"service":"catalogue-v2","weight":50}}]}}}}'   half and half
  kubectl -n shop scale deploy catalogue-v2 --replicas 0   break a version, then look at mesh stat

Stop it with  mesh local down"""
    )
