"""The embedded API server inside a test: on loopback, with TLS, RBAC and admission webhooks.

No node and no controllers, so Services have no endpoints but those that a test writes.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mesh.kube.client import KubeClient
from mesh.kube.config import find_access
from mesh.kube.resources import resource_of
from mesh.local.api import app, bootstrap, certs
from mesh.local.api.addresses import ClusterIPs
from mesh.local.api.calls import WebhookCaller
from mesh.local.api.server import Api
from mesh.local.api.store import Store
from mesh.local.api.tokens import Signer

Object = dict[str, Any]
_RANGE = ("10.96.0.0/16",)


@dataclass
class EmbeddedApi:
    """A running server: clients as the administrator or as a service account."""

    kubeconfig: Path
    api: Api
    admin: KubeClient

    async def apply(self, *objects: Object) -> None:
        """Create objects, in order."""
        for obj in objects:
            await self.admin.create(resource_of(obj), obj)

    @contextlib.asynccontextmanager
    async def client_of(self, account: str, namespace: str) -> AsyncIterator[KubeClient]:
        """A client with a token of a service account and no other right."""
        token = await self.admin.create_token(account, namespace, audiences=[])
        config = yaml.safe_load(self.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        path = self.kubeconfig.with_name(f"kubeconfig-{namespace}-{account}")
        path.write_text(yaml.safe_dump(config))
        async with KubeClient(find_access(str(path))) as client:
            yield client


@contextlib.asynccontextmanager
async def embedded_api(folder: Path) -> AsyncIterator[EmbeddedApi]:
    """One server over an empty store in memory; `folder` gets its certificates."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        files = certs.ensure(folder / "certificates", ["127.0.0.1"])
        store = Store()
        addresses = ClusterIPs(_RANGE)
        caller = WebhookCaller(store)
        api = Api(
            store,
            cluster_ips=addresses,
            logs=folder / "logs",
            ca=files.ca.read_text(),
            call=caller,
        )
        bootstrap.ensure(store, addresses, port=port)
        application = app.build(api, Signer(certs.load_key(files.tokens_key)))
        kubeconfig = folder / "kubeconfig"
        certs.write_kubeconfig(kubeconfig, files, f"https://127.0.0.1:{port}")
        async with (
            app.serve(application, [listener], app.server_context(files)),
            KubeClient(find_access(str(kubeconfig))) as admin,
        ):
            yield EmbeddedApi(kubeconfig, api, admin)
        await caller.close()
