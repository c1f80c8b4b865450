"""Rows of a benchmark -> bars in SVG, each group on a scale of its own."""

from __future__ import annotations

from html import escape
from typing import Any, Final

BAR: Final = 18  # pixels from one bar to the next
GAP: Final = 34  # and before the title of the next group
LEFT: Final = 110  # where bars begin
WIDE: Final = 460  # the longest bar
_COLOURS: Final = {"lightmesh": "#1f77b4"}


def plot(rows: list[dict[str, Any]]) -> str:
    """One group of bars for each case and unit, in the order of the rows."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["case"], row["unit"]), []).append(row)
    out: list[str] = []
    y = 0
    for (case, unit), group in groups.items():
        y += GAP
        out.append(_text(4, y - 8, f"{case} ({unit}, less is better)", weight="bold"))
        longest = max(row["most"] for row in group) or 1.0
        for row in group:
            out.append(_bar(y, row, longest))
            y += BAR
    size = f'width="{LEFT + WIDE + 90}" height="{y + 12}"'
    style = 'font-family="sans-serif" font-size="12"'
    paper = '<rect width="100%" height="100%" fill="white"/>'
    body = "".join(out)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>{paper}{body}</svg>\n'


def _bar(y: int, row: dict[str, Any], longest: float) -> str:
    """A bar as long as the median, with a line from the least to the most."""
    scale = WIDE / longest
    end = LEFT + row["median"] * scale
    colour = _COLOURS.get(row["who"], "#b0b0b0")
    middle = y + BAR // 2 - 2
    line = f'x1="{LEFT + row["least"] * scale:.1f}" x2="{LEFT + row["most"] * scale:.1f}"'
    size = f'width="{row["median"] * scale:.1f}" height="{BAR - 5}"'
    return (
        _text(4, y + 11, row["who"])
        + f'<rect x="{LEFT}" y="{y}" {size} fill="{colour}"/>'
        + f'<line {line} y1="{middle}" y2="{middle}" stroke="#333"/>'
        + _text(max(end, LEFT + row["most"] * scale) + 6, y + 11, f"{row['median']:.2f}")
    )


def _text(x: float, y: float, text: str, *, weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-weight="{weight}">{escape(text)}</text>'
