"""The store: revisions, conflicts, finalizers, grace periods and watches."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mesh.core.errors import ApiError
from mesh.local.api import store as stores
from mesh.local.api.store import Store, Watch


def config(name: str = "a", **more: Any) -> dict[str, Any]:
    return {"kind": "ConfigMap", "metadata": {"name": name, "namespace": "n", **more}}


def pod(name: str = "a", node: str = "node") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "n"}, "spec": {"nodeName": node}}


def drained(watch: Watch) -> list[tuple[str, str]]:
    found = []
    while (change := watch.take()) is not None:
        found.append((change[0], change[1]["metadata"]["name"]))
    return found


def test_what_is_given_and_taken_is_a_copy() -> None:
    store = Store()
    mine = config(labels={"a": "1"})

    made = store.create("configmaps", mine)
    mine["metadata"]["labels"]["a"] = "2"
    made["metadata"]["labels"]["a"] = "3"

    assert store.get("configmaps", "n", "a")["metadata"]["labels"] == {"a": "1"}


def test_a_second_object_of_a_name_is_refused() -> None:
    store = Store()
    store.create("configmaps", config())

    with pytest.raises(ApiError) as refused:
        store.create("configmaps", config())

    assert (refused.value.code, refused.value.reason) == (409, "AlreadyExists")


def test_a_stale_update_is_a_conflict_and_one_without_revision_is_not() -> None:
    store = Store()
    old = store.create("configmaps", config())
    store.update("configmaps", {**old, "data": {"a": "1"}})

    with pytest.raises(ApiError) as refused:
        store.update("configmaps", {**old, "data": {"a": "2"}})
    assert (refused.value.code, refused.value.reason) == (409, "Conflict")

    assert store.update("configmaps", {**config(), "data": {"a": "3"}})["data"] == {"a": "3"}


def test_an_update_that_changes_nothing_writes_nothing() -> None:
    store = Store()
    old = store.create("configmaps", config())

    assert store.update("configmaps", old) == old
    assert store.revision == int(old["metadata"]["resourceVersion"])


def test_generation_counts_changes_of_the_desired_state_only() -> None:
    store = Store()
    made = store.create(
        "deployments.apps", {"metadata": {"name": "d", "namespace": "n"}, "spec": {"replicas": 1}}
    )
    made["metadata"]["labels"] = {"a": "1"}
    labelled = store.update("deployments.apps", made)
    labelled["spec"]["replicas"] = 2
    scaled = store.update("deployments.apps", labelled)
    ready = store.update("deployments.apps", {**scaled, "status": {"r": 1}}, subresource="status")

    found = [x["metadata"]["generation"] for x in (made, labelled, scaled, ready)]
    assert found == [1, 1, 2, 2]


def test_status_is_written_by_its_own_subresource_only() -> None:
    store = Store()
    made = store.create("pods", pod())

    plain = store.update("pods", {**made, "status": {"phase": "Running"}})
    ready = store.update(
        "pods",
        {**plain, "spec": {"nodeName": "other"}, "status": {"phase": "Running"}},
        subresource="status",
    )

    assert "status" not in plain
    assert (ready["status"], ready["spec"]) == ({"phase": "Running"}, {"nodeName": "node"})


def test_a_finalizer_holds_an_object_until_it_is_removed() -> None:
    store = Store(clock=lambda: 0.0)
    store.create("configmaps", config(finalizers=["x/y"]))

    marked = store.delete("configmaps", "n", "a")
    marked["metadata"]["finalizers"] = []
    store.update("configmaps", marked)

    assert marked["metadata"]["deletionTimestamp"] == "1970-01-01T00:00:00Z"
    assert store.find("configmaps", "n", "a") is None


def test_a_pod_on_a_node_gets_its_grace_and_the_kubelet_removes_it() -> None:
    store = Store(clock=lambda: 0.0)
    store.create("pods", pod())

    first = store.delete("pods", "n", "a")
    again = store.delete("pods", "n", "a", grace=60)
    shorter = store.delete("pods", "n", "a", grace=5)
    store.finalize_delete("pods", "n", "a")

    assert first["metadata"]["deletionGracePeriodSeconds"] == 30
    assert again == first
    assert shorter["metadata"]["deletionTimestamp"] == "1970-01-01T00:00:05Z"
    assert store.find("pods", "n", "a") is None


@pytest.mark.parametrize(
    ("node", "phase", "grace"), [("", "Pending", None), ("x", "Failed", None), ("x", "Running", 0)]
)
def test_a_pod_that_nobody_runs_goes_at_once(node: str, phase: str, grace: int | None) -> None:
    store = Store()
    store.create("pods", pod(node=node))
    store.update("pods", {**pod(node=node), "status": {"phase": phase}}, subresource="status")

    store.delete("pods", "n", "a", grace=grace)

    assert store.find("pods", "n", "a") is None


def test_a_delete_of_another_incarnation_is_a_conflict() -> None:
    store = Store()
    store.create("configmaps", config())

    with pytest.raises(ApiError) as refused:
        store.delete("configmaps", "n", "a", uid="other")

    assert refused.value.code == 409


def test_a_list_is_selected_and_in_order() -> None:
    store = Store()
    for name in ("b", "a", "c"):
        store.create("configmaps", config(name, labels={"is": name}))

    assert [x["metadata"]["name"] for x in store.list("configmaps", "n", labels="is!=c")] == [
        "a",
        "b",
    ]
    assert store.list("configmaps", "other") == []
    assert len(store.list("configmaps", fields="metadata.name=a")) == 1


async def _watches() -> tuple[list[Any], list[Any], list[Any]]:
    store = Store()
    first = store.create("configmaps", config("a"))
    everything = store.watch("configmaps")
    since = store.watch("configmaps", since=int(first["metadata"]["resourceVersion"]))
    selected = store.watch("configmaps", labels="in=yes")
    store.create("configmaps", config("b", labels={"in": "yes"}))
    store.create("secrets", config("s"))
    store.update("configmaps", config("b", labels={"in": "no"}))
    store.update("configmaps", config("a", labels={"in": "yes"}))
    store.delete("configmaps", "n", "a")
    return drained(everything), drained(since), drained(selected)


def test_watches_begin_where_they_are_asked_to_and_follow_their_selector() -> None:
    everything, since, selected = asyncio.run(_watches())

    later = [("ADDED", "b"), ("MODIFIED", "b"), ("MODIFIED", "a"), ("DELETED", "a")]
    assert everything == [("ADDED", "a"), *later]
    assert since == later
    assert selected == [("ADDED", "b"), ("DELETED", "b"), ("ADDED", "a"), ("DELETED", "a")]


def test_a_watch_from_too_long_ago_is_told_to_list_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "HISTORY", 3)
    store = Store()
    for name in "abcdef":
        store.create("configmaps", config(name))

    async def watch(since: int) -> list[tuple[str, str]]:
        return drained(store.watch("configmaps", since=since))

    with pytest.raises(ApiError) as refused:
        asyncio.run(watch(2))
    assert (refused.value.code, refused.value.reason) == (410, "Expired")
    assert asyncio.run(watch(store.revision - 3)) == [("ADDED", x) for x in "def"]


def test_a_watch_that_lags_too_far_behind_ends_with_410(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "BACKLOG", 2)
    store = Store()

    async def lag() -> list[str]:
        watch = store.watch("configmaps")
        for name in "abc":
            store.create("configmaps", config(name))
        return [obj["metadata"]["name"] async for _, obj in watch]

    with pytest.raises(ApiError) as refused:
        asyncio.run(lag())
    assert refused.value.code == 410


def test_closing_a_watch_ends_its_iteration() -> None:
    async def close() -> list[Any]:
        store = Store()
        store.create("configmaps", config())
        async with store.watch("configmaps") as watch:
            asyncio.get_running_loop().call_soon(watch.close)
            return [type_ async for type_, _ in watch]

    assert asyncio.run(close()) == ["ADDED"]
