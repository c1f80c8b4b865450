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
SLACK: Final = 4  # descriptors and tasks at rest beyond those of the beginning


@dataclass(frozen=True)
class Verdict:
    """The figures of one proxy and what is wrong with them."""

    first: Sample
    last: Sample
    busiest: Sample
    slope: float  # MiB an hour after the warm-up
    calm: tuple[float, ...]  # MiB in each pause
    problems: tuple[str, ...]


def judge(
    samples: Sequence[Sample], calm: Sequence[Sample], at_rest: Sample, *, is_long: bool
) -> Verdict:
    """`samples` were taken under load, `calm` in its pauses, `at_rest` when it had gone: after a
    long soak the idle connections to endpoints have to be gone as well, and memory is judged."""
    first, slope = samples[0], slope_of(calm)
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
    pauses = tuple(sample.memory / MIB for sample in calm)
    return Verdict(first, at_rest, busiest, slope, pauses, tuple(problems))


def slope_of(calm: Sequence[Sample]) -> float:
    """MiB an hour: the median slope between all samples after the warm-up (Theil and Sen)."""
    if not calm:
        return 0.0
    warm = calm[0].at + (calm[-1].at - calm[0].at) * WARM_UP
    points = [(sample.at / 3600, sample.memory / MIB) for sample in calm if sample.at >= warm]
    slopes = [
        (late[1] - early[1]) / (late[0] - early[0])
        for index, early in enumerate(points)
        for late in points[index + 1 :]
    ]
    return median(slopes) if slopes else 0.0
