"""Watching: one stream of batches whatever happens to the requests behind it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest

from mesh.core.errors import ApiError
from mesh.kube.client import KubeClient
from mesh.kube.resources import find_resource
from mesh.kube.watch import Batch, Watch, WatchTiming
from tests.kube.scripted import Answer, Script, events, listing, pod, serving, status

QUICK = WatchTiming(segment=25.0, grace=3.0, backoff_first=0.001, backoff_last=0.01, absent=0.001)


async def _take(watch: Watch, count: int, into: list[Batch] | None = None) -> list[Batch]:
    taken: list[Batch] = [] if into is None else into
    async with contextlib.aclosing(watch.batches()) as batches:
        async for batch in batches:
            taken.append(batch)
            if len(taken) == count:
                break
    return taken


def _names(batch: Batch) -> list[tuple[str, bool]]:
    return [(obj["metadata"]["name"], deleted) for obj, deleted in batch.changes]


def _run(
    *answers: Answer, batches: int, timing: WatchTiming = QUICK, **options: Any
) -> tuple[list[Batch], Script, Watch]:
    async def act() -> tuple[list[Batch], Script, Watch]:
        async with serving(*answers) as (client, script):
            watch = _watch(client, timing, **options)
            async with asyncio.timeout(10):
                return await _take(watch, batches), script, watch

    return asyncio.run(act())


def _watch(client: KubeClient, timing: WatchTiming, **options: Any) -> Watch:
    return Watch(client, find_resource("pods"), timing=timing, **options)


def test_the_first_batch_is_the_whole_list_over_all_pages() -> None:
    taken, script, _ = _run(
        listing(pod("a", 1), version=7, token="next"), listing(pod("b", 2), version=7), batches=1
    )

    assert _names(taken[0]) == [("a", False), ("b", False)]
    assert taken[0].synced
    assert script.requests[1].query["continue"] == "next"


def test_an_empty_list_is_synced_too() -> None:
    taken, _, _ = _run(listing(version=1), batches=1)

    assert taken == [Batch((), synced=True)]


def test_changes_come_in_order_and_deletions_are_marked() -> None:
    taken, script, _ = _run(
        listing(pod("a", 1), version=7),
        events(("ADDED", pod("b", 8)), ("DELETED", pod("a", 9)), stay=True),
        batches=2,
    )

    assert _names(taken[1]) == [("b", False), ("a", True)]
    assert script.requests[1].query["resourceVersion"] == "7"
    assert script.requests[1].query["allowWatchBookmarks"] == "true"


def test_events_cut_anywhere_are_put_together() -> None:
    async def act() -> list[tuple[str, bool]]:
        lines = [("ADDED", pod(f"p{n}", 10 + n)) for n in range(5)]
        async with serving(listing(version=7), events(*lines, stay=True, size=7)) as (client, _):
            seen: list[tuple[str, bool]] = []
            async with contextlib.aclosing(_watch(client, QUICK).batches()) as batches:
                async for batch in batches:
                    seen += _names(batch)
                    if len(seen) == 5:
                        return seen
        return []

    assert asyncio.run(act()) == [(f"p{n}", False) for n in range(5)]


def test_a_closed_stream_is_resumed_at_the_version_of_its_last_bookmark() -> None:
    _, script, watch = _run(
        listing(version=7),
        events(("MODIFIED", pod("a", 8)), ("BOOKMARK", pod("", 20))),
        events(("MODIFIED", pod("a", 21)), stay=True),
        batches=3,
    )

    assert script.requests[2].query["resourceVersion"] == "20"
    assert watch.stats.relists == 1


@pytest.mark.parametrize(
    "gone",
    [
        status(410, "Expired", "too old resource version"),
        events(("ERROR", {"kind": "Status", "code": 410, "reason": "Expired"})),
    ],
    ids=["as a status", "as an event"],
)
def test_gone_is_answered_by_a_relist_that_yields_only_what_differs(gone: Answer) -> None:
    taken, _, watch = _run(
        listing(pod("same", 1), pod("old", 2), pod("changed", 3), version=7),
        gone,
        listing(pod("same", 1), pod("changed", 30), pod("new", 31), version=40),
        batches=2,
    )

    assert _names(taken[1]) == [("changed", False), ("new", False), ("old", True)]
    assert watch.stats.relists == 2


def test_a_frozen_stream_is_cut_and_resumed() -> None:
    timing = WatchTiming(segment=0.05, grace=0.05, backoff_first=0.001, backoff_last=0.01)

    taken, script, watch = _run(
        listing(version=7),
        events(("ADDED", pod("a", 8)), stay=True),
        events(("ADDED", pod("b", 9)), stay=True),
        batches=3,
        timing=timing,
    )

    assert _names(taken[2]) == [("b", False)]
    assert script.requests[2].query["resourceVersion"] == "8"
    assert watch.stats.frozen == 1


def test_silence_counts_as_frozen_within_thirty_seconds() -> None:
    timing = WatchTiming()

    assert timing.segment + timing.grace <= 30.0


def test_after_its_time_a_list_is_read_again() -> None:
    timing = WatchTiming(relist=0.0, backoff_first=0.001, backoff_last=0.01)

    taken, _, watch = _run(
        listing(pod("a", 1), version=7),
        events(("MODIFIED", pod("a", 8))),
        listing(pod("b", 9), version=10),
        batches=3,
        timing=timing,
    )

    assert _names(taken[2]) == [("b", False), ("a", True)]
    assert watch.stats.relists == 2


def test_refusals_are_waited_out() -> None:
    taken, _, watch = _run(
        status(500, "InternalError"),
        status(403, "Forbidden"),
        status(429, "TooManyRequests", Retry_After="0"),
        listing(pod("a", 1), version=7),
        batches=1,
    )

    assert _names(taken[0]) == [("a", False)]
    assert watch.stats.failures == 3


def test_that_a_kind_is_absent_is_a_word_of_the_server_too() -> None:
    """Else a destination whose cluster has no such kind any more would seem to be cut off."""
    _, _, watch = _run(status(404, "NotFound"), batches=1)
    before = watch.stats.last_contact

    asyncio.run(watch._wait_after(ApiError(404, "NotFound", "")))

    assert before < watch.stats.last_contact <= time.monotonic()


def test_a_kind_that_the_cluster_lacks_is_absent_and_synced_until_it_comes() -> None:
    taken, _, _ = _run(
        status(404, "NotFound"), status(404, "NotFound"), listing(pod("a", 1), version=7), batches=2
    )

    assert taken[0] == Batch((), synced=True, absent=True)
    assert _names(taken[1]) == [("a", False)]


def test_a_kind_that_goes_away_takes_its_objects_with_it() -> None:
    taken, _, _ = _run(listing(pod("a", 1), version=7), status(404, "NotFound"), batches=2)

    assert _names(taken[1]) == [("a", True)]
    assert taken[1].absent


def test_what_shrink_drops_is_never_held() -> None:
    taken, _, _ = _run(
        listing(pod("a", 1, managedFields=[{"x": 1}]), version=7),
        batches=1,
        shrink=lambda obj: {"metadata": {"name": obj["metadata"]["name"]}},
    )

    assert taken[0].changes == (({"metadata": {"name": "a"}}, False),)
