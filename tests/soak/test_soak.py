"""A soak in short: everything is answered, and nothing is left when the load has gone.

Whether memory grows takes longer to see: `make soak`.
"""

from __future__ import annotations

import asyncio
import warnings

import pytest
import uvloop

from tests.soak.figures import judge, slope_of
from tests.soak.plan import Sample
from tests.soak.run import Options, soak

MIB = 1024 * 1024


def sample(at: float, memory: float, *, fds: int = 20, clients: int = 0) -> Sample:
    return Sample(at, int(memory * MIB), fds, 3, clients, 0, 0, 0, 0, 0)


def test_a_floor_that_rises_is_a_slope_and_peaks_are_none() -> None:
    flat = [sample(at, 30 + (at % 7)) for at in range(1800)]
    rising = [sample(at, 30 + at / 600 + (at % 7)) for at in range(1800)]

    assert slope_of(flat) == 0.0
    assert slope_of(rising) == pytest.approx(6.0, abs=0.2)


def test_what_is_left_after_the_load_is_a_problem() -> None:
    samples = [sample(at, 30) for at in range(100)]

    verdict = judge(samples, sample(200, 30, fds=30, clients=1), is_long=True)

    assert verdict.problems == ("fds: 20 before the load, 30 after it", "clients left: 1")


@pytest.mark.timeout(150)
def test_mixed_load_leaves_nothing_behind() -> None:
    """Leaves are renewed and configurations swapped meanwhile."""
    options = Options(5.0, workers=2, renew_seconds=2.0)
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    result = runner.run(soak(options))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # what the load has left open
        runner.close()

    assert result.problems == []
    assert result.words.total() > 20
    assert result.verdicts["client"].last.swaps > 5
