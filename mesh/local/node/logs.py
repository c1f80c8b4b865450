"""What containers print, copied to bounded files; a full disk loses lines, never a pod."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from pathlib import Path

LIMIT = 8 * 1024 * 1024  # bytes of one file; the older half goes to NAME.log.1 beyond it
_CHUNK = 65536
_LONGEST = 16384  # bytes of a line before it is cut

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


def stamp(seconds: float) -> bytes:
    """The time that begins each line of a log file: RFC 3339 with nanoseconds, and a space."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1e9):09d}Z ".encode()


class Lines:
    """Cuts what a container prints into stamped lines. Pure; the caller passes the time."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes, now: float) -> bytes:
        """The lines that are complete, or too long to wait for."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST:
            whole.append(self._rest)
            self._rest = b""
        head = stamp(now)
        return b"".join([head + line + b"\n" for line in whole])

    def flush(self, now: float) -> bytes:
        """What came last, without an end of line."""
        rest, self._rest = self._rest, b""
        return stamp(now) + rest + b"\n" if rest else b""


class Drain:
    """Reads a pipe into a LogFile until every writer has closed it."""

    def __init__(self, reading: int, target: LogFile) -> None:
        self._lines = Lines()
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
            self._write(self._lines.feed(data, time.time()))
        else:
            self.close()

    def _write(self, data: bytes) -> None:
        if data:
            self._target.write(data)

    def close(self) -> None:
        """Take what is there and stop."""
        if self._reading < 0:
            return
        with contextlib.suppress(OSError):
            while data := os.read(self._reading, _CHUNK):
                self._write(self._lines.feed(data, time.time()))
        self._write(self._lines.flush(time.time()))
        self._loop.remove_reader(self._reading)
        os.close(self._reading)
        self._reading = -1
        self._target.close()
        if not self.done.done():
            self.done.set_result(None)
