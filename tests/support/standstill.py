"""A test that failed while the machine itself stood still is run again.

A host that is short of CPUs takes them away from its machines, at times for seconds, and a disk
may make everything wait. What a test measures then is not the product. How long that was the kernel
counts: /proc/stat has the time that was stolen, /proc/pressure/io the time in which all tasks
waited. A failure counts where neither was to blame, and in the last turn; each that did not is
listed at the end.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pytest
import pytest_timeout  # type: ignore[import-untyped]
from _pytest.runner import runtestprotocol

MOST_TURNS: Final = 5
LONG: Final = 60.0  # seconds; a test that takes longer has ...
MOST_LONG_TURNS: Final = 2
LEAST: Final = 0.02  # seconds lost that may have made a test fail (stolen time counts as its work)
SHARE: Final = 0.05  # ... if it was so much of its time, too

_CPUS: Final = os.cpu_count() or 1
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_WAITED: Final = re.compile(r"^full .*total=(\d+)", re.MULTILINE)
_AGAIN: Final = pytest.StashKey[list[str]]()


def seconds_lost() -> float:
    """Since the machine started: stolen from each of its CPUs, and spent waiting for its disk."""
    lost = 0.0
    try:
        with open("/proc/stat") as file:
            lost += int(file.readline().split()[8]) / _TICKS / _CPUS
        with open("/proc/pressure/io") as file:
            found = _WAITED.search(file.read())
            lost += int(found[1]) / 1e6 if found else 0.0
    except (OSError, IndexError):
        pass  # not Linux, or a kernel that does not count it: no excuse
    return lost


@dataclass(frozen=True, slots=True)
class Turn:
    """One run of a test: how long it took, and how much of that the machine stood still."""

    took: float
    lost: float

    @property
    def says_nothing(self) -> bool:
        return self.lost >= max(LEAST, SHARE * self.took)

    def may_be_followed(self, turns: int) -> bool:
        most = MOST_LONG_TURNS if self.took > LONG else MOST_TURNS
        return self.says_nothing and turns < most


def measured(work: Callable[[], None]) -> Turn:
    """Do it, and how that went."""
    began, lost = time.monotonic(), seconds_lost()
    work()
    return Turn(time.monotonic() - began, seconds_lost() - lost)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """pytest's own, but for more than one turn."""
    reports: list[pytest.TestReport] = []

    def run() -> None:
        reports[:] = runtestprotocol(item, log=False, nextitem=nextitem)

    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    turns = 1
    while True:
        turn = measured(run)
        failed = any(report.failed for report in reports)
        if not failed or not turn.may_be_followed(turns):
            break
        turns += 1
        _forget_failed_fixtures(item)
        _restart_timer(item)
        text = f"{item.nodeid}: the machine stood still for {turn.lost:.1f} of {turn.took:.1f} s"
        item.config.stash.setdefault(_AGAIN, []).append(text)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _restart_timer(item: pytest.Item) -> None:
    """pytest-timeout's is started once, before the first turn; each has all the time."""
    settings = pytest_timeout._get_item_settings(item)
    if settings.timeout and not settings.func_only:
        item.ihook.pytest_timeout_cancel_timer(item=item)
        item.ihook.pytest_timeout_set_timer(item=item, settings=settings)


def _forget_failed_fixtures(item: pytest.Item) -> None:
    """Those that live longer than a test would fail again without being tried."""
    assert isinstance(item, pytest.Function)
    for definitions in item._fixtureinfo.name2fixturedefs.values():
        for definition in definitions:
            if definition.cached_result is not None and definition.cached_result[2] is not None:
                definition.cached_result = None


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    again = config.stash.get(_AGAIN, [])
    if again:
        terminalreporter.section("failed on a machine that stood still, and run again")
        for text in again:
            terminalreporter.line(text)
