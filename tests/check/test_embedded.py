"""Check and stat on the embedded API server: RBAC, TokenRequest, pods/proxy, a real webhook.

No node runs, so a test writes the status of pods; destination's admin port is a small server
that looks at the token as destination does.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from mesh.check.catalogue import Mode, categories_of
from mesh.check.facts import Facts
from mesh.check.gather import Request, gather
from mesh.check.model import Result, Verdict, judge
from mesh.core import labels
from mesh.core.report import ProxiesAnswer, ReportsAnswer
from mesh.install.render import render
from mesh.install.values import Values
from mesh.kube.client import KubeClient
from mesh.runtime.bundle import hash_bundle
from mesh.stat.collect import Scope, collect
from mesh.stat.rows import rows_of
from mesh.stat.selection import parse_resources
from tests.check.world import app_pod, control_pod, issuer_secret, status
from tests.inject.test_role import running as inject_running
from tests.stat.traffic import ProxySim
from tests.support.authority import TrustChain
from tests.support.embedded_api import EmbeddedApi, embedded_api

pytestmark = pytest.mark.anyio
Object = dict[str, Any]
ROLES = (labels.IDENTITY, labels.DESTINATION, labels.INJECT)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Mesh:
    """An installed mesh whose control plane is said to run."""

    cluster: EmbeddedApi
    chain: TrustChain
    tokens: list[str]

    async def faults(
        self, mode: Mode = Mode.DEFAULT, kubeconfig: Path | None = None
    ) -> dict[str, Result]:
        """Every check that does not succeed, by its description."""
        facts = await self.facts(mode, kubeconfig)
        results = [judge(c, check, facts) for c in categories_of(mode) for check in c.checks]
        return {r.check.description: r for r in results if r.verdict is not Verdict.SUCCESS}

    async def facts(self, mode: Mode, kubeconfig: Path | None = None) -> Facts:
        path = str(kubeconfig or self.cluster.kubeconfig)
        return await gather(Request(mode=mode, kubeconfig=path))


@contextlib.asynccontextmanager
async def destination_admin(mesh: Mesh) -> AsyncIterator[str]:
    """destination's admin port on a loopback address of its own; yields the address."""

    async def answer(request: web.Request) -> web.Response:
        token = request.headers.get(labels.H_VIEWER_TOKEN, "")
        who = await mesh.cluster.admin.token_review(token, [labels.DESTINATION_AUDIENCE])
        if who.service_account != ("mesh", labels.VIEWER):
            return web.Response(status=401)
        mesh.tokens.append(token)
        body: ProxiesAnswer | ReportsAnswer
        if request.path == "/v1/proxies":
            bundle = hash_bundle(mesh.chain.bundle)
            mine = status("web-1", bundle_hash=bundle, leaf_not_after=mesh.chain.now + 3600)
            body = ProxiesAnswer(bundle, (mine,))
        else:
            window = ProxySim("web-1", rate=10, begin=0, end=1000).window(100.0)
            body = ReportsAnswer(float(request.query["window"]), (window,) if window else ())
        return web.Response(body=msgspec.json.encode(body))

    app = web.Application()
    app.router.add_get("/v1/{what}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        yield await _listen(runner)
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner) -> str:
    """The port is fixed, so the address is drawn: 127.0.0.0/8 is all ours."""
    while True:
        address = f"127.{random.randint(1, 250)}.{random.randint(1, 250)}.{random.randint(2, 250)}"
        with contextlib.suppress(OSError):
            await web.TCPSite(runner, address, labels.CONTROL_ADMIN_PORT).start()
            return address


@contextlib.asynccontextmanager
async def installed(folder: Path) -> AsyncIterator[Mesh]:
    """Installed, with ready pods, trust roots and one meshed pod; no webhook answers."""
    async with embedded_api(folder) as cluster:
        mesh = Mesh(cluster, TrustChain(), [])
        async with destination_admin(mesh) as address:
            await cluster.apply(*render(Values()))
            await _run_control_plane(mesh, address)
            annotated = {"name": "shop", "annotations": {labels.A_INJECT: "enabled"}}
            await cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": annotated})
            await put_pod(cluster, app_pod("web-1"))
            yield mesh


async def _run_control_plane(mesh: Mesh, address: str) -> None:
    for role in ROLES:
        pod = control_pod(role)
        pod["status"]["podIP"] = address
        await put_pod(mesh.cluster, pod)
    roots = {labels.TRUST_ROOTS_KEY: mesh.chain.bundle}
    await mesh.cluster.apply(
        _namespaced("ConfigMap", labels.TRUST_ROOTS, data=roots),
        _namespaced("Secret", labels.ISSUER_SECRET, **issuer_secret(mesh.chain)),
    )


def _namespaced(kind: str, name: str, **more: Any) -> Object:
    meta = {"name": name, "namespace": "mesh"}
    return {"apiVersion": "v1", "kind": kind, "metadata": meta, **more}


async def put_pod(cluster: EmbeddedApi, pod: Object) -> None:
    """Create a pod of world's making, and its status."""
    meta = {**pod["metadata"]}
    meta.pop("ownerReferences", None)
    spec = {"containers": [{**c, "image": "app:1"} for c in pod["spec"]["containers"]]}
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}
    await cluster.apply(made)
    await cluster.admin.patch(
        "pods",
        meta["name"],
        {"status": pod["status"]},
        namespace=meta["namespace"],
        subresource="status",
    )


async def test_a_bare_cluster_is_ready_and_an_installed_one_says_so(tmp_path: Path) -> None:
    async with embedded_api(tmp_path) as cluster:
        mesh = Mesh(cluster, TrustChain(), [])
        assert await mesh.faults(Mode.PRE) == {}

        await cluster.apply(*render(Values()))

        assert list(await mesh.faults(Mode.PRE)) == ["the mesh is not installed yet"]
        (result,) = [
            r for r in (await mesh.faults()).values() if r.check.description.startswith("pods of")
        ]
        assert [f.object for f in result.faults] == [f"Deployment mesh/{role}" for role in ROLES]


async def test_all_but_the_webhook_is_well_and_the_viewers_token_was_taken(tmp_path: Path) -> None:
    async with installed(tmp_path) as mesh:
        found = await mesh.faults(Mode.PROXY)

    assert list(found) == ["the caBundle of each webhook is set", "an annotated pod gets a proxy"]
    assert "came back without container" in str(found["an annotated pod gets a proxy"].faults[0])
    assert mesh.tokens


async def test_stat_reads_through_the_api_servers_proxy(tmp_path: Path) -> None:
    async with installed(tmp_path) as mesh:
        selections = parse_resources(["po"])
        cluster, warnings = await collect(
            mesh.cluster.admin, "mesh", selections, Scope("shop", window=30.0)
        )

    assert warnings == []
    (row,) = rows_of(selections[0], cluster)
    assert row.figures.rps == pytest.approx(10, rel=0.02)


async def test_who_holds_only_the_viewers_role_can_check_and_stat(tmp_path: Path) -> None:
    """The Role that the installation brings is enough for the mesh's own namespace."""
    async with installed(tmp_path) as mesh:
        account = _namespaced("ServiceAccount", "sre")
        binding = _namespaced(
            "RoleBinding",
            "sre",
            roleRef={
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": labels.VIEWER,
            },
            subjects=[{"kind": "ServiceAccount", "name": "sre", "namespace": "mesh"}],
        )
        binding["apiVersion"] = "rbac.authorization.k8s.io/v1"
        await mesh.cluster.apply(account, binding)
        async with mesh.cluster.client_of("sre", "mesh") as client:
            assert isinstance(client, KubeClient)
            path = mesh.cluster.kubeconfig.with_name("kubeconfig-mesh-sre")
            found = await mesh.faults(kubeconfig=path)

    assert [r.check.description for r in found.values() if r.verdict is Verdict.ERROR] == []
    assert "destination answers" not in found
    assert "cannot list resource" in str(found["the webhook is registered"].faults[0])


@pytest.mark.parametrize("kind", ["ConfigMap", "ServiceAccount", "MutatingWebhookConfiguration"])
async def test_what_is_deleted_from_the_installation_is_missed_by_name(
    tmp_path: Path, kind: str
) -> None:
    names = {
        "ConfigMap": ("configmaps", labels.CONFIG_MAP, "mesh"),
        "ServiceAccount": ("serviceaccounts", labels.INJECT, "mesh"),
        "MutatingWebhookConfiguration": (
            "mutatingwebhookconfigurations.admissionregistration.k8s.io",
            labels.WEBHOOK_CONFIGURATION,
            None,
        ),
    }
    resource, name, namespace = names[kind]
    async with installed(tmp_path) as mesh:
        await mesh.cluster.admin.delete(resource, name, namespace)

        found = await mesh.faults()

    objects = [fault.object for result in found.values() for fault in result.faults]
    assert f"{kind} {namespace + '/' if namespace else ''}{name}" in objects


async def test_a_live_webhook_is_proven_and_a_dead_one_is_not(tmp_path: Path) -> None:
    async with inject_running(tmp_path) as running:
        mesh = Mesh(running.cluster, TrustChain(), [])
        alive = await mesh.faults()
        await running.cluster.admin.delete(
            "endpointslices.discovery.k8s.io", "mesh-inject-1", "mesh"
        )
        dead = await mesh.faults()

    description = "an annotated pod gets a proxy"
    assert description not in alive
    assert "the caBundle of each webhook is set" not in alive
    assert (
        "can the API server reach Service mesh/mesh-inject?" in dead[description].faults[0].remedy
    )
