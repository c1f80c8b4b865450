"""The controllers over a real store, without a node: a kubelet that says yes to everything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mesh.core.errors import ApiError
from mesh.local.api import bootstrap
from mesh.local.api.addresses import ClusterIPs
from mesh.local.api.server import Api
from mesh.local.api.store import Store
from mesh.local.controllers.deployments import Deployments
from mesh.local.controllers.endpoints import Endpoints
from mesh.local.controllers.garbage import Garbage
from mesh.local.controllers.replicasets import ReplicaSets
from mesh.local.node.events import Recorder

DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "v1", "command": ["run"]}]},
        },
    },
}


async def say_yes(store: Store) -> None:
    """Every pod is bound, running and ready at once, and gone when deleted."""
    number = 0
    async for type_, pod in store.watch("pods"):
        meta = pod["metadata"]
        if type_ == "DELETED":
            continue
        if "deletionTimestamp" in meta:
            store.finalize_delete("pods", meta["namespace"], meta["name"])
        elif not pod["spec"].get("nodeName"):
            pod["spec"]["nodeName"] = "n"
            store.update("pods", pod)
        elif "podIP" not in (pod.get("status") or {}):
            number += 1
            ready = {
                "type": "Ready",
                "status": "True",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
            address = f"10.1.0.{number}"
            pod["status"] = {
                "phase": "Running",
                "podIP": address,
                "podIPs": [{"ip": address}],
                "conditions": [ready],
            }
            store.update("pods", pod, subresource="status")


@asynccontextmanager
async def controllers(tmp_path: Path) -> AsyncIterator[Api]:
    """An Api with all controllers running over it."""
    store = Store()
    ranges = ClusterIPs(["10.96.0.0/16"])
    api = Api(store, cluster_ips=ranges, logs=tmp_path, ca="pem")
    bootstrap.ensure(store, ranges)
    recorder = Recorder(store, "test")
    parts = [
        Deployments(api, recorder).run(),
        ReplicaSets(api, recorder).run(),
        Endpoints(api, "z").run(),
        Garbage(api).run(),
        say_yes(store),
    ]
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        yield api
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(api: Api, probe: Callable[[], Any]) -> Any:
    """The first true value of `probe`, looked at after each change of the store."""
    changed = asyncio.Event()
    api.store.listen(lambda _: changed.set())
    async with asyncio.timeout(10):
        while not (value := probe()):
            await changed.wait()
            changed.clear()
        return value


def available(api: Api) -> bool:
    found = api.store.find("deployments.apps", "default", "web")
    status = (found or {}).get("status") or {}
    return (
        status.get("observedGeneration") == (found or {})["metadata"]["generation"]
        and status.get("availableReplicas") == status.get("updatedReplicas") == 2
        and status.get("replicas") == 2
    )


def play(story: Callable[[Api], Any], tmp_path: Path) -> None:
    async def run() -> None:
        async with controllers(tmp_path) as api:
            await api.create("deployments.apps", DEPLOYMENT)
            await until(api, lambda: available(api))
            await story(api)

    asyncio.run(run())


def test_a_new_image_replaces_every_pod_and_undo_brings_the_old_set_back(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        first = {pod["metadata"]["uid"] for pod in api.store.scan("pods")}
        (old,) = api.store.list("replicasets.apps", "default")
        change = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "v2"}]}}}}
        await api.patch("deployments.apps", "default", "web", change, how="strategic")
        await until(api, lambda: available(api))
        assert first.isdisjoint({pod["metadata"]["uid"] for pod in api.store.scan("pods")})

        back = {"spec": {"template": old["spec"]["template"]}}
        back["spec"]["template"]["metadata"]["labels"].pop("pod-template-hash")
        await api.patch("deployments.apps", "default", "web", back, how="strategic")
        await until(api, lambda: available(api))

        name = old["metadata"]["name"]
        again = api.store.get("replicasets.apps", "default", name)
        assert again["status"]["replicas"] == 2
        assert again["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"
        assert len(api.store.list("replicasets.apps", "default")) == 2

    play(story, tmp_path)


def test_a_deleted_pod_is_replaced(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        victim = next(api.store.scan("pods"))["metadata"]
        await api.delete("pods", "default", victim["name"])

        def replaced() -> bool:
            uids = {pod["metadata"]["uid"] for pod in api.store.scan("pods")}
            return len(uids) == 2 and victim["uid"] not in uids

        await until(api, replaced)

    play(story, tmp_path)


def test_deleting_the_deployment_deletes_all_that_it_owns(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        await api.delete("deployments.apps", "default", "web")

        await until(
            api, lambda: not api.store.list("replicasets.apps") and not api.store.list("pods")
        )

    play(story, tmp_path)


def test_orphaned_pods_stay(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        await api.delete("deployments.apps", "default", "web", orphan=True)

        (left,) = api.store.list("replicasets.apps")
        assert not left["metadata"].get("ownerReferences")
        await asyncio.sleep(0)
        assert len(api.store.list("pods")) == 2

    play(story, tmp_path)


def test_a_foreground_deletion_waits_for_the_dependents(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        found = api.store.get("deployments.apps", "default", "web")
        found["metadata"]["finalizers"] = ["foregroundDeletion"]
        api.store.update("deployments.apps", found)
        seen: list[str] = []
        api.store.listen(
            lambda change: seen.append(change.resource) if change.type == "DELETED" else None
        )

        await api.delete("deployments.apps", "default", "web")
        await until(api, lambda: api.store.find("deployments.apps", "default", "web") is None)

        assert not api.store.list("pods")
        order = [name for name in seen if name in ("pods", "replicasets.apps", "deployments.apps")]
        assert order == ["pods", "pods", "replicasets.apps", "deployments.apps"]

    play(story, tmp_path)


def test_a_service_gets_endpoints_and_loses_them(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        service = {
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
        }
        await api.create("services", service)

        def count() -> int:
            for item in api.store.scan("endpointslices.discovery.k8s.io", "default"):
                if item["metadata"]["name"].startswith("web-"):
                    return len(item["endpoints"])
            return -1

        await until(api, lambda: count() == 2)
        await api.patch("deployments.apps", "default", "web", {"spec": {"replicas": 0}})
        await until(api, lambda: count() == 0)
        await api.delete("services", "default", "web")
        await until(api, lambda: count() == -1)

    play(story, tmp_path)


def test_a_refused_pod_is_told_and_tried_again(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        broken = {**DEPLOYMENT, "metadata": {"name": "broken", "namespace": "default"}}
        broken["spec"] = {
            **DEPLOYMENT["spec"],
            "selector": {"matchLabels": {"app": "broken"}},
            "template": {
                "metadata": {"labels": {"app": "broken"}},
                "spec": {
                    "serviceAccountName": "late",
                    "containers": [{"name": "c", "image": "v1", "command": ["run"]}],
                },
            },
        }
        await api.create("deployments.apps", broken)
        await until(
            api,
            lambda: [
                event for event in api.store.list("events") if event["reason"] == "FailedCreate"
            ],
        )
        account = {"metadata": {"name": "late", "namespace": "default"}}
        await api.create("serviceaccounts", account)

        await until(api, lambda: len(api.store.list("pods", labels="app=broken")) == 2)

    play(story, tmp_path)


def test_a_namespace_ends_although_its_pods_leave_later(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        recorder = Recorder(api.store, "test")
        name = {"metadata": {"name": "shop"}}
        await api.create("namespaces", name)
        spec = {"nodeName": "n", "containers": [{"name": "c", "image": "v1", "command": ["run"]}]}
        held = {"metadata": {"name": "p", "namespace": "shop", "finalizers": ["x.io/hold"]}}
        pod = await api.create("pods", {**held, "spec": spec})
        await until(api, lambda: "podIP" in api.store.get("pods", "shop", "p")["status"])
        await api.delete("namespaces", None, "shop")

        recorder.event(pod, "Killing", "Stopping container c")
        found = api.store.get("pods", "shop", "p")
        found["metadata"]["finalizers"] = []
        api.store.update("pods", found)

        await until(api, lambda: api.store.find("namespaces", None, "shop") is None)

    play(story, tmp_path)


def test_events_are_counted_not_repeated() -> None:
    store = Store()
    recorder = Recorder(store, "test")
    pod = store.create(
        "pods", {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"}}
    )

    for _ in range(3):
        recorder.event(pod, "BackOff", "again", warning=True)
    recorder.event(pod, "Started", "once")

    found = {event["reason"]: event["count"] for event in store.list("events")}
    assert found == {"BackOff": 3, "Started": 1}


def test_a_journal_that_cannot_be_written_does_not_raise_from_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store()
    pod = {"metadata": {"name": "p", "namespace": "n", "uid": "u"}}

    def full(*_: Any) -> Any:
        raise ApiError(507, "InsufficientStorage", "the disk is full")

    monkeypatch.setattr(store, "create", full)

    Recorder(store, "test").event(pod, "Started", "lost")
