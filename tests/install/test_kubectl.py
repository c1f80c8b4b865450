"""kubectl against the embedded API server: install, install again, uninstall."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mesh.local.demo import find_kubectl


@dataclass
class Server:
    kubectl: str
    kubeconfig: str

    def run(self, *arguments: str, text: str = "") -> str:
        done = subprocess.run(
            arguments,
            input=text,
            text=True,
            capture_output=True,
            env={**os.environ, "KUBECONFIG": self.kubeconfig},
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    def mesh(self, *arguments: str) -> str:
        return self.run(sys.executable, "-m", "mesh", *arguments)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    kubectl = find_kubectl()
    if kubectl is None:
        pytest.skip("needs kubectl 1.28 or newer in PATH")
    command = [sys.executable, "-m", "mesh.local.api", "--state", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Server(kubectl, process.stdout.readline().strip())
        finally:
            process.send_signal(signal.SIGTERM)


def test_applying_again_changes_nothing_and_uninstalling_leaves_only_definitions(
    server: Server,
) -> None:
    text = server.mesh("install")
    apply = (server.kubectl, "apply", "-f", "-")

    first = server.run(*apply, text=text).splitlines()
    second = server.run(*apply, text=text).splitlines()
    assert {line.rpartition(" ")[2] for line in first} == {"created"}
    assert {line.rpartition(" ")[2] for line in second} == {"unchanged"}

    server.run(server.kubectl, "delete", "-f", "-", text=server.mesh("uninstall"))
    kinds = "clusterrole,clusterrolebinding,mutatingwebhookconfiguration"
    kinds += ",validatingwebhookconfiguration,namespace,crd"
    part = "app.kubernetes.io/part-of=lightmesh"
    left = server.run(server.kubectl, "get", kinds, "-l", part, "-o", "name").splitlines()
    assert {name.partition("/")[0] for name in left} == {
        "customresourcedefinition.apiextensions.k8s.io"
    }
