"""How many requests may be tried again."""

from __future__ import annotations

from proxy.budget import RetryBudget


def drain(budget: RetryBudget, now: float) -> int:
    """Retries that go out at once."""
    count = 0
    while budget.withdraw(now):
        count += 1
    return count


def test_requests_that_end_well_earn_retries() -> None:
    budget = RetryBudget(0.0, ratio=0.2, min_per_second=0.0)

    budget.earned += 100

    assert budget.left(1.0) == 20
    assert drain(budget, 1.0) == 20


def test_what_was_earned_is_lost_after_the_window() -> None:
    budget = RetryBudget(0.0, ratio=0.2, min_per_second=0.0, ttl=10.0)
    budget.earned += 100
    for second in range(1, 13):
        budget.tick(float(second))

    assert drain(budget, 12.0) == 0


def test_a_floor_holds_where_nothing_ends_well() -> None:
    budget = RetryBudget(0.0, ratio=0.2, min_per_second=10.0)

    first = drain(budget, 0.0)
    retries = sum(drain(budget, second / 10) for second in range(1, 101))

    assert first == 20
    assert 99 <= retries <= 100


def test_the_floor_is_saved_up_for_two_seconds_at_most() -> None:
    budget = RetryBudget(0.0, min_per_second=10.0)
    drain(budget, 0.0)

    assert drain(budget, 3600.0) == 20


def test_retries_stay_within_the_ratio_in_every_window() -> None:
    budget = RetryBudget(0.0, ratio=0.2, min_per_second=0.0)
    spent: list[float] = []
    for step in range(1, 6001):
        now = step / 200  # 200 requests a second, every one asks for a retry, half end well
        budget.earned += step % 2
        if budget.withdraw(now):
            spent.append(now)

    for end in range(10, 31):
        in_window = [at for at in spent if end - 10 < at <= end]
        assert len(in_window) <= 0.2 * 1000 * 1.1 + 1


def test_a_ratio_of_zero_and_no_floor_forbids_retries() -> None:
    budget = RetryBudget(0.0, ratio=0.0, min_per_second=0.0)
    budget.earned += 10_000

    assert not budget.withdraw(1.0)
