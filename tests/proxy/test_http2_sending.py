"""The end of a body: a flag on its last frame where that has not gone, and never too early."""

from __future__ import annotations

import pytest

from proxy.batching import Batching
from proxy.http2_frames import DATA, END_STREAM, HEADER, STRANGER
from proxy.http2_sending import Sending, Stream
from tests.proxy.memory import MemoryTransport


class Wire:
    """A sending half on a transport that leaves a turn at a time."""

    def __init__(self, window: int) -> None:
        self.transport = MemoryTransport()
        self.batching = Batching(self.transport, lambda call: None)
        self.sending = Sending(self.batching, STRANGER)
        self.stream = Stream(1, window, 65_535)
        self.sending.streams[1] = self.stream

    def told(self) -> list[tuple[int, bool]]:
        """Sizes of the DATA frames that left, and which ended the stream."""
        self.batching.flush()
        data, at, frames = b"".join(self.transport.written), 0, []
        while at < len(data):
            high, low, kind, flags, _ = HEADER.unpack_from(data, at)
            size = high << 8 | low
            assert kind == DATA
            frames.append((size, bool(flags & END_STREAM)))
            at += 9 + size
        return frames


def test_the_end_rides_on_the_last_piece_of_the_same_turn() -> None:
    wire = Wire(65_535)

    wire.sending.send_data(wire.stream, b"one", False)
    wire.sending.send_data(wire.stream, b"two", False)
    wire.sending.send_end(wire.stream, None)

    assert wire.told() == [(3, False), (3, True)]


def test_what_has_left_is_ended_by_an_empty_frame() -> None:
    wire = Wire(65_535)

    wire.sending.send_data(wire.stream, b"one", False)
    wire.batching.flush()
    wire.sending.send_end(wire.stream, None)

    assert wire.told() == [(3, False), (0, True)]


def test_another_streams_piece_is_not_ended() -> None:
    wire = Wire(65_535)
    other = Stream(3, 65_535, 65_535)

    wire.sending.send_data(wire.stream, b"one", False)
    wire.sending.send_data(other, b"other", False)
    wire.sending.send_end(wire.stream, None)

    assert wire.told() == [(3, False), (5, False), (0, True)]


@pytest.mark.parametrize("window", [1, 100, 4000])
def test_the_end_waits_for_data_that_waits_for_a_window(window: int) -> None:
    wire = Wire(window)

    wire.sending.send_data(wire.stream, bytes(5000), False)
    wire.sending.send_end(wire.stream, None)
    assert wire.told() == [(window, False)]
    wire.stream.window += 10_000
    wire.sending._pump_all()

    frames = wire.told()
    assert sum(size for size, _ in frames) == 5000
    assert [ended for _, ended in frames] == [False] * (len(frames) - 1) + [True]


def test_nothing_is_sent_behind_the_end_of_a_connection() -> None:
    wire = Wire(65_535)

    wire.sending.send_data(wire.stream, b"one", False)
    wire.batching.write_eof()
    wire.sending.send_data(wire.stream, b"two", False)

    assert wire.told() == [(3, False)]
    assert wire.transport.eof
