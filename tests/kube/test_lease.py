"""One holder among replicas, on an API server of one object."""

from __future__ import annotations

import asyncio
from typing import Any

from mesh.core.errors import ApiError
from mesh.kube.lease import Lease


class OneLease:
    """As much of an API as a lease needs, with optimistic locking."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.broken = False

    async def get(self, resource: str, name: str, namespace: str) -> dict[str, Any]:
        self._check()
        if self.lease is None:
            raise ApiError(404, "NotFound", "none")
        return {key: dict(value) for key, value in self.lease.items() if isinstance(value, dict)}

    async def create(self, resource: str, obj: dict[str, Any]) -> dict[str, Any]:
        self._check()
        if self.lease is not None:
            raise ApiError(409, "AlreadyExists", "there")
        return self._store(obj)

    async def replace(self, resource: str, obj: dict[str, Any]) -> dict[str, Any]:
        self._check()
        assert self.lease is not None
        if obj["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", "changed")
        return self._store(obj)

    def _check(self) -> None:
        if self.broken:
            raise ApiError(0, "Unreachable", "away")

    def _store(self, obj: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        meta = obj["metadata"] | {"resourceVersion": str(self.version)}
        self.lease = {"metadata": meta, "spec": dict(obj["spec"])}
        return self.lease


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _lease(api: OneLease, holder: str, clock: Clock) -> Lease:
    return Lease(api, namespace="mesh", name="l", holder=holder, clock=clock)  # type: ignore[arg-type]


def _try(lease: Lease) -> bool:
    async def act() -> None:
        try:
            await lease._try_once()
        except ApiError:
            return

    asyncio.run(act())
    return lease.is_held


def test_the_first_to_come_holds_it_and_the_second_waits() -> None:
    api, clock = OneLease(), Clock()
    one, two = _lease(api, "one", clock), _lease(api, "two", clock)

    assert _try(one)
    assert not _try(two)
    assert api.lease is not None
    assert api.lease["spec"]["holderIdentity"] == "one"


def test_a_holder_that_renews_keeps_it() -> None:
    api, clock = OneLease(), Clock()
    one, two = _lease(api, "one", clock), _lease(api, "two", clock)

    for step in range(20):
        clock.now = step * 3.0
        assert _try(one)
        assert not _try(two)


def test_a_holder_that_is_gone_loses_it_after_its_duration() -> None:
    api, clock = OneLease(), Clock()
    one, two = _lease(api, "one", clock), _lease(api, "two", clock)
    _try(one)
    _try(two)

    clock.now = 14.9
    assert not _try(two)
    clock.now = 15.1

    assert _try(two)
    assert api.lease is not None
    assert api.lease["spec"]["leaseTransitions"] == 1


def test_a_holder_gives_itself_up_before_another_may_take_over() -> None:
    api, clock = OneLease(), Clock()
    one = _lease(api, "one", clock)
    _try(one)
    api.broken = True

    clock.now = 10.0
    _try(one)

    assert not one.is_held


def test_a_released_lease_is_free_at_once() -> None:
    api, clock = OneLease(), Clock()
    one, two = _lease(api, "one", clock), _lease(api, "two", clock)
    _try(one)

    asyncio.run(one.release())

    assert not one.is_held
    assert _try(two)


def test_of_two_that_write_at_once_one_wins() -> None:
    api, clock = OneLease(), Clock()
    one, two = _lease(api, "one", clock), _lease(api, "two", clock)
    _try(one)
    clock.now = 100.0
    _try(two)  # has now seen the version

    clock.now = 120.0

    async def both() -> None:
        await asyncio.gather(one._try_once(), two._try_once(), return_exceptions=True)

    asyncio.run(both())
    assert [one.is_held, two.is_held].count(True) == 1


def test_taking_it_wakes_who_waits_for_it() -> None:
    async def act() -> bool:
        api = OneLease()
        lease = Lease(api, namespace="mesh", name="l", holder="one", duration=0.5)  # type: ignore[arg-type]
        task = asyncio.create_task(lease.run())
        async with asyncio.timeout(10):
            await lease.taken()
        held = lease.is_held
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return held

    assert asyncio.run(act())
