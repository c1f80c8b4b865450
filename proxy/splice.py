"""Bulk from one plaintext socket to another without copying: splice(2) through a pipe.

One direction of a tunnel. The transports stay, for the other direction and for the end; this
reads and writes duplicates of their sockets, after both sides have come to rest. Only worth
its four descriptors where a lot flows.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any, Final

PIPE: Final = 1 << 20  # bytes asked of the kernel; it may give less
_FLAGS: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_ROUNDS: Final = 4  # pipes full moved before others get their turn


class Splice:
    """Moves bytes until the source ends (`ended`) or something fails (`failed`)."""

    __slots__ = (
        "_ended",
        "_failed",
        "_fds",
        "_in_pipe",
        "_is_reading",
        "_is_writing",
        "_loop",
        "_moved",
        "_pipe_in",
        "_pipe_out",
        "_source",
        "_source_ended",
        "_target",
    )

    def __init__(
        self,
        loop: AbstractEventLoop,
        source: Any,
        target: Any,
        *,
        moved: Callable[[int], None],
        ended: Callable[[], None],
        failed: Callable[[OSError], None],
    ) -> None:
        """`source` and `target` are sockets with a file number. Raises OSError without fds."""
        self._loop = loop
        self._moved = moved
        self._ended = ended
        self._failed = failed
        self._in_pipe = 0
        self._source_ended = False
        self._is_reading = self._is_writing = False
        self._fds: list[int] = []
        try:
            self._source = self._own(os.dup(source.fileno()))
            self._target = self._own(os.dup(target.fileno()))
            out, into = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            self._pipe_out, self._pipe_in = self._own(out), self._own(into)
        except OSError:
            self.close()
            raise
        with contextlib.suppress(OSError):  # beyond the user's pipe pages: smaller steps
            fcntl.fcntl(self._pipe_in, fcntl.F_SETPIPE_SZ, PIPE)
        self._read_on()

    def close(self) -> None:
        """Stop, and give all descriptors back."""
        self._pause_reading()
        self._pause_writing()
        fds, self._fds = self._fds, []
        for fd in fds:
            os.close(fd)

    def _own(self, fd: int) -> int:
        self._fds.append(fd)
        return fd

    def _readable(self) -> None:
        try:
            for _ in range(_ROUNDS):
                got = os.splice(self._source, self._pipe_in, PIPE, flags=_FLAGS)
                if not got:
                    self._source_ended = True
                    break
                self._in_pipe += got
                self._drain()
                if self._in_pipe:
                    break
        except BlockingIOError:
            pass
        except OSError as error:
            self._fail(error)
            return
        if self._in_pipe:
            self._pause_reading()
            self._write_on()
        elif self._source_ended:
            self._finish()

    def _writable(self) -> None:
        try:
            self._drain()
        except OSError as error:
            self._fail(error)
            return
        if not self._in_pipe:
            self._pause_writing()
            if self._source_ended:
                self._finish()
            else:
                self._read_on()

    def _drain(self) -> None:
        """From the pipe into the target, as far as it takes it."""
        with contextlib.suppress(BlockingIOError):
            while self._in_pipe:
                sent = os.splice(self._pipe_out, self._target, self._in_pipe, flags=_FLAGS)
                self._in_pipe -= sent
                self._moved(sent)

    def _finish(self) -> None:
        self.close()
        self._ended()

    def _fail(self, error: OSError) -> None:
        self.close()
        self._failed(error)

    def _read_on(self) -> None:
        self._is_reading = True
        self._loop.add_reader(self._source, self._readable)

    def _pause_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._source)

    def _write_on(self) -> None:
        if not self._is_writing:
            self._is_writing = True
            self._loop.add_writer(self._target, self._writable)

    def _pause_writing(self) -> None:
        if self._is_writing:
            self._is_writing = False
            self._loop.remove_writer(self._target)
