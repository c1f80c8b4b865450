"""Histograms hold their precision; cumulative counts subtract and merge."""

from __future__ import annotations

import random

import pytest

from mesh.core.report import Counts, bucket_of, merge, quantile


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
def test_a_quantile_is_within_five_percent_of_the_true_one(q: float) -> None:
    draw = random.Random(7)
    samples = sorted(draw.lognormvariate(-5, 1.2) for _ in range(5000))
    buckets: dict[int, int] = {}
    for sample in samples:
        buckets[bucket_of(sample)] = buckets.get(bucket_of(sample), 0) + 1

    true = samples[int(q * len(samples)) - 1]

    assert quantile(buckets, q) == pytest.approx(true, rel=0.05)


def test_an_empty_histogram_has_no_quantile() -> None:
    assert quantile({}, 0.5) is None


def test_the_increase_leaves_the_gauge_as_it_is() -> None:
    earlier = Counts(requests=10, successes=9, failures=1, latency={5: 10}, open=3, opened=3)
    later = Counts(requests=15, successes=14, failures=1, latency={5: 12, 6: 3}, open=2, opened=4)

    increase = later.since(earlier)

    assert (increase.requests, increase.successes, increase.failures) == (5, 5, 0)
    assert increase.latency == {5: 2, 6: 3}
    assert (increase.open, increase.opened) == (2, 1)


def test_merging_adds_everything() -> None:
    total = merge([Counts(requests=1, latency={1: 1}), Counts(requests=2, latency={1: 1, 2: 1})])

    assert total.requests == 3
    assert total.latency == {1: 2, 2: 1}
