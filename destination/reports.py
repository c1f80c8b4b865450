"""What proxies counted, kept for windows of up to ten minutes; no I/O.

Reports are cumulative, so a window needs two of them. They are kept packed, the finer the
younger: every report of the last minute, later one in fifteen seconds, then one in thirty.
A replica keeps only what its own proxies sent, and nothing over a restart.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec
from msgspec.structs import replace

from destination.facts import Key
from mesh.core.report import Report, ReportsAnswer, WindowReport, window_of

LONGEST_WINDOW: Final = 600.0
_KEPT: Final = LONGEST_WINDOW + 35.0  # so that a report from before the window is there
_SPACING: Final = ((75.0, 0.0), (320.0, 15.0), (_KEPT, 30.0))  # up to this age: seconds apart
_MOST_LIVES: Final = 20  # of one pod's proxy; the oldest are forgotten
_MOST_SERIES: Final = 10_000  # of one report

_decoder: Final = msgspec.msgpack.Decoder(Report)


@dataclass(frozen=True, slots=True)
class _Packed:
    came: float
    data: bytes

    def unpack(self) -> Report:
        return _decoder.decode(zlib.decompress(self.data))


@dataclass(slots=True)
class _Life:
    """The reports of one incarnation of one proxy, oldest first."""

    workload: str
    newest: Report
    came: float
    older: list[_Packed] = field(default_factory=list)


class ReportKeeper:
    """The reports of all proxies of this replica. `clock` gives seconds, monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lives: dict[Key, dict[str, _Life]] = {}
        self._swept = clock()

    def keep(self, pod: Key, workload: str, report: Report) -> None:
        """Take one report in."""
        now = self._clock()
        if len(report.series) > _MOST_SERIES:
            report = replace(report, series=report.series[:_MOST_SERIES])
        lives = self._lives.setdefault(pod, {})
        life = lives.get(report.incarnation)
        if life is None:
            while len(lives) >= _MOST_LIVES:
                del lives[next(iter(lives))]
            lives[report.incarnation] = _Life(workload, report, now)
        else:
            life.older.append(_pack(life.newest, life.came))
            life.older = thin(life.older, now)
            life.workload = workload or life.workload
            life.newest, life.came = report, now
        if now - self._swept > 30.0:
            self._sweep(now)

    def answer(self, window: float, *, namespace: str = "") -> ReportsAnswer:
        """What happened in the last `window` seconds (at most 600)."""
        now, window = self._clock(), min(max(window, 1.0), LONGEST_WINDOW)
        found = []
        for pod, lives in self._lives.items():
            if namespace and pod[0] != namespace:
                continue
            for life in lives.values():
                report = _window(pod, life, now, window)
                if report is not None:
                    found.append(report)
        return ReportsAnswer(window, tuple(found))

    def _sweep(self, now: float) -> None:
        self._swept = now
        for pod, lives in list(self._lives.items()):
            for incarnation, life in list(lives.items()):
                if now - life.came > _KEPT:
                    del lives[incarnation]
            if not lives:
                del self._lives[pod]


def thin(reports: list[_Packed], now: float) -> list[_Packed]:
    """Drop reports that are too old, or closer to both neighbours than their age asks for."""
    kept: list[_Packed] = []
    for index, report in enumerate(reports):
        age = now - report.came
        spacing = next((apart for limit, apart in _SPACING if age <= limit), None)
        if spacing is None:
            continue
        following = reports[index + 1].came if index + 1 < len(reports) else now
        if kept and spacing and following - kept[-1].came <= spacing:
            continue
        kept.append(report)
    return kept


def _window(pod: Key, life: _Life, now: float, window: float) -> WindowReport | None:
    """Only the baseline and the newest report are unpacked: no other one counts."""
    before = [packed for packed in life.older if packed.came <= now - window]
    baseline = before[-1] if before else next(iter(life.older), None)
    history = [(life.came, life.newest)]
    if baseline is not None:
        history.insert(0, (baseline.came, baseline.unpack()))
    return window_of(
        history, namespace=pod[0], pod=pod[1], workload=life.workload, now=now, window=window
    )


def _pack(report: Report, came: float) -> _Packed:
    return _Packed(came, zlib.compress(msgspec.msgpack.encode(report), 1))
