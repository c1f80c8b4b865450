"""`python -m tests.soak MINUTES`: mixed load through two proxies, and whether anything grows."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

import uvloop

from tests.soak.figures import MIB, Verdict
from tests.soak.run import Options, Result, soak

DEFAULT_MINUTES: Final = 30.0


def main(arguments: list[str]) -> int:
    minutes = float(arguments[0]) if arguments else DEFAULT_MINUTES
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(soak(Options(minutes * 60)))
    for line in told(result):
        print(line)
    return 1 if result.problems else 0


def told(result: Result) -> list[str]:
    """The outcomes, the figures and the problems, for people."""
    lines = [f"{word.lstrip('!'):40} {count}" for word, count in sorted(result.words.items())]
    for side, verdict in result.verdicts.items():
        lines.append(_row(side, verdict))
    return lines + [f"PROBLEM {problem}" for problem in result.problems]


def _row(side: str, verdict: Verdict) -> str:
    first, last, busiest = verdict.first, verdict.last, verdict.busiest
    return (
        f"{side}: memory {first.memory / MIB:.1f} -> {last.memory / MIB:.1f} MiB, "
        f"{verdict.slope:+.2f} MiB an hour after warm-up; "
        f"fds {first.fds} -> {busiest.fds} -> {last.fds}, "
        f"tasks {first.tasks} -> {busiest.tasks} -> {last.tasks}, swaps {last.swaps}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
