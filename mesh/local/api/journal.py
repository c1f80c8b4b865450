"""The journal that carries the store over a restart: one JSON line a change, then compaction.

A line holds the revision, the resource's key, namespace and name, and the object (null for
a removal). Compaction writes a new file with one line an object and renames it over the
old one. A torn last line (power loss, full disk) is cut off on opening; damage before the
last line is an error that names the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from mesh.core.errors import ApiError, ConfigError
from mesh.local.api.resources import Object

COMPACT_AT: Final = 8 << 20  # bytes of journal, at least, before it is rewritten


class Entry(NamedTuple):
    """One change: `obj` is None when the object was removed."""

    revision: int
    resource: str
    namespace: str
    name: str
    obj: Object | None


class Journal:
    """The open file. Appends are written at once; a failed append leaves no trace of itself."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = os.fstat(self._file).st_size
        self._compacted = 0
        self._encode = msgspec.json.Encoder().encode

    def replay(self) -> Iterator[Entry]:
        """The changes written so far; cuts a torn last line off the file."""
        decode = msgspec.json.Decoder(tuple[int, str, str, str, dict[str, object] | None]).decode
        good = 0
        with self._path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    if not line.endswith(b"\n"):
                        raise msgspec.DecodeError("the line has no end")
                    entry = Entry(*decode(line))
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    if lines.read(1):
                        raise ConfigError(
                            f"{self._path}: line {number} is damaged ({error}): "
                            "move the file away to start with an empty cluster"
                        ) from error
                    break
                good += len(line)
                yield entry
        if good < self._size:
            os.ftruncate(self._file, good)
            self._size = good
        self._compacted = self._size

    def append(self, entry: Entry) -> None:
        """Raises ApiError (507) and keeps the file as it was, when the disk does not take it."""
        line = self._encode(entry) + b"\n"
        try:
            written = os.write(self._file, line)
        except OSError as error:
            self._cut()
            raise self._refused(error) from error
        if written != len(line):
            self._cut()
            raise self._refused(OSError("the disk is full"))
        self._size += written

    def wants_compaction(self) -> bool:
        return self._size > max(COMPACT_AT, 4 * self._compacted)

    def compact(self, entries: Iterable[Entry]) -> None:
        """Rewrite the journal as these entries. On failure the old file stays in use."""
        fresh = self._path.with_suffix(".new")
        try:
            with fresh.open("wb") as out:
                os.fchmod(out.fileno(), 0o600)
                for entry in entries:
                    out.write(self._encode(entry) + b"\n")
                out.flush()
                os.fsync(out.fileno())
            opened = os.open(fresh, os.O_RDWR | os.O_APPEND)
            fresh.replace(self._path)
        except OSError:
            fresh.unlink(missing_ok=True)
            self._compacted = self._size  # try again only after it has grown again
            return
        os.close(self._file)
        self._file = opened
        self._size = self._compacted = os.fstat(opened).st_size

    def close(self) -> None:
        os.close(self._file)

    def _cut(self) -> None:
        os.ftruncate(self._file, self._size)

    def _refused(self, error: OSError) -> ApiError:
        return ApiError(
            507,
            "InsufficientStorage",
            f"mesh local cannot write {self._path}: {error.strerror or error}; "
            "nothing was changed: free some space and try again",
        )
