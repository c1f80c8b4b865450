"""When a CronJob is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from mesh.local.api.schedule import parse_schedule


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("* * * * *", "2026-11-21T10:08"),
        ("*/15 * * * *", "2026-11-21T10:15"),
        ("5,40 9-10 * * *", "2026-11-21T10:40"),
        ("0 0 29 2 *", "2028-02-29T00:00"),
        ("30 4 * * sun", "2026-11-22T04:30"),
        ("30 4 * * 7", "2026-11-22T04:30"),
        ("0 0 1 jan *", "2027-01-01T00:00"),
        ("0 12 13 * 5", "2026-11-27T12:00"),  # the 13th or a Friday
        ("10/20 * * * *", "2026-11-21T10:10"),
        ("@weekly", "2026-11-22T00:00"),
        ("@hourly", "2026-11-21T11:00"),
    ],
)
def test_the_next_time_is_the_first_that_fits(text: str, expected: str) -> None:
    now = datetime(2026, 11, 21, 10, 7, 30, tzinfo=UTC)  # a Saturday

    assert parse_schedule(text).next_after(now) == datetime.fromisoformat(f"{expected}:00+00:00")


def test_a_day_that_no_month_has_is_never_due() -> None:
    assert parse_schedule("0 0 31 2 *").next_after(datetime(2026, 1, 1, tzinfo=UTC)) is None


def test_the_time_zone_of_the_moment_counts() -> None:
    now = datetime(2026, 7, 1, 6, 0, tzinfo=ZoneInfo("Europe/Berlin"))

    due = parse_schedule("0 7 * * *").next_after(now)

    assert due is not None
    assert due - now == timedelta(hours=1)
    assert due.astimezone(UTC).hour == 5


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("* * * *", "expected exactly 5 fields, found 4"),
        ("60 * * * *", 'minute: expected 0 to 59, got "60"'),
        ("* 5-2 * * *", 'hour: expected 0 to 23, got "5-2"'),
        ("* * 0 * *", 'day of month: expected 1 to 31, got "0"'),
        ("* * * foo *", 'month: expected a number, got "foo"'),
        ("*/0 * * * *", 'minute: expected a step such as */5, got "*/0"'),
    ],
)
def test_a_field_that_is_wrong_is_named(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem.replace("*", r"\*")):
        parse_schedule(text)
