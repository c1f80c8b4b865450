"""A failure counts, unless the machine stood still; then the test has another turn."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.standstill import Turn, seconds_lost

CONFTEST = """
from tests.support import standstill
from tests.support.standstill import pytest_runtest_protocol, pytest_terminal_summary

lost = iter({lost})
standstill.seconds_lost = lambda: next(lost)
"""

FLAKY = """
import pathlib
import pytest

def turn():
    turns = pathlib.Path(__file__).with_name("turns")
    turns.write_text(turns.read_text() + "x" if turns.exists() else "x")
    assert len(turns.read_text()) > {failures}

@pytest.fixture(scope="session")
def cluster():
    {fixture}

def test_it(cluster):
    {test}
"""


def run(
    folder: Path,
    lost: list[float],
    failures: int,
    *,
    fixture: str = "pass",
    test: str = "turn()",
    timeout: float = 20.0,
) -> tuple[int, str, int]:
    """Run a test that fails so many times; exit code, output, turns."""
    (folder / "conftest.py").write_text(CONFTEST.format(lost=lost))
    code = FLAKY.format(failures=failures, fixture=fixture, test=test)
    (folder / "test_it.py").write_text(code)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", "/dev/null"]
    options = ["--rootdir", str(folder), "--timeout", str(timeout)]
    done = subprocess.run([*command, *options, str(folder)], capture_output=True, text=True)
    return done.returncode, done.stdout, len((folder / "turns").read_text())


def test_a_failure_on_a_machine_that_went_on_counts(tmp_path: Path) -> None:
    code, output, turns = run(tmp_path, [5.0, 5.01], failures=1)

    assert (code, turns) == (1, 1)
    assert "1 failed" in output
    assert "stood still" not in output


def test_a_failure_on_a_machine_that_stood_still_has_another_turn(tmp_path: Path) -> None:
    code, output, turns = run(tmp_path, [5.0, 7.0, 7.0, 7.0], failures=1)

    assert (code, turns) == (0, 2)
    assert "1 passed" in output
    assert "test_it.py::test_it: the machine stood still for 2.0 of " in output


def test_so_has_a_fixture_that_lives_longer(tmp_path: Path) -> None:
    lost = [5.0, 7.0, 7.0, 7.0]
    code, output, turns = run(tmp_path, lost, failures=1, fixture="turn()", test="pass")

    assert (code, turns) == (0, 2)
    assert "1 passed" in output


def test_each_turn_ends_in_time(tmp_path: Path) -> None:
    test = "turns = pathlib.Path(__file__).with_name('turns'); turns.open('a').write('x'); "
    test += "import time; time.sleep(30)"
    began = time.monotonic()
    lost = [0.0, 2.0, 2.0, 4.0, 4.0, 4.0]
    code, output, turns = run(tmp_path, lost, failures=0, test=test, timeout=0.5)

    assert (code, turns) == (1, 3)
    assert "Timeout" in output
    assert time.monotonic() - began < 20.0


def test_the_last_turn_counts_wherever_it_was(tmp_path: Path) -> None:
    lost = [0.0, 2.0, 2.0, 4.0, 4.0, 6.0, 6.0, 8.0, 8.0, 10.0]
    code, output, turns = run(tmp_path, lost, failures=9)

    assert (code, turns) == (1, 5)
    assert "1 failed" in output


@pytest.mark.parametrize(
    ("turn", "turns", "again"),
    [
        (Turn(took=0.1, lost=0.01), 1, False),  # too little to make anything late
        (Turn(took=10.0, lost=0.4), 1, False),  # what a shared machine has all the time
        (Turn(took=10.0, lost=0.5), 1, True),
        (Turn(took=10.0, lost=0.5), 4, True),
        (Turn(took=10.0, lost=0.5), 5, False),
        (Turn(took=100.0, lost=9.0), 1, True),
        (Turn(took=100.0, lost=9.0), 2, False),  # minutes are not spent three times
    ],
)
def test_how_often_a_test_may_fail(turn: Turn, turns: int, again: bool) -> None:
    assert turn.may_be_followed(turns) is again


def test_the_kernel_says_how_much_was_lost() -> None:
    before = seconds_lost()

    assert 0.0 < before <= seconds_lost()
