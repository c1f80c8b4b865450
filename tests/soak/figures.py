"""What the samples of one proxy say: whether memory, descriptors or tasks grow. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from tests.soak.plan import Sample

MIB: Final = 1024 * 1024
MOST_SLOPE: Final = 1.0  # MiB an hour
WARM_UP: Final = 1 / 3  # of the time
SPAN: Final = 60.0  # seconds, of which the least memory counts: pages are given back once in it
SLACK: Final = 4  # descriptors and tasks at rest beyond those of the beginning


@dataclass(frozen=True)
class Verdict:
    """The figures of one proxy and what is wrong with them."""

    first: Sample
    last: Sample
    busiest: Sample
    slope: float  # MiB an hour after the warm-up
    problems: tuple[str, ...]


def judge(samples: Sequence[Sample], at_rest: Sample, *, is_long: bool) -> Verdict:
    """`samples` were taken under load, `at_rest` when that had gone: after a long soak the idle
    connections to endpoints have to be gone as well, and memory is judged."""
    first, slope = samples[0], slope_of(samples)
    problems = []
    if is_long and slope >= MOST_SLOPE:
        problems.append(f"memory grows by {slope:.2f} MiB an hour")
    idle = 0 if is_long else at_rest.connections
    for name, allowed in (("fds", idle), ("tasks", 0)):
        before, after = getattr(first, name), getattr(at_rest, name)
        if after > before + SLACK + allowed:
            problems.append(f"{name}: {before} before the load, {after} after it")
    for name in ("clients", "tunnels", "connections"):
        if getattr(at_rest, name) and (is_long or name == "tunnels"):
            problems.append(f"{name} left: {getattr(at_rest, name)}")
    if at_rest.errors:
        problems.append(f"bugs that ended a connection: {at_rest.errors}")
    busiest = max(samples, key=lambda sample: sample.fds)
    return Verdict(first, at_rest, busiest, slope, tuple(problems))


def slope_of(samples: Sequence[Sample]) -> float:
    """MiB an hour: the median slope between all spans after the warm-up, each with its least
    memory (Theil and Sen). A peak is no leak; a floor that rises is."""
    began, ended = samples[0].at, samples[-1].at
    warm = began + (ended - began) * WARM_UP
    spans: dict[int, float] = {}
    for sample in samples:
        if sample.at >= warm:
            number = int((sample.at - warm) / SPAN)
            spans[number] = min(spans.get(number, float("inf")), sample.memory / MIB)
    points = [(number * SPAN / 3600, least) for number, least in spans.items()]
    slopes = [
        (late[1] - early[1]) / (late[0] - early[0])
        for index, early in enumerate(points)
        for late in points[index + 1 :]
    ]
    return median(slopes) if slopes else 0.0
