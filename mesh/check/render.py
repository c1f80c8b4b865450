"""Results -> what users read: a table as it comes, or JSON at the end.

The marks fall back to ASCII where the terminal cannot print them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from itertools import groupby
from typing import Any, TextIO

import click

from mesh.check.model import Fault, Result, Verdict, is_success

_INDENT = " " * 4
_SHOWN = 10  # faults of one check in the table; JSON has all
_REMEDIES = 3  # after the third, the pattern is clear
_MARKS = {Verdict.SUCCESS: "√", Verdict.WARNING: "‼", Verdict.ERROR: "×"}  # noqa: RUF001
_ASCII = {Verdict.SUCCESS: "ok", Verdict.WARNING: "!!", Verdict.ERROR: "x"}
_COLOURS = {Verdict.SUCCESS: "green", Verdict.WARNING: "yellow", Verdict.ERROR: "red"}


def marks_for(stream: TextIO) -> dict[Verdict, str]:
    """The marks that this stream can encode."""
    try:
        "".join(_MARKS.values()).encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return _ASCII
    return _MARKS


class TableDisplay:
    """Linkerd's form: a heading for each category, one line a check, faults with remedies.

    `short` leaves out what succeeded. On a terminal a check that is tried again has a line
    that is replaced; elsewhere each new state of it is one line on `progress`.
    """

    def __init__(self, out: TextIO, progress: TextIO, *, short: bool = False) -> None:
        self._out = out
        self._progress = progress
        self._short = short
        self._live = out.isatty()
        self._marks = marks_for(out)
        self._category = ""
        self._waiting = ""

    def waiting(self, result: Result) -> None:
        text = f"{result.check.description} ({_summary(result)})"
        if self._live:
            width = max(20, _columns() - 6)
            self._head(result.category)
            self._write("\r\x1b[K.. " + text[:width])
        elif text != self._waiting:
            click.echo(f"waiting: {text}", file=self._progress)
        self._waiting = text

    def settled(self, result: Result) -> None:
        if self._live and self._waiting:
            self._write("\r\x1b[K")
        self._waiting = ""
        if self._short and result.verdict is Verdict.SUCCESS:
            return
        self._head(result.category)
        mark = click.style(self._marks[result.verdict], fg=_COLOURS[result.verdict])
        self._line(f"{mark} {result.check.description}")
        for fault in result.faults[:_SHOWN]:
            self._line(_INDENT + str(fault))
        if len(result.faults) > _SHOWN:
            self._line(f"{_INDENT}and {len(result.faults) - _SHOWN} more; -o json lists all")
        for remedy in _remedies(result.faults)[:_REMEDIES]:
            self._line(f"{_INDENT}-> {remedy}")

    def finish(self, results: Sequence[Result]) -> None:
        """The status line; every run of check ends with it."""
        if self._category:
            self._line("")
        verdict = Verdict.SUCCESS if is_success(results) else Verdict.ERROR
        mark = click.style(self._marks[verdict], fg=_COLOURS[verdict])
        self._line(f"Status check results are {mark}")

    def _head(self, category: str) -> None:
        if category == self._category:
            return
        if self._category:
            self._line("")
        self._category = category
        self._line(category)
        self._line("-" * len(category))

    def _line(self, text: str) -> None:
        encoding = getattr(self._out, "encoding", None) or "utf-8"
        click.echo(text.encode(encoding, "replace").decode(encoding), file=self._out)

    def _write(self, text: str) -> None:
        click.echo(text, file=self._out, nl=False)


class SilentDisplay:
    """For JSON: nothing until the end."""

    def waiting(self, result: Result) -> None:
        pass

    def settled(self, result: Result) -> None:
        pass


def _summary(result: Result) -> str:
    more = f", and {len(result.faults) - 1} more" if len(result.faults) > 1 else ""
    return f"{result.faults[0]}{more}"


def _remedies(faults: Sequence[Fault]) -> list[str]:
    """Each remedy once, in order."""
    return list(dict.fromkeys(fault.remedy for fault in faults if fault.remedy))


def _columns() -> int:
    try:
        return os.get_terminal_size().columns
    except OSError:
        return 80


def render_json(results: Sequence[Result]) -> str:
    """Linkerd's form, with the single faults besides."""
    grouped = groupby(results, key=lambda result: result.category)
    categories = [
        {"categoryName": name, "checks": [_check(result) for result in group]}
        for name, group in grouped
    ]
    answer = {"success": is_success(results), "categories": categories}
    return json.dumps(answer, indent=2) + "\n"


def _check(result: Result) -> dict[str, Any]:
    out: dict[str, Any] = {"description": result.check.description, "result": result.verdict.value}
    if result.faults:
        out["error"] = "\n".join(str(fault) for fault in result.faults)
        out["hint"] = "\n".join(_remedies(result.faults))
        out["faults"] = [
            {"object": fault.object, "message": fault.message, "remedy": fault.remedy}
            for fault in result.faults
        ]
    return out
