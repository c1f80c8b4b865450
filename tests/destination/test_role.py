"""The real process on the embedded API server, under the rights that the installer gives it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mesh.core import labels
from mesh.core.model import Target
from mesh.core.report import (
    AskedAnswer,
    Counts,
    ProxiesAnswer,
    Report,
    ReportsAnswer,
    Series,
    SeriesKey,
)
from mesh.install.render import render
from mesh.install.values import Values
from mesh.kube.client import KubeClient
from mesh.runtime.bundle import hash_bundle
from proxy.discovery import Discovery, DiscoveryTiming, make_hello
from tests.destination.streams import DESTINATION, WEB, Changes, FixedCredentials
from tests.destination.world import Object, load, pod, service, slice_of
from tests.support.authority import TrustChain
from tests.support.embedded_api import EmbeddedApi, embedded_api

START_SECONDS = 30.0
SPLIT = """
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: web, namespace: shop}
spec: {service: web, backends: [{service: web, weight: 9}, {service: nope, weight: 1}]}
"""


@dataclass
class Role:
    """A running `python -m destination` with the cluster that it watches."""

    cluster: EmbeddedApi
    chain: TrustChain
    folder: Path
    host: str
    process: asyncio.subprocess.Process
    address: str = ""  # of Service web, with its port

    @property
    def admin(self) -> KubeClient:
        return self.cluster.admin

    def discovery(self, uid: str) -> Discovery:
        return Discovery(
            host=self.host,
            port=labels.DESTINATION_PORT,
            hello=make_hello(namespace="shop", pod="web-1", uid=uid),
            server=DESTINATION,
            credentials=FixedCredentials(self.chain, self.folder, WEB),
            timing=DiscoveryTiming(backoff_first=0.02, backoff_last=0.1, answer=5.0),
        )

    async def get(self, path: str, token: str = "") -> tuple[int, bytes]:
        return await asyncio.to_thread(self._get, path, token)

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(START_SECONDS):
            # Another process has no Event to wait for.
            while not await holds():  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def is_ready(self) -> bool:
        assert self.process.returncode is None, await self.errors()
        return (await self.get("/ready"))[0] == 200

    async def errors(self) -> str:
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()

    def _get(self, path: str, token: str) -> tuple[int, bytes]:
        url = f"http://{self.host}:{labels.CONTROL_ADMIN_PORT}{path}"
        request = urllib.request.Request(url, headers={labels.H_VIEWER_TOKEN: token})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except OSError:
            return 0, b""


@contextlib.asynccontextmanager
async def installed(folder: Path) -> AsyncIterator[Role]:
    chain = TrustChain()
    keys = folder / "keys"
    keys.mkdir()
    chain.leaf_file(folder, DESTINATION).rename(keys / "credentials.pem")
    host = f"127.{random.randint(1, 250)}.{random.randint(1, 250)}.{random.randint(2, 250)}"
    async with embedded_api(folder) as cluster:
        await cluster.apply(*render(Values()))
        await cluster.apply(*_shop())
        async with cluster.client_of(labels.DESTINATION, "mesh"):
            kubeconfig = folder / f"kubeconfig-mesh-{labels.DESTINATION}"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "destination",
            env=os.environ
            | {
                "KUBECONFIG": str(kubeconfig),
                "MESH_POD_NAME": "mesh-destination-0",
                "MESH_POD_NAMESPACE": "mesh",
                "MESH_SERVICE_ACCOUNT": labels.DESTINATION,
                "MESH_IDENTITY_ADDRESS": "127.0.0.1:1",
                "MESH_KEY_DIR": str(keys),
                "MESH_STATE_DIR": str(folder / "state"),
                "MESH_DESTINATION_HOST": host,
                "MESH_TRUST_BUNDLE": chain.bundle,
            },
            stderr=subprocess.PIPE,
        )
        role = Role(cluster, chain, folder, host, process)
        web = await role.admin.get("services", "web", "shop")
        role.address = f"{web['spec']['clusterIP']}:80"
        await put_pod(role.admin, pod("web-1", "127.0.0.1"))
        try:
            yield role
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


async def put_pod(admin: KubeClient, wanted: Object) -> None:
    spec = wanted["spec"] | {"containers": [{"name": "app", "image": "app:1"}]}
    meta = {key: value for key, value in wanted["metadata"].items() if key != "uid"}
    made = await admin.create("pods", wanted | {"metadata": meta, "spec": spec})
    name, namespace = meta["name"], meta["namespace"]
    status = {"status": wanted["status"]}
    await admin.patch("pods", name, status, namespace=namespace, subresource="status")
    part = slice_of("web", wanted | {"metadata": meta | {"uid": made["metadata"]["uid"]}})
    await admin.create("endpointslices.discovery.k8s.io", part)


def _shop() -> list[Object]:
    web = service("web")
    web["spec"] = {"ports": web["spec"]["ports"]}
    account = {"apiVersion": "v1", "kind": "ServiceAccount"}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
        account | {"metadata": {"namespace": "shop", "name": "web"}},
        web,
    ]


async def _uid(role: Role) -> str:
    return str((await role.admin.get("pods", "web-1", "shop"))["metadata"]["uid"])


@contextlib.asynccontextmanager
async def joined(role: Role) -> AsyncIterator[tuple[Discovery, Changes]]:
    await role.until(role.is_ready)
    discovery = role.discovery(await _uid(role))
    changes = Changes(discovery)
    task = asyncio.create_task(discovery.run())
    try:
        async with asyncio.timeout(START_SECONDS):
            await changes.until(lambda: discovery.ready)
            yield discovery, changes
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _ask(discovery: Discovery, address: str) -> Target:
    answer: asyncio.Future[Target | None] = asyncio.get_running_loop().create_future()
    discovery.lookup(address, answer.set_result)
    found = await answer
    assert found is not None
    return found


def _condition(obj: Object) -> Object:
    conditions: list[Object] = (obj.get("status") or {}).get("conditions") or [{}]
    return conditions[0]


async def _act(folder: Path, scene: Callable[[Role], Awaitable[None]]) -> None:
    async with installed(folder) as role:
        await scene(role)


def test_a_split_takes_effect_in_a_proxy_and_its_verdict_in_its_status(tmp_path: Path) -> None:
    async def scene(role: Role) -> None:
        async with joined(role) as (discovery, changes):
            before = await _ask(discovery, role.address)
            (split,) = load(SPLIT)

            await role.admin.create("trafficsplits.split.smi-spec.io", split)
            await changes.until(lambda: discovery.view.targets[role.address] is not before)

            async def has_verdict() -> bool:
                found = await role.admin.get("trafficsplits.split.smi-spec.io", "web", "shop")
                return bool(_condition(found))

            await role.until(has_verdict)
            found = await role.admin.get("trafficsplits.split.smi-spec.io", "web", "shop")
            rule = discovery.view.targets[role.address].rules[0]
            assert [backend.weight for backend in rule.backends] == [9, 1]
            assert _condition(found)["reason"] == found["status"]["verdict"] == "Partial"
            assert "no Service shop/nope" in _condition(found)["message"]
            assert _condition(found)["observedGeneration"] == found["metadata"]["generation"]

    asyncio.run(_act(tmp_path, scene))


def test_reports_come_back_to_a_viewer_and_to_nobody_else(tmp_path: Path) -> None:
    async def scene(role: Role) -> None:
        async with joined(role) as (discovery, _):
            series = Series(SeriesKey("inbound", "http"), Counts(requests=7, born=1.0))
            discovery.send_report(Report("life", 2.0, (series,), bundle_hash="x"))
            await _ask(discovery, role.address)
            good = await role.admin.create_token(
                labels.VIEWER, "mesh", audiences=[labels.DESTINATION_AUDIENCE]
            )
            wrong = await role.admin.create_token(labels.VIEWER, "mesh", audiences=["other"])
            other = await role.admin.create_token(
                "web", "shop", audiences=[labels.DESTINATION_AUDIENCE]
            )

            status, body = await role.get("/v1/reports?window=30", good)
            _, proxies = await role.get("/v1/proxies", good)

            answer = msgspec.json.decode(body, type=ReportsAnswer)
            assert status == 200
            assert [(r.pod, r.series[0].counts.requests) for r in answer.reports] == [("web-1", 7)]
            assert [
                (proxy.pod, proxy.bundle_hash)
                for proxy in msgspec.json.decode(proxies, type=ProxiesAnswer).proxies
            ] == [("web-1", hash_bundle(role.chain.bundle))]
            refused = [await role.get("/v1/reports", token) for token in ("", wrong, other, "x")]
            assert [code for code, _ in refused] == [401, 403, 403, 403]
            assert (await role.get("/v1/reports?window=9999", good))[0] == 400
            discovery.on_ask(lambda what, query, reply: reply(what))
            status, asked = await role.get("/v1/ask?what=view&namespace=shop&pod=web-1", good)
            told = msgspec.json.decode(asked, type=AskedAnswer).answers
            assert (status, [(one.pod, one.body) for one in told]) == (200, [("web-1", "view")])
            assert (await role.get("/v1/ask?what=view", wrong))[0] == 403
            assert (await role.get("/v1/ask", good))[0] == 400

    asyncio.run(_act(tmp_path, scene))


def test_asked_to_end_it_sends_proxies_away_and_gives_up_the_lease(tmp_path: Path) -> None:
    async def scene(role: Role) -> None:
        async with joined(role) as (discovery, _):

            async def is_leased() -> bool:
                leases = await role.admin.list("leases.coordination.k8s.io", "mesh")
                return [lease["spec"]["holderIdentity"] for lease in leases] == [
                    "mesh-destination-0"
                ]

            await role.until(is_leased)
            role.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(START_SECONDS):
                code = await role.process.wait()

            (lease,) = await role.admin.list("leases.coordination.k8s.io", "mesh")
            assert code == 0, await role.errors()
            assert lease["spec"]["holderIdentity"] == ""
            assert discovery.ready

    asyncio.run(_act(tmp_path, scene))


def test_a_wrong_setting_ends_the_start_with_all_that_is_wrong() -> None:
    env = {"PATH": os.environ["PATH"], "MESH_DESTINATION_PORT": "x", "MESH_LOG_LEVEL": "loud"}

    done = subprocess.run(
        [sys.executable, "-m", "destination"], env=env, capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert "MESH_DESTINATION_PORT" in done.stderr
    assert "MESH_LOG_LEVEL" in done.stderr
    assert "Traceback" not in done.stderr
