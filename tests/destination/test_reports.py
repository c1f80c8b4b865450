"""Reports kept: windows, thinning, lives of a proxy."""

from __future__ import annotations

import pytest

from destination.reports import ReportKeeper
from mesh.core.report import Counts, Report, Series, SeriesKey, WindowReport

KEY = SeriesKey("inbound", "http", port=8080)
POD = ("shop", "web-1")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _report(requests: int, at: float, life: str = "a") -> Report:
    counts = Counts(requests=requests, successes=requests, latency={7: requests}, born=1.0)
    return Report(life, at, (Series(KEY, counts),))


def _steady(seconds: float, *, rate: int = 2) -> tuple[ReportKeeper, Clock]:
    """A proxy that reports every 5 s for so long, at `rate` requests a second."""
    clock = Clock()
    keeper = ReportKeeper(clock)
    for step in range(int(seconds / 5) + 1):
        clock.now = 1000.0 + step * 5
        keeper.keep(POD, "deployment/web", _report(step * 5 * rate, 5000.0 + step * 5))
    return keeper, clock


def _only(keeper: ReportKeeper, window: float) -> WindowReport:
    (found,) = keeper.answer(window).reports
    return found


@pytest.mark.parametrize("window", [10.0, 30.0, 60.0, 300.0, 600.0])
def test_a_window_holds_the_rise_over_the_time_that_was_really_observed(window: float) -> None:
    keeper, _ = _steady(1200)

    found = _only(keeper, window)

    seconds = found.ended - found.started
    assert found.whole
    assert window <= seconds <= window + 35.0
    assert found.series[0].counts.requests == seconds * 2
    assert found.series[0].counts.latency == {7: seconds * 2}
    assert found.workload == "deployment/web"


def test_a_short_window_is_exact_to_one_report() -> None:
    keeper, _ = _steady(1200)

    found = _only(keeper, 60.0)

    assert found.ended - found.started == 60.0


def test_ten_minutes_of_one_proxy_are_few_and_small() -> None:
    keeper, _ = _steady(3600)

    (life,) = keeper._lives[POD].values()

    assert len(life.older) < 55
    assert sum(len(packed.data) for packed in life.older) < 16_000


def test_a_restarted_proxy_is_a_life_of_its_own() -> None:
    clock = Clock()
    keeper = ReportKeeper(clock)
    keeper.keep(POD, "", _report(100, 1.0, "first"))
    clock.now += 5
    keeper.keep(POD, "", _report(3, 1.0, "second"))

    lives = {found.incarnation for found in keeper.answer(60.0).reports}

    assert lives == {"first", "second"}


def test_a_proxy_that_restarts_without_end_does_not_fill_memory() -> None:
    clock = Clock()
    keeper = ReportKeeper(clock)

    for life in range(100):
        keeper.keep(POD, "", _report(1, 1.0, str(life)))

    assert len(keeper._lives[POD]) == 20


def test_what_is_long_gone_is_forgotten() -> None:
    keeper, clock = _steady(60)
    clock.now += 700
    assert keeper.answer(600.0).reports == ()

    keeper.keep(("shop", "other"), "", _report(1, 1.0))

    assert list(keeper._lives) == [("shop", "other")]


def test_one_namespace_may_be_asked_for() -> None:
    keeper, _ = _steady(60)

    assert keeper.answer(60.0, namespace="other").reports == ()
    assert len(keeper.answer(60.0, namespace="shop").reports) == 1
