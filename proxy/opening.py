"""The first bytes of a connection, kept until somebody knows what it speaks."""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from typing import Any, Final, TypeVar

from proxy.seams import Transport

SILENCE: Final = 0.025  # seconds after which a silent client makes us ask the server
TURN: Final = 0.001  # seconds, the least that lets a loop read before a timer fires
MUTE: Final = 60.0  # seconds of silence after which one who has to speak first is hung up on
SHORT: Final = 1.0  # seconds in which a first segment has to be completed
MAX_FIRST: Final = 64 * 1024  # bytes kept at most

V = TypeVar("V")


class Opening:
    """The receiver of a fresh connection. `lost` is called when it ends before it is taken."""

    __slots__ = (
        "_began",
        "_decide",
        "_is_paused",
        "_timer",
        "data",
        "ended",
        "loop",
        "on_lost",
        "transport",
    )

    def __init__(self, transport: Transport, loop: AbstractEventLoop, lost: Callable[[], None]):
        self.transport = transport
        self.loop = loop
        self._began = loop.time()
        self.data = b""
        self.ended = False
        self._is_paused = False
        self.on_lost = lost
        self._decide: Callable[[], None] | None = None
        self._timer: TimerHandle | None = None

    def decide(
        self,
        look: Callable[[bytes], V | None],
        done: Callable[[V], None],
        *,
        otherwise: V,
        silence: float | None = None,
        silent: Callable[[], None] | None = None,
        stalled: Callable[[bytes], V] | None = None,
    ) -> None:
        """Call `done` with what `look` says, or with `otherwise` when the bytes end or stall;
        for bytes that stall `stalled` may know better.

        A client that has said nothing for `silence` seconds makes us call `silent` once, and
        the look goes on.
        """
        self._stop_timer()
        is_silent = silence is not None and not self.data

        def finish(verdict: V) -> None:
            self._decide = None
            self._stop_timer()
            done(verdict)

        def on_stall() -> None:
            finish(otherwise if stalled is None else stalled(self.data))

        def attempt() -> None:
            verdict = look(self.data)
            if verdict is None and (self.ended or len(self.data) >= MAX_FIRST):
                verdict = otherwise
            if verdict is not None:
                finish(verdict)
            elif self.data and self._timer is None:
                self._timer = self.loop.call_later(SHORT, on_stall)

        def on_data() -> None:
            nonlocal is_silent
            if is_silent:
                is_silent = False
                self._stop_timer()
            attempt()

        def on_time() -> None:
            # A loop that was held up looks at its clock before it reads what came meanwhile.
            self._timer = self.loop.call_later(TURN, on_silence)

        def on_silence() -> None:
            nonlocal is_silent
            self._timer = None
            is_silent = False
            if silent is not None:
                silent()

        self._decide = on_data
        if is_silent and not self.ended:
            self._timer = self.loop.call_later(silence or 0.0, on_time)
        else:
            attempt()

    @property
    def age(self) -> float:
        """Seconds since the connection came."""
        return self.loop.time() - self._began

    def take(self, receiver: Any) -> None:
        """Hand the connection over, with the bytes that came so far."""
        self._decide = None
        self._stop_timer()
        self.on_lost = _ignore
        self.transport.set_protocol(receiver)
        if self._is_paused and not self.transport.is_closing():
            self.transport.resume_reading()  # before the receiver has its say
        data, self.data = self.data, b""
        if data and not self.transport.is_closing():
            receiver.data_received(data)
        if self.ended and not self.transport.is_closing() and not receiver.eof_received():
            self.transport.close()

    def close(self) -> None:
        self._decide = None
        self._stop_timer()
        self.transport.abort()

    # -- receiver ----------------------------------------------------------------------------

    def connection_made(self, transport: Transport) -> None: ...

    def data_received(self, data: bytes) -> None:
        self.data += data
        if len(self.data) >= MAX_FIRST and not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()
        if self._decide is not None:
            self._decide()

    def eof_received(self) -> bool:
        self.ended = True
        if self._decide is not None:
            self._decide()
        return True

    def connection_lost(self, error: BaseException | None) -> None:
        self._decide = None
        self._stop_timer()
        self.on_lost()

    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _ignore() -> None:
    """Whoever took the connection hears of its end."""
