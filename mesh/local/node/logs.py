"""What containers print, copied to bounded files; a full disk loses lines, never a pod."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from pathlib import Path

LIMIT = 8 * 1024 * 1024  # bytes of one file; the older half goes to NAME.log.1 beyond it
_CHUNK = 65536

log = logging.getLogger(__name__)


class LogFile:
    """One container's log. Appends; rotates at `limit`; swallows a full disk."""

    def __init__(self, path: Path, *, limit: int = LIMIT) -> None:
        self._path = path
        self._limit = limit
        self._fd = -1
        self._size = 0
        self._lost = False
        self._open()

    def _open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._fd = os.open(self._path, flags, 0o640)
            self._size = os.fstat(self._fd).st_size
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        if not self._lost:
            log.warning("container log lost path=%s error=%s", self._path, error.strerror)
        self._lost = True

    def write(self, data: bytes) -> None:
        """Append; what does not fit on the disk is lost."""
        if self._size + len(data) > self._limit:
            self.close()
            with contextlib.suppress(OSError):
                os.replace(self._path, self._path.with_name(self._path.name + ".1"))
            self._open()
        if self._fd < 0:
            self._open()
        if self._fd < 0:
            return
        try:
            self._size += os.write(self._fd, data)
            self._lost = False
        except OSError as error:
            self._failed(error)

    def close(self) -> None:
        """Close the file; writing again opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Drain:
    """Reads a pipe into a LogFile until every writer has closed it."""

    def __init__(self, reading: int, target: LogFile) -> None:
        os.set_blocking(reading, False)
        self._reading = reading
        self._target = target
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(reading, self._on_readable)

    def _on_readable(self) -> None:
        try:
            data = os.read(self._reading, _CHUNK)
        except BlockingIOError:
            return
        if data:
            self._target.write(data)
        else:
            self.close()

    def close(self) -> None:
        """Take what is there and stop."""
        if self._reading < 0:
            return
        with contextlib.suppress(OSError):
            while data := os.read(self._reading, _CHUNK):
                self._target.write(data)
        self._loop.remove_reader(self._reading)
        os.close(self._reading)
        self._reading = -1
        self._target.close()
        if not self.done.done():
            self.done.set_result(None)
