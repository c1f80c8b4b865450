"""How fast bytes must move, and how much memory may be used. Pure: the caller has the clock."""

from __future__ import annotations

from typing import Final

MIN_RATE: Final = 100  # bytes a second
PACE_SECONDS: Final = 60.0  # over which the rate is judged
SHED_AT: Final = 0.90  # of the memory limit: requests are refused
CALM_AT: Final = 0.85  # and taken again below this


class Pace:
    """The bytes of one direction against the clock."""

    __slots__ = ("_bytes", "_since")

    def __init__(self, total: int, now: float) -> None:
        self._bytes = total
        self._since = now

    def is_slow(self, total: int, now: float) -> bool:
        """Whether so many bytes in all are fewer than the rate wants. Ask every second or so."""
        if total - self._bytes >= MIN_RATE * PACE_SECONDS:
            self._bytes, self._since = total, now
        return now - self._since > PACE_SECONDS


class Taking:
    """How fast the far end takes what was written to it."""

    __slots__ = ("_pace",)

    def __init__(self) -> None:
        self._pace: Pace | None = None

    def is_slow(self, written: int, waiting: int, now: float) -> bool:
        """Of `written` bytes in all `waiting` have not gone. Ask every second or so."""
        if not waiting:
            self._pace = None
            return False
        if self._pace is None:
            self._pace = Pace(written - waiting, now)
        return self._pace.is_slow(written - waiting, now)


class Watermark:
    """Whether memory is so scarce that new requests must go elsewhere; 0: no limit."""

    __slots__ = ("_limit", "is_high")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.is_high = False

    def observe(self, resident: int) -> bool:
        """Take the memory in use; whether that changed anything."""
        share = CALM_AT if self.is_high else SHED_AT
        is_high = bool(self._limit) and resident >= self._limit * share
        changed = is_high is not self.is_high
        self.is_high = is_high
        return changed
