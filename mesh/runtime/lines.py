"""Lines to a descriptor that may be stuck, full or closed: each is written whole or counted
as lost, and nobody ever waits. What the lines say is not known here.

Descriptor 2 is shared with other processes (a shell, a supervisor), so its flags are not
touched: a pipe or a terminal is opened a second time for this, a socket is asked not to wait.
"""

from __future__ import annotations

import os
import select
import socket
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress


class LineWriter:
    """Where lines go. `lost` counts those that the descriptor did not take."""

    __slots__ = ("_close", "_fd", "_rest", "_send", "lost")

    def __init__(self, fd: int = 2) -> None:
        self._fd = fd
        self._send: Callable[[bytes], int] | None = None  # made when there is a line
        self._close: Callable[[], None] | None = None
        self._rest = b""  # the end of a line of which the beginning was taken
        self.lost = 0

    def write(self, lines: Sequence[str]) -> None:
        """Hand lines, each with its line end, to the descriptor. A line that it took in part
        is finished before the next ones, so that two never run into each other."""
        encoded = [line.encode("utf-8", "replace") for line in lines]
        data = b"".join((self._rest, *encoded))
        if self._send is None:
            self._send, self._close = _open(self._fd)
        try:
            taken = self._send(data)
        except OSError:  # BlockingIOError too: nothing was taken
            taken = 0
        if taken < len(self._rest):
            self._rest = self._rest[taken:]
            self.lost += len(encoded)
            return
        taken -= len(self._rest)
        self._rest = b""
        for number, line in enumerate(encoded):
            if taken < len(line):
                self._rest = line[taken:] if taken else b""
                self.lost += len(encoded) - number - (1 if taken else 0)
                return
            taken -= len(line)

    def close(self) -> None:
        """Give back what was opened here; the descriptor itself stays open."""
        if self._close is not None:
            self._close()
        self._send = self._close = None


_Opened = tuple[Callable[[bytes], int], Callable[[], None] | None]


def _open(fd: int) -> _Opened:
    """A write to `fd` that takes what fits and never waits, and how to give it back."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        mode = 0  # closed: each write says so
    if stat.S_ISSOCK(mode):
        sock = socket.socket(fileno=os.dup(fd))
        return lambda data: sock.send(data, socket.MSG_DONTWAIT), sock.close
    if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        return lambda data: os.write(fd, data), None  # a file: never stuck, at most full
    try:
        own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:  # a pipe of another user
        return lambda data: _write_if_ready(fd, data), None
    return lambda data: os.write(own, data), lambda: os.close(own)


def _write_if_ready(fd: int, data: bytes) -> int:
    """For a descriptor that waits: a pipe that polls writable takes PIPE_BUF bytes at once."""
    taken = 0
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    with suppress(OSError):
        while taken < len(data) and poll.poll(0) and taken % select.PIPE_BUF == 0:
            taken += os.write(fd, data[taken : taken + select.PIPE_BUF])
    return taken
