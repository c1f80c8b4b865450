"""Regular expressions on a linear-time engine, loaded when the first pattern arrives."""

from __future__ import annotations

from collections.abc import Callable


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """A full match in RE2's syntax. Raises ValueError with what is wrong."""
    import re2  # type: ignore[import-untyped]

    try:
        compiled = re2.compile(pattern)
    except re2.error as error:
        raise ValueError(f'expected an RE2 pattern, got "{pattern}": {error}') from error
    fullmatch = compiled.fullmatch
    return lambda text: fullmatch(text) is not None
