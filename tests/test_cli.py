"""The command line as a whole: what every command does when its output goes nowhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "deploy" / "examples"
COMMANDS = {
    "version": ["version"],
    "help": ["--help"],
    "install": ["install"],
    "uninstall": ["uninstall", "--force"],
    "inject": ["inject", str(EXAMPLES / "shop.yaml")],
    "lint": ["lint", "-f", str(EXAMPLES)],
    "lint-json": ["lint", "-f", str(EXAMPLES), "-o", "json"],
    "check": ["check"],
    "check-json": ["check", "-o", "json"],
    "local-status": ["local", "status", "--state", "/nonexistent"],
}


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_an_output_on_a_full_disk_is_one_line_and_exit_1(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = _mesh(*arguments, stdout=full.fileno())
    said = done.stderr.splitlines()
    assert done.returncode == 1
    assert said[-1] == ("mesh: the output cannot be written: [Errno 28] No space left on device")
    assert "Traceback" not in done.stderr


def test_a_reader_that_went_away_is_no_error_to_talk_about() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = _mesh("install", stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def _mesh(*arguments: str, stdout: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mesh", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, "KUBECONFIG": "/nonexistent"},
        text=True,
        check=False,
    )
