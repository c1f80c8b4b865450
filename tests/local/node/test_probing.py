"""Counting probe attempts."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.local.node.probing import Counter

PROBE: dict[str, Any] = {"httpGet": {}, "periodSeconds": 10, "failureThreshold": 2}


def test_early_attempts_do_not_count_as_failures() -> None:
    counter = Counter(PROBE, now=0.0)

    first = counter.noted(False, now=0.0)
    early = counter.noted(False, now=first.next_at)

    assert not first.counted
    assert not early.counted
    assert early.next_at < 1.0
    assert early.passing is None


def test_failures_a_period_apart_reach_the_threshold() -> None:
    counter = Counter(PROBE, now=0.0)
    counter.noted(False, now=0.0)

    once, twice = counter.noted(False, now=10.0), counter.noted(False, now=20.0)

    assert (once.counted, once.passing) == (True, None)
    assert (twice.counted, twice.passing) == (True, False)


def test_an_attempt_on_its_way_when_the_period_ends_is_not_waited_for() -> None:
    counter = Counter(PROBE, now=0.0)

    assert counter.noted(False, now=9.99).next_at == 10.0


def test_an_early_success_passes_at_once() -> None:
    counter = Counter(PROBE, now=0.0)
    counter.noted(False, now=0.0)

    assert counter.noted(True, now=0.05).passing is True


def test_after_a_success_attempts_are_a_period_apart() -> None:
    counter = Counter(PROBE, now=0.0)
    counter.noted(True, now=0.0)

    assert counter.noted(False, now=10.0).next_at == 20.0


def test_a_command_is_not_run_more_often_than_asked() -> None:
    counter = Counter({"exec": {}, "periodSeconds": 10}, now=0.0)

    assert counter.noted(False, now=0.0).next_at == 10.0


def test_the_first_attempt_waits_for_the_initial_delay() -> None:
    assert Counter({**PROBE, "initialDelaySeconds": 3}, now=1.0).first_at == 4.0


@pytest.mark.parametrize(("successes", "wanted"), [(1, None), (2, True)])
def test_the_success_threshold_holds(successes: int, wanted: bool | None) -> None:
    counter = Counter({**PROBE, "successThreshold": 2}, now=0.0)

    verdicts = [counter.noted(True, now=10.0 * step) for step in range(successes)]

    assert verdicts[-1].passing is wanted
