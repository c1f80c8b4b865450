"""The embedded API server for tests: the Api alone, and the real process on loopback."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mesh.local.api import bootstrap
from mesh.local.api.addresses import ClusterIPs
from mesh.local.api.server import Api
from mesh.local.api.store import Store
from mesh.local.api.webhooks import Caller

RANGES = ("10.96.0.0/16", "fd00:96::/112")


def make_api(folder: Path, *, call: Caller | None = None, is_bare: bool = False) -> Api:
    """An Api with the namespace `shop`, and the objects of every cluster unless it is bare."""
    cluster_ips = ClusterIPs(RANGES)
    store = Store()
    api = Api(store, cluster_ips=cluster_ips, logs=folder / "logs", ca="PEM", call=call)
    if not is_bare:
        bootstrap.ensure(store, cluster_ips)
    asyncio.run(api.create("namespaces", {"metadata": {"name": "shop"}}))
    return api


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return make_api(tmp_path)


@dataclass(frozen=True)
class Server:
    """A running `python -m mesh.local.api`."""

    process: subprocess.Popen[str]
    kubeconfig: Path
    folder: Path

    @property
    def url(self) -> str:
        found: str = self._config()["clusters"][0]["cluster"]["server"]
        return found

    def _config(self) -> Any:
        return json.loads(self.kubeconfig.read_text())

    def context(self, *, as_admin: bool = True) -> ssl.SSLContext:
        """TLS that trusts the server, with the administrator's certificate."""
        cluster = self._config()["clusters"][0]["cluster"]
        anchor = base64.b64decode(cluster["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=anchor)
        if as_admin:
            certificates = self.folder / "certificates"
            context.load_cert_chain(certificates / "admin.crt", certificates / "admin.key")
        return context

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        as_admin: bool = True,
    ) -> Iterator[HTTPResponse]:
        """The answer to one request, to be read while the block runs."""
        where = urlsplit(self.url)
        assert where.hostname is not None
        connection = HTTPSConnection(
            where.hostname, where.port, context=self.context(as_admin=as_admin), timeout=30
        )
        sent = {"Content-Type": "application/json", **(headers or {})}
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        with closing(connection):
            connection.request(method, path, raw, sent)
            with connection.getresponse() as answer:
                yield answer

    def call(self, method: str, path: str, body: Any = None, *, code: int = 0, **more: Any) -> Any:
        """The decoded answer; with `code`, the HTTP status must be that."""
        with self.open(method, path, body, **more) as answer:
            found = json.loads(answer.read())
            assert code in (0, answer.status), found
            return found

    def namespace(self, name: str) -> str:
        """A new namespace, which tests do not share."""
        self.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}}, code=201)
        return name


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    """The server as a process, until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mesh.local.api", "--state", str(folder), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        path = process.stdout.readline().strip()
        assert path, "the server did not start: see its stderr"
        yield Server(process, Path(path), folder)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that use namespaces of their own."""
    with running(tmp_path_factory.mktemp("api")) as found:
        yield found
