"""`mesh.kube`'s watch against a real API server: what is missed is found again, nothing twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from mesh.core.errors import ApiError
from mesh.kube.client import KubeClient
from mesh.kube.config import find_access
from mesh.kube.resources import Resource, find_resource
from mesh.kube.watch import Batch, Watch, WatchTiming
from tests.cluster.etcd import compact
from tests.cluster.forward import Wire, wire_to
from tests.cluster.server import ApiServer, running_api_server

pytestmark = [pytest.mark.cluster, pytest.mark.anyio]

QUICK = WatchTiming(segment=3.0, grace=1.0, backoff_first=0.01, backoff_last=0.1, absent=0.1)
BOATS = Resource("watch.lightmesh.io", "v1", "boats", "Boat")


@pytest.fixture(scope="module")
def uncached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server that asks etcd for each watch, so that compaction shows at once."""
    folder = tmp_path_factory.mktemp("uncached") / "server"
    with running_api_server(folder, watch_cache="false") as server:
        yield server


@dataclass
class Scene:
    """A watch behind a wire, and a client that is not."""

    server: ApiServer
    direct: KubeClient
    wire: Wire
    watch: Watch
    batches: AsyncIterator[Batch]

    async def changes(self) -> list[tuple[str, bool]]:
        async with asyncio.timeout(30):
            batch = await anext(self.batches)
        return [(obj["metadata"]["name"], deleted) for obj, deleted in batch.changes]

    async def create(self, name: str) -> None:
        await self.direct.create("configmaps", _named(name))

    async def delete(self, name: str) -> None:
        await self.direct.delete("configmaps", name, "default")


@contextlib.asynccontextmanager
async def scene(server: ApiServer, resource: Resource, **options: Any) -> AsyncIterator[Scene]:
    async with (
        wire_to(server.port) as wire,
        KubeClient(find_access(str(server.admin))) as direct,
        KubeClient(find_access(_through(server, wire))) as client,
    ):
        watch = Watch(client, resource, "default", timing=QUICK, **options)
        async with contextlib.aclosing(watch.batches()) as batches:
            yield Scene(server, direct, wire, watch, batches)


def _through(server: ApiServer, wire: Wire) -> str:
    config = json.loads(server.admin.read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{wire.port}"
    path = server.folder / f"wire-{wire.port}.kubeconfig"
    path.write_text(json.dumps(config))
    return str(path)


def _named(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default", "labels": {"test": "watch"}}}


CONFIG_MAPS = find_resource("configmaps")
OURS = {"label_selector": "test=watch"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_history_that_was_compacted_is_made_up_by_a_relist(uncached: ApiServer) -> None:
    async with scene(uncached, CONFIG_MAPS, **OURS) as play:
        await play.create("old")
        assert await play.changes() == [("old", False)]

        play.wire.cut()
        await play.create("new")
        await play.delete("old")
        compact(uncached.etcd)
        play.wire.mend()

        assert sorted(await play.changes()) == [("new", False), ("old", True)]
        assert play.watch.stats.relists == 2
        await play.delete("new")
        assert await play.changes() == [("new", True)]


async def test_a_short_cut_is_resumed_without_a_relist(uncached: ApiServer) -> None:
    async with scene(uncached, CONFIG_MAPS, **OURS) as play:
        assert await play.changes() == []

        play.wire.cut()
        await play.create("meanwhile")
        play.wire.mend()

        assert await play.changes() == [("meanwhile", False)]
        assert play.watch.stats.relists == 1
        await play.delete("meanwhile")


async def test_a_frozen_stream_is_left_and_nothing_is_lost(uncached: ApiServer) -> None:
    async with scene(uncached, CONFIG_MAPS, **OURS) as play:
        assert await play.changes() == []

        play.wire.freeze()
        await play.create("unseen")
        wait = asyncio.ensure_future(play.changes())
        async with asyncio.timeout(20):
            while not play.watch.stats.frozen:  # noqa: ASYNC110  (counted by the watch itself)
                await asyncio.sleep(0.05)
        play.wire.mend()

        assert await wait == [("unseen", False)]
        await play.delete("unseen")


async def test_requests_end_by_themselves_and_are_resumed(uncached: ApiServer) -> None:
    async with scene(uncached, CONFIG_MAPS, **OURS) as play:
        assert await play.changes() == []
        wait = asyncio.ensure_future(play.changes())
        async with asyncio.timeout(20):
            while play.watch.stats.resumes < 3:  # noqa: ASYNC110  (each takes about 3 s)
                await asyncio.sleep(0.05)

        await play.create("later")

        assert await wait == [("later", False)]
        assert (play.watch.stats.relists, play.watch.stats.failures) == (1, 0)
        await play.delete("later")


async def test_a_kind_that_comes_later_is_found(uncached: ApiServer) -> None:
    async with scene(uncached, BOATS) as play:
        async with asyncio.timeout(10):
            assert (await anext(play.batches)).absent

        await play.direct.create(
            "customresourcedefinitions.apiextensions.k8s.io",
            {
                "metadata": {"name": "boats.watch.lightmesh.io"},
                "spec": {
                    "group": BOATS.group,
                    "scope": "Namespaced",
                    "names": {"plural": "boats", "kind": "Boat"},
                    "versions": [
                        {
                            "name": "v1",
                            "served": True,
                            "storage": True,
                            "schema": {"openAPIV3Schema": {"type": "object"}},
                        }
                    ],
                },
            },
        )
        await _create_boat(play, "skiff")

        assert await play.changes() == [("skiff", False)]


async def _create_boat(play: Scene, name: str) -> None:
    """As soon as the kind is served."""
    boat = {"apiVersion": BOATS.api_version, "kind": "Boat"}
    async with asyncio.timeout(20):
        while True:
            try:
                await play.direct.create(
                    BOATS, boat | {"metadata": {"name": name, "namespace": "default"}}
                )
                return
            except ApiError as error:
                if error.code != 404:
                    raise
            await asyncio.sleep(0.05)
