"""The control plane as processes on loopback, against a real API server that has no node.

Each role runs with the environment that its Deployment gives it and with a token of its own
service account, so it can do no more than on a cluster. The API server calls the webhook
through its Service, which here is another name for this machine.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from mesh.core import labels
from tests.cluster.kubeconfig import token_kubeconfig
from tests.cluster.server import ApiServer

READY_SECONDS: Final = 40.0
SPACE: Final = "mesh"
ROLES: Final = (labels.IDENTITY, labels.DESTINATION, labels.INJECT)
CONFIGURATIONS: Final = {
    "mutatingwebhookconfiguration": labels.WEBHOOK_CONFIGURATION,
    "validatingwebhookconfiguration": labels.VALIDATING_CONFIGURATION,
}
Object = dict[str, Any]


@dataclass(frozen=True)
class ControlPlane:
    """All three roles, ready. Their logs are files in `folder`."""

    server: ApiServer
    folder: Path
    host: str  # an address of loopback that is theirs alone

    def ask(self, role: str, path: str) -> tuple[int, str]:
        """One page of a role's admin port."""
        port = admin_port(role)
        try:
            with urllib.request.urlopen(f"http://{self.host}:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def log(self, role: str) -> str:
        return (self.folder / f"{role}.log").read_text()


@contextmanager
def control_plane(server: ApiServer, folder: Path) -> Iterator[ControlPlane]:
    """The mesh applied to `server` with its roles alive; what it applied is deleted afterwards."""
    text = subprocess.run(
        [sys.executable, "-m", "mesh", "install"], capture_output=True, text=True, check=True
    ).stdout
    manifests: list[Object] = list(yaml.safe_load_all(text))
    host = f"127.{1 + secrets.randbelow(250)}.{1 + secrets.randbelow(250)}.1"
    plane = ControlPlane(server, folder, host)
    with ExitStack() as stack:
        stack.callback(kubectl, server, "delete", "-f", "-", "--wait=false", given=text)
        kubectl(server, "apply", "-f", "-", given=text)
        _redirect_webhooks(server)
        for deployment in (item for item in manifests if item["kind"] == "Deployment"):
            _create_pod(server, deployment)
            stack.enter_context(_role(plane, deployment))
        _await_ready(plane)
        yield plane


def kubectl(server: ApiServer, *arguments: str, given: str = "") -> str:
    """Run kubectl as administrator. Raises AssertionError with what it said."""
    done = subprocess.run(
        ["kubectl", f"--kubeconfig={server.admin}", *arguments],
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def admin_port(role: str) -> int:
    return labels.CONTROL_ADMIN_PORT + ROLES.index(role)


def _redirect_webhooks(server: ApiServer) -> None:
    """No proxy rules stand behind a ClusterIP here: the Service becomes a name of this machine."""
    external = {"type": "ExternalName", "externalName": "localhost", "clusterIP": None}
    patch = ("patch", "service", labels.INJECT, "-n", SPACE, "--type=merge", "-p")
    kubectl(server, *patch, json.dumps({"spec": external | {"clusterIPs": None}}))
    port = [{"op": "replace", "path": f"{_CLIENT}/service/port", "value": labels.INJECT_PORT}]
    for kind, name in CONFIGURATIONS.items():
        kubectl(server, "patch", kind, name, "--type=json", "-p", json.dumps(port))


_CLIENT: Final = "/webhooks/0/clientConfig"


def _create_pod(server: ApiServer, deployment: Object) -> None:
    """The pod that stands for the process; tokens are bound to it. It never runs."""
    pod = deployment["spec"]["template"] | {"apiVersion": "v1", "kind": "Pod"}
    pod["metadata"] |= {"name": deployment["metadata"]["name"], "namespace": SPACE}
    kubectl(server, "apply", "-f", "-", given=json.dumps(pod))


@contextmanager
def _role(plane: ControlPlane, deployment: Object) -> Iterator[None]:
    name = deployment["metadata"]["name"]
    folder = plane.folder / name
    for part in ("keys", "state"):
        (folder / part).mkdir(parents=True)
    bound = ("--bound-object-kind=Pod", f"--bound-object-name={name}")
    tokens = {
        audience: kubectl(
            plane.server, "create", "token", name, "-n", SPACE, *bound, *given
        ).strip()
        for audience, given in {
            "": (),
            labels.IDENTITY_AUDIENCE: (f"--audience={labels.IDENTITY_AUDIENCE}",),
        }.items()
    }
    (folder / "token").write_text(tokens[labels.IDENTITY_AUDIENCE])
    config = folder / "kubeconfig"
    config.write_text(token_kubeconfig(plane.server.url, plane.server.anchor, name, tokens[""]))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    module = container["command"][-1]
    environment = _environment(plane, name, container["env"]) | {"KUBECONFIG": str(config)}
    with (plane.folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", module],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _environment(plane: ControlPlane, name: str, listed: list[Object]) -> dict[str, str]:
    """What the kubelet would set, with folders and addresses of this machine."""
    folder = plane.folder / name
    fields = {
        "metadata.name": name,
        "metadata.namespace": SPACE,
        "spec.serviceAccountName": name,
    }
    found = {
        item["name"]: item.get("value") or fields[item["valueFrom"]["fieldRef"]["fieldPath"]]
        for item in listed
    }
    own = {
        "MESH_KEY_DIR": str(folder / "keys"),
        "MESH_STATE_DIR": str(folder / "state"),
        "MESH_TOKEN_FILE": str(folder / "token"),
        "MESH_IDENTITY_ADDRESS": f"{plane.host}:{labels.IDENTITY_PORT}",
    }
    hosts = {
        "MESH_IDENTITY_HOST": plane.host,
        "MESH_DESTINATION_HOST": plane.host,
        "MESH_INJECT_HOST": "",  # all: the API server calls localhost, the test plane.host
        "MESH_ADMIN_PORT": str(admin_port(name)),
    }
    return found | {key: value for key, value in own.items() if key in found} | hosts


def _await_ready(plane: ControlPlane) -> None:
    deadline = time.monotonic() + READY_SECONDS
    for role in ROLES:
        while (said := plane.ask(role, "/ready"))[0] != 200:
            assert time.monotonic() < deadline, f"{role} is not ready: {said}\n{plane.log(role)}"
            time.sleep(0.05)  # another process has nothing else to wait for
