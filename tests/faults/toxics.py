"""Shopify's toxiproxy between two ends: started once a test, told over its HTTP interface."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from tests.cluster.build import built
from tests.faults.build import TOXIPROXY
from tests.proxy.world import free_port


class Toxics:
    """One toxiproxy. Every link is one listening port that leads to another."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._count = 0

    def link(self, upstream: int) -> Link:
        """A way to a port of loopback, without a fault yet."""
        self._count += 1
        name = f"link{self._count}"
        told = self.call(
            "POST",
            "/proxies",
            {"name": name, "listen": "127.0.0.1:0", "upstream": f"127.0.0.1:{upstream}"},
        )
        return Link(self, name, int(told["listen"].rpartition(":")[2]))

    def call(self, method: str, path: str, body: object = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None)
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status < 300, text
            return json.loads(text) if text else None
        finally:
            connection.close()


class Link:
    """One way; `port` is where to connect."""

    def __init__(self, toxics: Toxics, name: str, port: int) -> None:
        self._toxics = toxics
        self._name = name
        self.port = port

    def refuse(self) -> None:
        """Nobody listens, and what was open is closed."""
        self._toxics.call("POST", f"/proxies/{self._name}", {"enabled": False})

    def add(self, kind: str, stream: str = "downstream", **attributes: int) -> None:
        """A fault; downstream is the way back from the server."""
        toxic = {"type": kind, "stream": stream, "attributes": attributes}
        self._toxics.call("POST", f"/proxies/{self._name}/toxics", toxic)

    def heal(self) -> None:
        """All faults away."""
        for toxic in self._toxics.call("GET", f"/proxies/{self._name}/toxics"):
            self._toxics.call("DELETE", f"/proxies/{self._name}/toxics/{toxic['name']}")
        self._toxics.call("POST", f"/proxies/{self._name}", {"enabled": True})


@contextlib.contextmanager
def running() -> Iterator[Toxics]:
    """A toxiproxy of its own. Raises BuildError."""
    port = free_port()
    process = subprocess.Popen(
        [built(TOXIPROXY), "-port", str(port)],
        env={**os.environ, "LOG_LEVEL": "fatal"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    toxics = Toxics(port)
    try:
        _wait(toxics, process)
        yield toxics
    finally:
        process.terminate()
        process.wait()


def _wait(toxics: Toxics, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10.0
    while True:
        try:
            toxics.call("GET", "/version")
            return
        except OSError:
            assert process.poll() is None, f"toxiproxy ended with {process.returncode}"
            assert time.monotonic() < deadline, "toxiproxy does not listen"
            time.sleep(0.01)
