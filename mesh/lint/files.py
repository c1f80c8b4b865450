"""Folders, files and stdin -> texts. The only part of lint and explain that reads a disk."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from mesh.core.errors import ConfigError

_SUFFIXES: Final = (".yaml", ".yml", ".json")
_LARGEST: Final = 32 << 20  # bytes of one file


def read_files(paths: Iterable[str]) -> list[tuple[str, str]]:
    """(name, text) of each file, folders with all below them, `-` for stdin.

    Raises ConfigError with everything that cannot be read.
    """
    found: list[tuple[str, str]] = []
    faults: list[str] = []
    for given in paths:
        if given == "-":
            found.append(("<stdin>", sys.stdin.read()))
            continue
        files = _files_of(Path(given))
        if not files:
            what = (
                "holds no .yaml, .yml or .json file" if Path(given).is_dir() else "does not exist"
            )
            faults.append(f"{given} {what}; give a file or folder of manifests with -f")
        for file in files:
            try:
                if file.stat().st_size > _LARGEST:
                    raise ValueError(f"expected at most {_LARGEST >> 20} MiB")
                found.append((str(file), file.read_text()))
            except (OSError, ValueError) as error:
                faults.append(f"{file} cannot be read: {error}")
    if faults:
        raise ConfigError(faults)
    return found


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path] if path.exists() else []
    return sorted(
        file
        for file in path.rglob("*")
        if file.suffix in _SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
