"""A finding: what is wrong, where it stands, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is: an error fails the run, a warning has a cost, a note has none."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `line` counts from 1, `path` is the field, `reason` a fixed word."""

    file: str
    line: int
    object: str
    path: str
    reason: str
    message: str
    remedy: str
    level: Level
