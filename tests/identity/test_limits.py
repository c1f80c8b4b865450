"""Turns: fair between accounts, limited in number, never lost."""

from __future__ import annotations

import asyncio

import pytest

from identity.limits import FairGate
from mesh.core.errors import IdentityError

pytestmark = pytest.mark.anyio


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
