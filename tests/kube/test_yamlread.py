"""YAML from anybody: deep nesting is an error with its place, in every command that reads YAML."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mesh.kube.yamlread import MAX_DEPTH, ManifestLoader, is_too_deep

_DEEP = {"flow": "[" * 100_000, "block": "- " * 100_000, "json": '{"a":' * 100_000}
_COMMANDS = {
    "inject": ["inject"],
    "uninject": ["uninject"],
    "lint": ["lint", "-f"],
    "values": ["install", "-f"],
    "openapi": ["profile", "web", "-n", "shop", "--open-api"],
}


@pytest.mark.parametrize("arguments", _COMMANDS.values(), ids=_COMMANDS)
@pytest.mark.parametrize("text", _DEEP.values(), ids=_DEEP)
def test_a_text_nested_too_deep_is_one_error(
    arguments: list[str], text: str, tmp_path: Path
) -> None:
    file = tmp_path / "deep.yaml"
    file.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "mesh", *arguments, str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 1, said[-500:]  # -11 would be a crash
    assert f"nested more than {MAX_DEPTH} levels deep" in said
    assert "Traceback" not in said


def test_the_deepest_that_is_taken_is_read() -> None:
    text = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert not is_too_deep(yaml.load(text, ManifestLoader))
    with pytest.raises(yaml.YAMLError, match="nested more than"):
        yaml.load(f"[{text}]", ManifestLoader)
    assert is_too_deep(yaml.load(f"[{text}]", yaml.SafeLoader))


def test_dates_are_texts() -> None:
    assert yaml.load("a: 2024-01-01", ManifestLoader) == {"a": "2024-01-01"}
