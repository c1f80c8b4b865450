"""Token buckets."""

from __future__ import annotations

from mesh.runtime.buckets import Buckets


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
