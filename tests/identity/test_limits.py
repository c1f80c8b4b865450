"""Buckets and turns."""

from __future__ import annotations

import asyncio

import pytest

from identity.limits import Buckets, FairGate
from mesh.core.errors import IdentityError

pytestmark = pytest.mark.anyio


def test_a_burst_passes_and_then_one_a_second() -> None:
    buckets = Buckets(rate=1.0, burst=5)

    assert [buckets.take("a", 0.0) for _ in range(5)] == [0.0] * 5
    assert buckets.take("a", 0.0) == 1.0
    assert buckets.take("a", 0.5) == 0.5
    assert buckets.take("a", 1.0) == 0.0
    assert buckets.take("b", 1.0) == 0.0


def test_waiting_costs_nothing() -> None:
    buckets = Buckets(rate=1.0, burst=1)

    assert buckets.wait("a", 0.0) == 0.0
    assert buckets.take("a", 0.0) == 0.0
    assert buckets.wait("a", 0.0) == 1.0
    assert buckets.take("a", 1.0) == 0.0


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    buckets = Buckets(rate=1.0, burst=1)
    buckets.take("a", 10.0)

    assert buckets.take("a", 5.0) == 1.0


def test_full_buckets_are_forgotten_and_their_number_is_limited() -> None:
    buckets = Buckets(rate=1.0, burst=1, most=100)

    for number in range(1000):
        buckets.take(number, 0.0)
    assert len(buckets) == 100
    buckets.take("later", 10.0)
    assert len(buckets) == 1


def gate(width: int = 1, waiting: int = 100, each: int = 100) -> FairGate:
    return FairGate(width=width, most_waiting=waiting, most_waiting_each=each)


async def test_accounts_take_turns_however_many_wait() -> None:
    turns: list[str] = []
    fair = gate()

    async def work(account: str) -> None:
        async with fair.turn(account):
            turns.append(account)

    async with asyncio.TaskGroup() as group, fair.turn("first"):
        for _ in range(50):
            group.create_task(work("many"))
        await asyncio.sleep(0)
        for _ in range(2):
            group.create_task(work("few"))
        await asyncio.sleep(0)
        assert fair.waiting == 52

    assert turns.index("few") == 1
    assert [i for i, account in enumerate(turns) if account == "few"] == [1, 3]
    assert fair.waiting == 0


async def test_too_many_waiting_are_turned_away() -> None:
    fair = gate(each=1)
    async with fair.turn("a"):
        waiting = asyncio.create_task(fair.turn("a").__aenter__())
        await asyncio.sleep(0)

        with pytest.raises(IdentityError, match="too many"):
            await fair.turn("a").__aenter__()

        waiting.cancel()
        await asyncio.wait([waiting])
    assert fair.waiting == 0


async def test_a_turn_given_to_somebody_who_left_goes_to_the_next() -> None:
    fair = gate()
    first = fair.turn("a")
    await first.__aenter__()
    gone = asyncio.create_task(fair.turn("b").__aenter__())
    heir = asyncio.create_task(fair.turn("c").__aenter__())
    await asyncio.sleep(0)

    await first.__aexit__(None, None, None)  # the turn is b's now
    gone.cancel()
    await asyncio.wait([gone, heir])

    assert gone.cancelled()
    assert heir.exception() is None
