"""The cluster that the end-to-end tests share: kubectl, mesh and HTTP from this machine into it.

One embedded cluster a session, with the mesh installed and the shop running. `ask` speaks
HTTP to a pod or Service by address, as a browser on this machine would (unmeshed).
"""

from __future__ import annotations

import functools
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from lightkube.config import client_adapter
from lightkube.config.client_adapter import ConnectionParams

from mesh.core import labels
from mesh.kube.config import find_access
from mesh.kube.resources import find_resource

T = TypeVar("T")
PATIENCE = 60.0  # seconds until something that must happen counts as not happening
_READ: Final = {  # kubectl's words -> what is read without it
    "deployments": "deployments.apps",
    "events": "events",
    "nodes": "nodes",
    "pod": "pods",
    "pods": "pods",
    "service": "services",
}


@dataclass(frozen=True)
class Stage:
    """One running cluster, and what `mesh install` has to be told there."""

    kubeconfig: Path
    kubectl_path: str
    image: str
    install_flags: tuple[str, ...] = ()
    previous: Callable[[], str] = str
    """Makes the image of the release before known to the cluster; its name. Raises BuildError."""
    addresses: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}

    def kubectl(self, *args: str, text: str = "", check: bool = True) -> str:
        """Run kubectl; its stdout. Fails with what it said."""
        return self._run([self.kubectl_path, *args], text, check)

    def mesh(self, *args: str, text: str = "", check: bool = True) -> str:
        """Run one `mesh` command; its stdout."""
        return self._run([sys.executable, "-m", "mesh", *args], text, check)

    def get(self, kind: str, *args: str) -> Any:
        """`kubectl get KIND [NAME] [-n NAMESPACE] [-l LABELS]` as an object.

        Most looks are repeated until something is seen: where they can be, they are made
        without a kubectl each, which would take the CPU that the tested thing needs.
        """
        if kind not in _READ:
            return json.loads(self.kubectl("get", kind, *args, "-o", "json"))
        words, chosen = list(args), {"-n": "default", "-l": ""}
        for option in chosen:
            if option in words:
                at = words.index(option)
                chosen[option] = words[at + 1]
                del words[at : at + 2]
        assert len(words) <= 1, args
        path = find_resource(_READ[kind]).path(chosen["-n"], *words)
        query = {"labelSelector": chosen["-l"]} if chosen["-l"] else {}
        with client_adapter.Client(self._access.config, ConnectionParams()) as client:
            answer = client.get(path, params=query)
            assert answer.status_code == 200, f"{path}: {answer.text}"
            return answer.json()

    @functools.cached_property
    def _access(self) -> Any:
        return find_access(str(self.kubeconfig))

    def apply(self, text: str) -> str:
        return self.kubectl("apply", "-f", "-", text=text)

    def service_address(self, name: str, namespace: str = "shop") -> tuple[str, int]:
        """ClusterIP and first port; asked for once, since it stays as long as the Service."""
        if (name, namespace) not in self.addresses:
            spec = self.get("service", name, "-n", namespace)["spec"]
            self.addresses[name, namespace] = spec["clusterIP"], spec["ports"][0]["port"]
        return self.addresses[name, namespace]

    def pods(self, selector: str, namespace: str = "shop") -> list[Any]:
        items: list[Any] = self.get("pods", "-n", namespace, "-l", selector)["items"]
        return items

    def ask(
        self, address: tuple[str, int], path: str, method: str = "GET", timeout: float = 30.0
    ) -> tuple[int, dict[str, str], bytes]:
        """One request from this machine; (status, headers, body)."""
        connection = http.client.HTTPConnection(*address, timeout=timeout)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, headers, answer.read()
        finally:
            connection.close()

    def metrics(self, address: str) -> list[str]:
        """The lines of a proxy's metrics, by its pod's address."""
        text = self.ask((address, labels.ADMIN_PORT), "/metrics")[2]
        return text.decode().splitlines()

    def load(self, path: str, method: str = "GET") -> Any:
        """The load generator's own pages: /stats, /recent, /pause, /resume?rate=."""
        status, _, body = self.ask(self.service_address("load"), path, method)
        assert status == 200, body
        return json.loads(body)

    def _run(self, command: list[str], text: str, check: bool) -> str:
        done = subprocess.run(
            command, input=text, env=self.environ, text=True, capture_output=True, timeout=180
        )
        if check:
            assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def eventually(probe: Callable[[], T], *, within: float = PATIENCE, every: float = 0.1) -> T:
    """The first true value of `probe`; its last failure when there is none in time."""
    deadline = time.monotonic() + within
    while True:
        try:
            value = probe()
            if value:
                return value
            problem: BaseException | None = None
        except (AssertionError, OSError, KeyError, IndexError, ValueError) as error:
            problem = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {probe}") from problem
        time.sleep(every)
