"""What takes long to make is kept outside the clone, in folders named by what decides them.

A folder's name holds the hash of all that goes in, so an edit makes a new one and the next run
on the same machine makes nothing. Two runs at a time make a thing once. Nothing is half made:
a thing gets its name only when it is whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

KEPT_VERSIONS: Final = 3  # of one thing, the newest by use


class BuildError(Exception):
    """A thing could not be made: what was expected, what came, and what to do."""


def cache_home() -> Path:
    """Where all of it is, under XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lightmesh"


def folder_of(name: str, decides: Mapping[str, bytes]) -> Path:
    """The folder of what these named contents decide."""
    digest = hashlib.sha256()
    for key in sorted(decides):
        digest.update(f"{key} {len(decides[key])}\n".encode() + decides[key])
    return cache_home() / f"{name}-{digest.hexdigest()[:16]}"


def kept(folder: Path, thing: str, make: Callable[[Path], None]) -> Path:
    """`folder/thing`, made now if it is not there: `make` gets a path on the same disk to fill.

    Raises what `make` raises; nothing is kept then.
    """
    path = folder / thing
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                with tempfile.TemporaryDirectory(dir=folder, prefix="making-") as made:
                    make(Path(made) / thing)
                    (Path(made) / thing).rename(path)
                _forget_old(folder)
    os.utime(folder)
    return path


def _forget_old(newest: Path) -> None:
    name = newest.name.rpartition("-")[0]
    folders = [
        path for path in newest.parent.glob(f"{name}-*") if len(path.name) == len(newest.name)
    ]
    for path in sorted(folders, key=lambda path: path.stat().st_mtime)[:-KEPT_VERSIONS]:
        if path != newest:
            shutil.rmtree(path, ignore_errors=True)
