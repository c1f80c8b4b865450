"""The release before this one: its sources from git, its wheel, and what the wheel holds.

`tests/previous-release` names it: a version and a commit. What is made of it is kept outside
the clone. Nothing here changes the clone or asks anybody else: its history must be there.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.cache import BuildError, folder_of, kept

REPOSITORY: Final = Path(__file__).parents[2]
NAMED_IN: Final = REPOSITORY / "tests" / "previous-release"


@dataclass(frozen=True)
class Release:
    """One release of this repository."""

    version: str
    commit: str


@functools.cache
def previous_release() -> Release:
    """The release before this one."""
    version, commit = NAMED_IN.read_text().split()
    return Release(version, commit)


@contextmanager
def sources_of(release: Release) -> Iterator[Path]:
    """A folder with the sources of a release, for a while. Raises BuildError."""
    git = ["git", "-C", str(REPOSITORY), "archive", release.commit]
    packed = subprocess.run(git, capture_output=True, check=False)
    if packed.returncode != 0:
        raise BuildError(
            f"this clone has no commit {release.commit[:12]}, which is release {release.version} "
            f"({NAMED_IN.relative_to(REPOSITORY)}): get the whole history with  "
            "git fetch --unshallow"
        )
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["tar", "x", "-C", folder], input=packed.stdout, check=True)
        yield Path(folder)


def packages_of(release: Release) -> Path:
    """A folder with what the release's wheel installs. Raises BuildError."""
    decides = {"commit": release.commit.encode(), "this": Path(__file__).read_bytes()}
    return kept(folder_of("release", decides), "packages", lambda made: _make(release, made))


def _make(release: Release, made: Path) -> None:
    with sources_of(release) as sources:
        wheels = made.with_name("wheels")
        build = ["pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
        build += ["--no-build-isolation", "-w", str(wheels), str(sources)]
        done = subprocess.run(
            [sys.executable, "-m", *build], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise BuildError(f"the wheel of {release.version} cannot be built: {done.stderr}")
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(made)


def run_previous(*arguments: str, text: str = "", environ: dict[str, str] | None = None) -> str:
    """The stdout of one `python ...` with the packages of the release before. Raises BuildError."""
    packages = packages_of(previous_release())
    done = subprocess.run(
        [sys.executable, "-P", *arguments],
        input=text,
        env={**os.environ, **(environ or {}), "PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode != 0:
        raise BuildError(f"{' '.join(arguments)}\n{done.stdout}\n{done.stderr}")
    return done.stdout
