"""Watches, snapshots and verdicts together, on the embedded API server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from destination.endpoints import Cluster
from destination.live import LiveCluster
from destination.metrics import Metrics
from destination.snapshot import Snapshot
from destination.status_writer import StatusWriter
from destination.store import Store
from mesh.core.labels import CONTROLLER
from mesh.install.crds import smi_crds
from mesh.install.gateway_crds import gateway_crds
from mesh.kube.client import KubeClient
from mesh.kube.lease import Lease
from mesh.kube.watch import WatchTiming
from tests.destination.world import Object, load, service
from tests.support.embedded_api import embedded_api

TIMING = WatchTiming(absent=0.02, backoff_first=0.01, backoff_last=0.05)
(SPLIT,) = load("""
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: web, namespace: shop}
spec: {service: web, backends: [{service: web, weight: 1}]}
""")


class Scene:
    """A live cluster with its status writer; `until` waits for a snapshot, `seek` for the API."""

    def __init__(self, admin: KubeClient) -> None:
        self.admin = admin
        self.live = LiveCluster(
            admin, Store(), Cluster(), Metrics(CollectorRegistry()), timing=TIMING
        )
        self.lease = Lease(admin, namespace="mesh", name="l", holder="me")
        self.writer = StatusWriter(admin, self.live, self.lease)
        self._news = asyncio.Event()
        self.live.on_snapshot(lambda _, reach: self.writer.changed(reach.objects))
        self.live.on_snapshot(lambda *_: self._news.set())

    async def until(self, holds: Callable[[Snapshot], bool]) -> None:
        while not holds(self.live.snapshot):
            self._news.clear()
            await self._news.wait()

    async def seek(self, find: Callable[[], Awaitable[list[Object]]]) -> list[Object]:
        """What `find` gives once it gives something; the API has no Event to wait for."""
        while not (found := await find()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return found

    async def events(self) -> list[Object]:
        found = await self.admin.list("events", "shop")
        return [item for item in found if item["source"]["component"] == "mesh-destination"]


@contextlib.asynccontextmanager
async def _scene(folder: Path, *objects: Object) -> AsyncIterator[Scene]:
    spaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": n}} for n in _SPACES]
    async with embedded_api(folder) as cluster, asyncio.timeout(30):
        await cluster.apply(*spaces, *objects)
        scene = Scene(cluster.admin)
        runs = (scene.live.run(), scene.lease.run(), scene.writer.run())
        tasks = [asyncio.create_task(run) for run in runs]
        try:
            await scene.live.wait_until_synced()
            yield scene
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


GATEWAY = "gateway.networking.k8s.io"
_SPACES = ("shop", "mesh")


def _web(**annotations: str) -> Object:
    web = service("web", annotations=annotations)
    web["spec"] = {"ports": web["spec"]["ports"]}
    return web


def _verdicts(snapshot: Snapshot) -> dict[str, str]:
    return {ref.resource: found.verdict.value for ref, found in snapshot.outcomes.items()}


def test_kinds_that_come_later_are_found(tmp_path: Path) -> None:
    async def act() -> None:
        async with _scene(tmp_path, _web()) as scene:
            assert _verdicts(scene.live.snapshot) == {}

            for crd in smi_crds():
                await scene.admin.create("customresourcedefinitions.apiextensions.k8s.io", crd)
            await scene.admin.create("trafficsplits.split.smi-spec.io", SPLIT)
            await scene.until(
                lambda s: _verdicts(s) == {"trafficsplits.split.smi-spec.io": "Effective"}
            )

    asyncio.run(act())


def test_kinds_that_go_take_their_effect_with_them(tmp_path: Path) -> None:
    async def act() -> None:
        async with _scene(tmp_path, *smi_crds(), _web(), SPLIT) as scene:
            await scene.until(lambda s: bool(_verdicts(s)))

            await scene.admin.delete("trafficsplits.split.smi-spec.io", "web", "shop")
            await scene.until(lambda s: not _verdicts(s))

    asyncio.run(act())


@pytest.mark.parametrize("versions", [["v1alpha1"], ["v1alpha1", "v1alpha2"]])
def test_a_foreign_crd_without_status_gets_its_verdicts_as_events(
    tmp_path: Path, versions: list[str]
) -> None:
    crd, _ = smi_crds()
    spec = crd["spec"]
    spec["versions"] = [
        {key: value for key, value in version.items() if key != "subresources"}
        | {"storage": version["name"] == "v1alpha1"}
        for version in spec["versions"]
        if version["name"] in versions
    ]
    split = SPLIT | {"apiVersion": "split.smi-spec.io/v1alpha1"}

    async def act() -> None:
        async with _scene(tmp_path, crd, _web(), split) as scene:
            (event,) = await scene.seek(scene.events)

            assert event["reason"] == "Effective"
            assert event["involvedObject"]["kind"] == "TrafficSplit"
            assert event["message"] == "acts on Service shop/web"

    asyncio.run(act())


def test_an_annotation_that_means_nothing_is_an_event_on_its_service_once(tmp_path: Path) -> None:
    async def act() -> None:
        async with _scene(tmp_path, _web(**{"mesh/opaque-port": "80"})) as scene:
            (event,) = await scene.seek(scene.events)
            before = scene.live.snapshot.version
            labels = {"metadata": {"labels": {"x": "y"}}}
            await scene.admin.patch("services", "web", labels, namespace="shop")
            await scene.admin.create("services", _web() | {"metadata": _meta("other")})
            await scene.until(lambda s: s.version > before)

            assert "did you mean mesh/opaque-ports?" in event["message"]
            web = await scene.admin.get("services", "web", "shop")
            assert event["involvedObject"]["uid"] == web["metadata"]["uid"]
            assert len(await scene.events()) == 1

    asyncio.run(act())


def test_a_status_that_somebody_overwrites_is_written_again(tmp_path: Path) -> None:
    async def act() -> None:
        async with _scene(tmp_path, *smi_crds(), _web(), SPLIT) as scene:
            name = "trafficsplits.split.smi-spec.io"

            async def verdicts() -> list[Object]:
                found = await scene.admin.get(name, "web", "shop")
                status = found.get("status") or {}
                return [status] if status.get("verdict") == "Effective" else []

            await scene.seek(verdicts)
            broken = {"status": {"verdict": "Fine", "conditions": []}}
            await scene.admin.patch(name, "web", broken, namespace="shop", subresource="status")
            (status,) = await scene.seek(verdicts)

            assert status["conditions"][0]["type"] == "Effective"

    asyncio.run(act())


def test_a_route_gets_its_status_beside_those_of_others(tmp_path: Path) -> None:
    (route,) = load("""
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: web}]
  rules: [{backendRefs: [{name: gone, port: 80}]}]
""")
    other = {"parentRef": {"name": "g"}, "controllerName": "example.com/other", "conditions": []}
    name = "httproutes.gateway.networking.k8s.io"

    async def act() -> None:
        async with _scene(tmp_path, *gateway_crds(), _web(), route) as scene:

            async def parents() -> list[Object]:
                found = await scene.admin.get(name, "web", "shop")
                entries = (found.get("status") or {}).get("parents") or []
                return entries if entries and entries[-1]["controllerName"] == CONTROLLER else []

            (mine,) = await scene.seek(parents)
            status = {"status": {"parents": [other]}}
            await scene.admin.patch(name, "web", status, namespace="shop", subresource="status")
            theirs, again = await scene.seek(parents)

            assert theirs["controllerName"] == "example.com/other"
            assert again["parentRef"] == mine["parentRef"]
            assert {item["type"]: item["reason"] for item in mine["conditions"]} == {
                "Accepted": "Accepted",
                "ResolvedRefs": "BackendNotFound",
                "Effective": "Partial",
                "Verdict": "Partial",
            }

    asyncio.run(act())


def test_kinds_of_other_controllers_get_events_and_a_udp_route_its_status(tmp_path: Path) -> None:
    definitions = [
        _defined("policy.linkerd.io", "v1beta3", "Server"),
        _defined(GATEWAY, "v1alpha2", "UDPRoute"),
    ]
    server, route = load("""
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: web, namespace: shop}
spec: {port: 80}
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: UDPRoute
metadata: {name: web, namespace: shop}
spec: {parentRefs: [{group: "", kind: Service, name: web}]}
""")

    async def act() -> None:
        async with _scene(tmp_path, *definitions, _web(), server, route) as scene:

            async def verdict() -> list[Object]:
                found = await scene.admin.get(f"udproutes.{GATEWAY}", "web", "shop")
                entries = (found.get("status") or {}).get("parents") or []
                return [item for entry in entries for item in entry["conditions"]]

            (event,) = await scene.seek(scene.events)
            conditions = await scene.seek(verdict)

            assert (event["reason"], event["involvedObject"]["kind"]) == ("Rejected", "Server")
            assert "nothing here is allowed or denied by it" in event["message"]
            assert "status" not in await scene.admin.get("servers.policy.linkerd.io", "web", "shop")
            assert {item["type"]: item["reason"] for item in conditions} == {
                "Accepted": "UnsupportedValue",
                "ResolvedRefs": "ResolvedRefs",
                "Effective": "Rejected",
                "Verdict": "Rejected",
            }

    asyncio.run(act())


def test_without_the_lease_nothing_is_written(tmp_path: Path) -> None:
    other = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"namespace": "mesh", "name": "l"},
        "spec": {"holderIdentity": "another", "leaseDurationSeconds": 3600},
    }

    async def act() -> None:
        async with _scene(tmp_path, other, *smi_crds(), _web(), SPLIT) as scene:
            await scene.until(lambda s: bool(_verdicts(s)))
            found = await scene.admin.get("trafficsplits.split.smi-spec.io", "web", "shop")

            assert "status" not in found
            assert scene.writer.written == 0

    asyncio.run(act())


def _defined(group: str, served: str, kind: str) -> Object:
    """A definition with any content, and a status."""
    plural = f"{kind.lower()}s"
    version = {
        "name": served,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {
            "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural},
            "versions": [version],
        },
    }


def _meta(name: str) -> Object:
    return {"namespace": "shop", "name": name}
