"""Transports in memory, alone or as the two ends of a wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class MemoryTransport:
    """Remembers what was written and who receives."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.protocol: Any = None
        self.other: MemoryTransport | None = None
        self.step = 0
        self.reading = True
        self.eof = False
        self._closing = self.is_aborted = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def carry(self) -> int:
        """Bring what was written to the other end; how many bytes that were."""
        data = b"".join(self.written)
        self.written.clear()
        receiver = self.other.protocol if self.other is not None else None
        step = self.step or len(data) or 1
        for at in range(0, len(data), step):
            if receiver is not None:
                receiver.data_received(data[at : at + step])
        return len(data)

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    def abort(self) -> None:
        self._closing = self.is_aborted = True

    def write_eof(self) -> None:
        self.eof = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.written))

    def get_extra_info(self, name: str) -> Any:
        return None


def connect(step: int = 0) -> tuple[MemoryTransport, MemoryTransport]:
    """Two ends; bytes move when `carry` is called, at most `step` at a time."""
    one, two = MemoryTransport(), MemoryTransport()
    one.other, two.other = two, one
    one.step = two.step = step
    return one, two


class NoLoop:
    """A loop for cores that never use it; timers are kept and never run."""

    def __init__(self) -> None:
        self.timers: list[Callable[..., None]] = []

    def call_later(self, delay: float, callback: Callable[..., None], *args: Any) -> NoLoop:
        self.timers.append(callback)
        return self

    def cancel(self) -> None: ...

    def time(self) -> float:
        return 0.0
