"""What one series keeps of its latencies."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter

from mesh.core.report import bucket_of
from proxy.telemetry import FOLD, Cell

DICE = random.Random(7)


def latencies(count: int) -> list[float]:
    """From tens of microseconds to tens of seconds."""
    return [DICE.lognormvariate(-6.0, 1.5) for _ in range(count)]


def filled(seconds: list[float]) -> Cell:
    cell = Cell(200, "", False)
    for at in range(0, len(seconds), FOLD):
        cell.new = seconds[at : at + FOLD]
        cell.fold()
    return cell


def test_every_latency_is_in_the_bucket_that_reports_name() -> None:
    seconds = [0.0, 1e-7, 1e-6, 1.1e-6, 59.0, 3600.0, *latencies(2000)]

    assert filled(seconds).latency == Counter(map(bucket_of, seconds))


def test_a_busy_series_takes_a_few_kilobytes_however_long_it_runs() -> None:
    seconds = latencies(100_000)
    tracemalloc.start()
    try:
        cell = filled(seconds)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(cell.latency) > 400
    assert taken < 12_000
