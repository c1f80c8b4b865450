"""docs/hardening.md names tests and reasons that exist."""

from __future__ import annotations

import re
from pathlib import Path

from proxy.reasons import REASONS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/hardening.md").read_text()


def test_each_test_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    sources = [*(ROOT / "tests/proxy").glob("*.py"), *(ROOT / "tests/conformance").glob("*.py")]
    there = {name for path in sources for name in re.findall(r"def (test_\w+)", path.read_text())}

    assert named - there == set()
    assert len(named) > 50


def test_each_reason_that_the_page_names_is_one() -> None:
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith("| ")]
    named = {word for row in rows for word in re.findall(r"`([a-z0-9-]+)`", row[3])}

    assert {word for word in named if not word.startswith("test")} - set(REASONS) == set()
