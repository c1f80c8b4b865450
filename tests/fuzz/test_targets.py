"""A short run of each fuzzer: its seeds, some hundred inputs made of them, and past findings."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from tests.fuzz.mutate import inputs
from tests.fuzz.targets import TARGETS

FINDINGS = Path(__file__).parent / "findings"
CHANGED = 400  # inputs beyond the seeds


@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_stands_what_is_made_of_its_seeds(name: str) -> None:
    target = TARGETS[name]
    seeds = list(target.seeds())

    for data in islice(inputs(seeds, number=1), len(seeds) + CHANGED):
        target.run(data)


@pytest.mark.parametrize("path", sorted(FINDINGS.glob("*/*")), ids=lambda path: path.name)
def test_what_was_found_once_is_found_no_more(path: Path) -> None:
    TARGETS[path.parent.name].run(path.read_bytes())
