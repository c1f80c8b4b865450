"""When a CronJob is due: five fields, as cron(5) has them. Pure.

Names of months and days, lists, ranges and steps, `@daily` and its kin. Where both days of the
month and days of the week are restricted, either will do.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

_MACROS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS: Final = (
    *("jan", "feb", "mar", "apr", "may", "jun"),
    *("jul", "aug", "sep", "oct", "nov", "dec"),
)
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: Final = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _DAYS),
)
_FARTHEST: Final = 5 * 366  # days until the next 29th of February, at most twice missed


@dataclass(frozen=True, slots=True)
class Schedule:
    """The minutes, hours, days and months at which something is due."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]  # 0 is Sunday
    either_day: bool

    def next_after(self, moment: datetime) -> datetime | None:
        """The first due minute after `moment`, in its time zone; None when there is none."""
        at = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
        for _ in range(_FARTHEST):
            if at.month in self.months and self._is_day(at):
                for hour in sorted(self.hours):
                    for minute in sorted(self.minutes):
                        due = at.replace(hour=hour, minute=minute)
                        if due >= at:
                            return due
            at = (at + timedelta(days=1)).replace(hour=0, minute=0)
        return None

    def _is_day(self, at: datetime) -> bool:
        by_date, by_name = at.day in self.days, at.isoweekday() % 7 in self.weekdays
        return by_date or by_name if self.either_day else by_date and by_name


def parse_schedule(text: str) -> Schedule:
    """Raises ValueError with the field that is wrong."""
    fields = _MACROS.get(text.strip().lower(), text).split()
    if len(fields) != len(_FIELDS):
        raise ValueError(f"expected exactly 5 fields, found {len(fields)}: [{text}]")
    found = [_parse_field(given, *field) for given, field in zip(fields, _FIELDS, strict=True)]
    weekdays = frozenset(number % 7 for number in found[4])
    either = not fields[2].startswith("*") and not fields[4].startswith("*")
    return Schedule(found[0], found[1], found[2], found[3], weekdays, either)


def _parse_field(
    text: str, name: str, low: int, high: int, names: tuple[str, ...]
) -> frozenset[int]:
    found: set[int] = set()
    for part in text.lower().split(","):
        span, slash, step = part.partition("/")
        if slash and not (step.isdigit() and int(step)):
            raise ValueError(f'{name}: expected a step such as */5, got "{part}"')
        first, dash, last = span.partition("-")
        if span in ("*", "?"):
            begin, end = low, high
        else:
            begin = _number(first, name, low, names)
            end = _number(last, name, low, names) if dash else (high if slash else begin)
        if not low <= begin <= end <= high:
            raise ValueError(f'{name}: expected {low} to {high}, got "{part}"')
        found.update(range(begin, end + 1, int(step) if slash else 1))
    return frozenset(found)


def _number(text: str, name: str, low: int, names: tuple[str, ...]) -> int:
    if text in names:
        return names.index(text) + low
    if not text.isdigit():
        raise ValueError(f'{name}: expected a number, got "{text}"')
    return int(text)
