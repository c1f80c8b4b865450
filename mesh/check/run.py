"""Running checks in order: print as they settle, try again what time may heal, stop at the fatal.

The caller brings reading, clock and sleep; here is only the order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from mesh.check.facts import Facts
from mesh.check.model import Category, Check, Result, judge

RETRY_SECONDS = 1.0  # pause between two rounds of reads


class Display(Protocol):
    """What hears of results while they come."""

    def waiting(self, result: Result) -> None:
        """This check failed and is tried again."""

    def settled(self, result: Result) -> None:
        """This check has its result."""


async def run_checks(
    categories: Sequence[Category],
    gather: Callable[[], Awaitable[Facts]],
    display: Display,
    *,
    wait: float,
    clock: Callable[[], float],
    sleep: Callable[[float], Awaitable[object]],
) -> list[Result]:
    """Every result, in order. `wait` is the budget in seconds of all retries together."""
    deadline = clock() + wait
    facts = await gather()
    results: list[Result] = []
    for category, check in _each(categories):
        result = judge(category, check, facts)
        while result.may_heal and clock() < deadline:
            display.waiting(result)
            await sleep(RETRY_SECONDS)
            facts = await gather()
            result = judge(category, check, facts)
        display.settled(result)
        results.append(result)
        if result.ends_all:
            break
    return results


def _each(categories: Sequence[Category]) -> list[tuple[Category, Check]]:
    return [(category, check) for category in categories for check in category.checks]
