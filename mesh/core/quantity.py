"""Durations, weights, percentages, sizes and port lists as manifests write them.

Every parser raises ValueError with one sentence that says what was expected and what came.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fractions import Fraction

_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SUFFIX = {  # as a power: its base and its exponent
    **{letter: (10, 3 * i - 9) for i, letter in enumerate(("n", "u", "m", "", "k", "M", "G"))},
    **{letter: (10, 12 + 3 * i) for i, letter in enumerate("TPE")},
    **{f"{letter}i": (2, 10 + 10 * i) for i, letter in enumerate("KMGTPE")},
}
_QUANTITY = re.compile(r"([+-]?\d*\.?\d*)(?:([eE][+-]?\d+)|([numkMGTPE]|[KMGTPE]i)?)")


def parse_duration(text: str) -> float:
    """Seconds in `1h30m`, `250ms`, `0` (Go's form, with `d` besides). Bare numbers only when 0."""
    if text == "0":
        return 0.0
    total, end = 0.0, 0
    for part in _DURATION_PART.finditer(text):
        if part.start() != end:
            break
        total += float(part[1]) * _SECONDS[part[2]]
        end = part.end()
    if not text or end != len(text):
        raise ValueError(f'expected a duration such as 300ms, 5s or 1m30s, got "{text}"')
    return total


def parse_quantity(value: int | float | str) -> Fraction:
    """A Kubernetes quantity (`1`, `500m`, `1.5Gi`, `1e3`) as an exact number."""
    # 0.5 MB in each proxy, which reads port lists here and never a quantity
    from decimal import Decimal, InvalidOperation
    from fractions import Fraction

    if isinstance(value, bool):
        raise ValueError(f"expected a quantity such as 1 or 500m, got {str(value).lower()}")
    text = str(value).strip()
    match = _QUANTITY.fullmatch(text)
    if not match or not any(c.isdigit() for c in match[1]):
        raise ValueError(f'expected a quantity such as 1, 500m or 2Gi, got "{text}"')
    try:
        number = Fraction(Decimal(match[1] + (match[2] or "")))
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise ValueError(f'expected a quantity such as 1, 500m or 2Gi, got "{text}"') from error
    base, exponent = _SUFFIX[match[3] or ""]
    return number * Fraction(base) ** exponent


def parse_weights(values: list[int | float | str]) -> list[int]:
    """Integer weights with the same proportions: `["500m", 1]` gives `[1, 2]`.

    All values of one split are scaled by the same factor, so 1/1 and 500m/500m are equal.
    """
    numbers = [parse_quantity(value) for value in values]
    for number, value in zip(numbers, values, strict=True):
        if number < 0:
            raise ValueError(f'expected a weight of 0 or more, got "{value}"')
    scale = math.lcm(*(number.denominator for number in numbers))
    return [int(number * scale) for number in numbers]


def parse_port(text: str) -> int:
    """A TCP port, 1 to 65535."""
    if text.isascii() and text.isdigit() and 1 <= int(text) <= 65535:
        return int(text)
    raise ValueError(f'expected a port from 1 to 65535, got "{text}"')


def parse_ports(text: str) -> tuple[tuple[int, int], ...]:
    """Port ranges in `80,8000-8010`: sorted, merged (first, last) pairs; blanks are ignored."""
    ranges = []
    for item in text.split(","):
        item = item.strip()
        if not item:
            continue
        first, dash, last = item.partition("-")
        low, high = parse_port(first.strip()), parse_port((last if dash else first).strip())
        if low > high:
            raise ValueError(f'expected a port range from low to high, got "{item}"')
        ranges.append((low, high))
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def print_ports(ranges: tuple[tuple[int, int], ...]) -> str:
    """The inverse of `parse_ports`: `80,8000-8010`."""
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)


def has_port(ranges: tuple[tuple[int, int], ...], port: int) -> bool:
    """Whether `port` lies in one of the ranges."""
    return any(low <= port <= high for low, high in ranges)


def parse_switch(text: str) -> bool:
    """`enabled` or `disabled`; true and false are understood as well (Istio's spelling)."""
    if text in ("enabled", "true"):
        return True
    if text in ("disabled", "false"):
        return False
    raise ValueError(f'expected enabled or disabled, got "{text}"')
