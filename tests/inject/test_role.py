"""The webhook as a process would run it: TLS, the embedded API server, its own account.

The API server calls it through a Service, with the caBundle that it wrote itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mesh.core import labels
from mesh.core.errors import ApiError
from mesh.inject.role import build
from mesh.inject.settings import Settings
from mesh.install.render import render
from mesh.install.values import Values
from mesh.runtime.lifecycle import Lifecycle
from mesh.runtime.settings import load
from tests.support.authority import TrustChain
from tests.support.embedded_api import EmbeddedApi, embedded_api

Object = dict[str, Any]
MUTATING = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
VALIDATING = "validatingwebhookconfigurations.admissionregistration.k8s.io"


@dataclass
class Running:
    cluster: EmbeddedApi
    port: int
    admin_port: int
    life: Lifecycle

    async def create_pod(
        self, name: str, annotations: dict[str, str] | None = None, *, dry_run: bool = False
    ) -> Object:
        meta_data = {"name": name, "namespace": "shop", "annotations": annotations or {}}
        spec = {"containers": [{"name": "app", "image": "app:1", "command": ["app"]}]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta_data, "spec": spec}
        return await self.cluster.admin.create("pods", pod, dry_run=dry_run)

    async def ask(self, path: str, body: bytes) -> tuple[int, str]:
        """Like the API server, but without checking who answers."""
        url = f"https://127.0.0.1:{self.port}{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=io.BytesIO(body), ssl=False) as response,
        ):
            return response.status, await response.text()

    async def metrics(self) -> str:
        url = f"http://127.0.0.1:{self.admin_port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return await response.text()


async def eventually(claim: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    async with asyncio.timeout(10):
        while True:
            if await claim():
                return
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def running(folder: Path, linger: float = 0.0) -> AsyncIterator[Running]:
    """The mesh as rendered, with only inject alive, and a namespace that asks for it."""
    async with embedded_api(folder) as cluster:
        await cluster.apply(*installed())
        await report_kubelet(cluster, "v1.33.1")
        async with cluster.client_of(labels.INJECT, "mesh") as client:
            life = Lifecycle()
            settings = load(
                Settings,
                {"MESH_KEY_DIR": str(folder / "keys"), "MESH_INJECT_HOST": "127.0.0.1"},
            )
            server, admin = build(life, client, settings, port=0, admin_port=0, linger=linger)
            task = asyncio.create_task(life.run())

            async def is_ready() -> bool:
                return not life.waiting_for()

            try:
                await eventually(is_ready)
                await cluster.apply(endpoints(server.port))
                yield Running(cluster, server.port, admin.port, life)
            finally:
                life.end()
                assert await task == 0


def installed() -> list[Object]:
    """What is there before the webhook starts."""
    manifests = render(Values())
    for manifest in manifests:
        if manifest["kind"] == "Service" and manifest["metadata"]["name"] == labels.INJECT:
            manifest["spec"]["clusterIP"] = "None"  # no node routes ClusterIPs here
    bundle = {labels.TRUST_ROOTS_KEY: TrustChain().bundle}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}}
    return [
        *manifests,
        config_map(labels.TRUST_ROOTS, bundle),
        node,
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": "shop", "annotations": {labels.A_INJECT: "enabled"}},
        },
    ]


async def report_kubelet(cluster: EmbeddedApi, version: str) -> None:
    info = {"kubeletVersion": version, "operatingSystem": "linux"}
    status = {"status": {"nodeInfo": info}}
    await cluster.admin.patch("nodes", "node", status, subresource="status")


def config_map(name: str, data: dict[str, str]) -> Object:
    meta = {"name": name, "namespace": "mesh"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def endpoints(port: int) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "mesh-inject-1",
            "namespace": "mesh",
            "labels": {"kubernetes.io/service-name": labels.INJECT},
        },
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
    }


def in_cluster(
    folder: Path, scenario: Callable[[Running], Coroutine[Any, Any, None]], linger: float = 0.0
) -> None:
    async def run() -> None:
        async with running(folder, linger) as webhook:
            await scenario(webhook)

    asyncio.run(run())


def containers(pod: Object, kind: str = "initContainers") -> list[str]:
    return [c["name"] for c in pod["spec"].get(kind, [])]


def test_a_pod_of_a_meshed_namespace_gets_a_native_sidecar(tmp_path: Path) -> None:
    async def scenario(webhook: Running) -> None:
        pod = await webhook.create_pod("web")

        assert containers(pod) == [labels.INIT_CONTAINER, labels.PROXY_CONTAINER]
        assert containers(pod, "containers") == ["app"]
        assert 'result="injected"} 1.0' in await webhook.metrics()

    in_cluster(tmp_path, scenario)


def test_one_that_is_asked_to_end_is_not_ready_and_goes_on_answering(tmp_path: Path) -> None:
    async def scenario(webhook: Running) -> None:
        webhook.life.end()

        assert webhook.life.waiting_for() == ["stopping"]
        assert containers(await webhook.create_pod("late")) != []

    in_cluster(tmp_path, scenario, linger=2.0)


def test_what_is_told_at_admission_is_an_event_as_well_but_not_in_a_dry_run(tmp_path: Path) -> None:
    async def scenario(webhook: Running) -> None:
        wrong = {"mesh/proxy-cpu-limit": "much"}
        assert containers(await webhook.create_pod("dry", wrong, dry_run=True))
        await webhook.create_pod("web", wrong)

        async def is_told() -> bool:
            events = await webhook.cluster.admin.list("events", "shop")
            told = {(e["involvedObject"]["name"], e["reason"]) for e in events}
            return told == {("web", "Injected"), ("web", "InjectionWarning")}

        await eventually(is_told)

    in_cluster(tmp_path, scenario)


def test_a_wiped_ca_bundle_and_a_deleted_secret_come_back(tmp_path: Path) -> None:
    async def scenario(webhook: Running) -> None:
        admin = webhook.cluster.admin

        async def bundle(kind: str, name: str) -> str:
            hooks = (await admin.get(kind, name))["webhooks"]
            return str(hooks[0]["clientConfig"].get("caBundle", ""))

        before = await bundle(MUTATING, labels.WEBHOOK_CONFIGURATION)
        assert before == await bundle(VALIDATING, labels.VALIDATING_CONFIGURATION) != ""
        await admin.delete("secrets", labels.INJECT_SECRET, "mesh")
        wiped = [{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]
        await admin.patch(
            MUTATING,
            labels.WEBHOOK_CONFIGURATION,
            wiped,
            content_type="application/json-patch+json",
        )

        async def is_back() -> bool:
            now = await bundle(MUTATING, labels.WEBHOOK_CONFIGURATION)
            return now not in ("", before)

        await eventually(is_back)
        assert containers(await webhook.create_pod("web"))

    in_cluster(tmp_path, scenario)


def test_an_older_kubelet_means_ordinary_sidecars(tmp_path: Path) -> None:
    async def scenario(webhook: Running) -> None:
        await report_kubelet(webhook.cluster, "v1.27.9")

        async def is_ordinary() -> bool:
            pod = await webhook.create_pod("web", dry_run=True)
            return containers(pod, "containers") == [labels.PROXY_CONTAINER, "app"]

        await eventually(is_ordinary)

    in_cluster(tmp_path, scenario)


def test_beside_linkerd_s_own_injector_only_our_switch_counts(tmp_path: Path) -> None:
    async def scenario(webhook: Running) -> None:
        admin = webhook.cluster.admin
        foreign = await admin.get(MUTATING, labels.WEBHOOK_CONFIGURATION)
        hook = {**foreign["webhooks"][0], "name": "linkerd-proxy-injector.linkerd.io"}
        hook["objectSelector"] = {"matchLabels": {"never": "matches"}}
        await admin.create(MUTATING, {**foreign, "metadata": {"name": "l5d"}, "webhooks": [hook]})

        async def is_ignored() -> bool:
            switch = {"linkerd.io/inject": "disabled"}
            return bool(containers(await webhook.create_pod("web", switch, dry_run=True)))

        await eventually(is_ignored)

    in_cluster(tmp_path, scenario)


def test_routing_objects_are_stored_with_warnings_or_refused(tmp_path: Path) -> None:
    async def scenario(webhook: Running) -> None:
        split = {
            "apiVersion": "split.smi-spec.io/v1alpha2",
            "kind": "TrafficSplit",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"service": "web", "backends": [{"service": "web-v1", "weight": 0}]},
        }
        body = review({"object": split, "uid": "1"})
        status, text = await webhook.ask("/validate", body)

        assert status == 200
        assert "spec.backends: all weights are 0" in text
        await webhook.cluster.apply(split)
        broken = {**split, "metadata": {"name": "other", "namespace": "shop"}, "spec": {}}
        with pytest.raises(ApiError, match="expected the name of a Service"):
            await webhook.cluster.apply(broken)
        assert 'kind="TrafficSplit"} 3.0' in await webhook.metrics()

    in_cluster(tmp_path, scenario)


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"x", 400), (b"{}", 400), (b"[" * 100_000, 400), (b" " * (3 * 1024 * 1024 + 1), 413)],
)
def test_a_request_that_is_no_review_is_refused(tmp_path: Path, body: bytes, status: int) -> None:
    async def scenario(webhook: Running) -> None:
        assert (await webhook.ask("/inject", body))[0] == status
        assert (await webhook.ask("/validate", body))[0] == status

    in_cluster(tmp_path, scenario)


def test_the_webhook_s_account_may_not_list_secrets(tmp_path: Path) -> None:
    async def scenario(webhook: Running) -> None:
        async with webhook.cluster.client_of(labels.INJECT, "mesh") as client:
            with pytest.raises(ApiError, match="cannot list resource"):
                await client.list("secrets", "mesh")

    in_cluster(tmp_path, scenario)


def review(request: Object) -> bytes:
    whole = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    return json.dumps(whole).encode()
