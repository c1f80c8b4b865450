"""Regular expressions on a linear-time engine, loaded when the first pattern arrives.

Only whether a text matches is asked, never where: without captures the engine stays on its
automaton, where it would else copy the bounds of every group for each byte of a text.
"""

from __future__ import annotations

from collections.abc import Callable


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """A full match in RE2's syntax. Raises ValueError with what is wrong."""
    import re2  # type: ignore[import-untyped]

    options = re2.Options()
    options.never_capture = True
    options.log_errors = False  # stderr is the log, which has a form
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        raise ValueError(f'expected an RE2 pattern, got "{pattern}": {error}') from error
    fullmatch = compiled.fullmatch
    return lambda text: fullmatch(text) is not None
