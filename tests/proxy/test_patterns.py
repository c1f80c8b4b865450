"""Patterns of users on the path of every request: what they mean, and what they may cost."""

from __future__ import annotations

import time

import pytest

from destination.dialects.reading import checked_regex
from proxy.patterns import compile_pattern


@pytest.mark.parametrize(
    ("pattern", "text", "is_met"),
    [
        ("/items/[^/]*", "/items/7", True),
        ("/items", "/items/7", False),
        ("items", "/items", False),
        ("a|ab", "ab", True),
        ("/(?P<id>[0-9]+)/(x|y)", "/12/y", True),
        ("(?i)/ITEMS", "/items", True),
        ("", "", True),
    ],
)
def test_the_whole_text_must_match(pattern: str, text: str, is_met: bool) -> None:
    assert compile_pattern(pattern)(text) is is_met


@pytest.mark.parametrize(
    "pattern",
    [
        "(.*)" * 500,
        "(a|b|c|d)*" * 500,
        "(a?b?c?d?(a|b)*){900}",
        "(x+x+)+y",
        "(a|b)*a(a|b){500}",
        "(.*.?){1000}",
    ],
    ids=lambda pattern: pattern[:20],
)
def test_a_hostile_pattern_costs_its_requests_little(pattern: str) -> None:
    assert checked_regex(pattern) == ""
    test = compile_pattern(pattern)
    began = time.process_time()

    for _ in range(100):
        test("/api/v1/orders/01234567-0123-0123-0123-0123456789ab")
    test("ab" * 4000 + "!")

    assert time.process_time() - began < 0.3


def test_what_is_no_pattern_is_said_and_not_logged(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="RE2 pattern"):
        compile_pattern("(a")

    assert capfd.readouterr().err == ""
