"""The parts of the demonstration that meet the machine: its kubectl, commands that hang."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mesh.local.demo import DemoError, Stage, find_kubectl


def kubectl_that_says(folder: Path, text: str) -> None:
    program = folder / "kubectl"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("major", "minor", "is_taken"),
    [
        ("1", "28", True),
        ("1", "34", True),
        ("1", "30+", True),  # as GKE writes it
        ("2", "0", True),
        ("1", "27", False),
        ("1", "20", False),
        ("1", "", False),
        ("one", "28", False),
    ],
)
def test_a_kubectl_older_than_1_28_is_not_taken(
    major: str, minor: str, is_taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"clientVersion": {"major": major, "minor": minor}}
    kubectl_that_says(tmp_path, json.dumps(answer))
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")

    assert (find_kubectl() == str(tmp_path / "kubectl")) is is_taken


@pytest.mark.parametrize("answer", ["", "Client Version: v1.34.0", "[]", '{"clientVersion": 5}'])
def test_a_kubectl_that_says_anything_else_is_not_taken(
    answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubectl_that_says(tmp_path, answer)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")

    assert find_kubectl() is None


def test_no_kubectl_at_all_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_kubectl() is None


def test_a_command_that_hangs_is_one_error_with_what_to_do(tmp_path: Path) -> None:
    program = tmp_path / "kubectl"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    stage = Stage(tmp_path / "kubeconfig", str(program), None, patience=0.2)

    with pytest.raises(DemoError, match=r"kubectl apply -f -: no end after 0 s; .*mesh local down"):
        stage.apply("")
