from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from mesh.core.report import WindowReport
from mesh.stat.figures import NOTHING, Figures, figures_of, part_of
from tests.stat.traffic import ProxySim


def figures(*reports: WindowReport | None) -> Figures:
    return figures_of(part_of(report, report.series) for report in reports if report)


def at(proxies: Sequence[ProxySim], now: float, seconds: float = 60.0) -> Figures:
    return figures(*(proxy.window(now, seconds) for proxy in proxies))


def test_thirty_seconds_and_a_report_later_counts_are_exact_and_the_rate_holds() -> None:
    proxy = ProxySim("web-1", rate=100, begin=12.3, end=42.3, failure_every=10)

    seen = at([proxy], now=47.6)

    assert (seen.requests, seen.failures) == (3000, 300)
    assert seen.success == pytest.approx(0.9)
    assert seen.rps == pytest.approx(100, rel=0.02)
    assert seen.p50 == pytest.approx(0.004, rel=0.05)


@pytest.mark.parametrize("now", [60.0, 63.1, 67.4, 90.0, 300.0])
@pytest.mark.parametrize("window", [15.0, 30.0, 60.0])
def test_a_constant_rate_is_read_at_any_moment_and_window(now: float, window: float) -> None:
    proxies = [
        ProxySim(f"web-{n}", rate=25, begin=5, end=1000, phase=n * 1.3, clock=n * 777.0)
        for n in range(4)
    ]

    assert at(proxies, now, window).rps == pytest.approx(100, rel=0.02)


def test_traffic_that_began_between_two_reports_has_its_rate_at_once() -> None:
    proxy = ProxySim("web-1", rate=50, begin=101.7, end=1000)

    assert at([proxy], now=110.2).rps == pytest.approx(50, rel=0.02)


def test_a_proxy_that_keeps_no_times_still_has_a_rate_of_the_reported_time() -> None:
    proxy = ProxySim("web-1", rate=50, begin=0, end=1000, kept=False)

    assert at([proxy], now=100).rps == pytest.approx(50, rel=0.02)


def test_one_pod_after_the_other_is_one_rate_not_two() -> None:
    old = ProxySim("web-1", rate=100, begin=0, end=70)
    new = ProxySim("web-2", rate=100, begin=70, end=1000, started=68)
    gone = old.window(70)
    assert gone is not None

    seen = figures(replace(gone, age=30.0), new.window(100, 30))

    assert seen.rps == pytest.approx(100, rel=0.05)
    assert seen.connections == 1


def test_traffic_that_ended_long_ago_is_diluted_over_the_window() -> None:
    proxy = ProxySim("web-1", rate=100, begin=0, end=70)

    seen = at([proxy], now=100)

    assert seen.requests == pytest.approx(3000, abs=500)
    assert seen.rps == pytest.approx(50, rel=0.15)


def test_a_slow_rate_is_not_cut_at_its_last_request() -> None:
    proxy = ProxySim("web-1", rate=0.3, begin=0, end=1000)

    assert at([proxy], now=200).rps == pytest.approx(0.3, abs=0.06)


def test_one_request_just_made_is_not_a_high_rate() -> None:
    proxy = ProxySim("web-1", rate=1000, begin=99.9, end=99.901)

    assert at([proxy], now=100).rps == pytest.approx(1.0)


def test_no_report_gives_no_figures_and_an_idle_one_gives_connections() -> None:
    idle = ProxySim("web-1", rate=1, begin=1000, end=1001)

    assert figures() == NOTHING
    seen = at([idle], now=100)
    assert (seen.requests, seen.success, seen.rps, seen.connections) == (0, None, None, 0)


def test_a_proxy_that_went_silent_holds_no_connection() -> None:
    proxy = ProxySim("web-1", rate=10, begin=0, end=1000)
    report = proxy.window(100)
    assert report is not None

    assert figures(report).connections == 1
    assert figures(replace(report, age=31.0)).connections == 0
