"""Handshakes that other proxies begin with this one: in time, within a budget, in turn.

Who fails too often has to stay away (`proxy.strikes`); who comes when the CPU time for
handshakes is used up waits for a turn (`proxy.turns`). What the peer proves is judged by the
caller.
"""

from __future__ import annotations

import ssl
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from typing import Final

from proxy.opening import Opening
from proxy.seams import peer_host
from proxy.strikes import Strikes
from proxy.tls import Flusher, TlsLink
from proxy.turns import Turns

HANDSHAKE_SECONDS: Final = 5.0  # with the time that it waits for its turn

Done = Callable[[TlsLink, BaseException | None], None]


class Handshakes:
    """All handshakes of one process with those who connect to it."""

    def __init__(self, loop: AbstractEventLoop, flusher: Flusher) -> None:
        self._loop = loop
        self._flusher = flusher
        self._strikes = Strikes()
        self._turns: Turns[Handshake] = Turns(loop.time())
        self._timer: TimerHandle | None = None

    def begin(
        self, opening: Opening, context: ssl.SSLContext, done: Done, refuse: Callable[[str], None]
    ) -> None:
        """Shake hands over `opening`, now or soon; `done` or `refuse` is called once, unless
        the client leaves while it waits."""
        address, now = peer_host(opening.transport), self._loop.time()
        if self._strikes.is_out(address, now):
            refuse("handshake-flood")
            return
        handshake = Handshake(self, address, opening, context, done, refuse)
        if self._turns.may_begin(now):
            handshake.start()
            return
        late = self._turns.queue(address, handshake)
        if late is not None:
            late.expire()
        self._schedule()

    def link(self, context: ssl.SSLContext, done: Done) -> TlsLink:
        return TlsLink(context, self._flusher, done, spent=self._turns.spend)

    def limit(self, late: Callable[[], None]) -> TimerHandle:
        return self._loop.call_later(HANDSHAKE_SECONDS, late)

    def failed(self, address: str) -> None:
        self._strikes.failed(address, self._loop.time())

    def _schedule(self) -> None:
        if self._timer is None and self._turns.waiting:
            self._timer = self._loop.call_later(self._turns.wait(self._loop.time()), self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        while (handshake := self._turns.next(self._loop.time())) is not None:
            handshake.start()
        self._schedule()


class Handshake:
    """One handshake, waiting or begun."""

    __slots__ = (
        "_address",
        "_all",
        "_context",
        "_done",
        "_is_begun",
        "_is_over",
        "_opening",
        "_refuse",
        "_timer",
    )

    def __init__(
        self,
        all_: Handshakes,
        address: str,
        opening: Opening,
        context: ssl.SSLContext,
        done: Done,
        refuse: Callable[[str], None],
    ) -> None:
        self._all = all_
        self._address = address
        self._opening = opening
        self._context = context
        self._done = done
        self._refuse = refuse
        self._is_begun = self._is_over = False
        self._timer = all_.limit(self.expire)

    def start(self) -> None:
        """It is its turn, if it still wants one."""
        if self._is_over:
            return
        if self._is_left:
            self._finish()
            self._opening.close()
            return
        self._is_begun = True
        link = self._all.link(self._context, self._ended)
        link.connection_made(self._opening.transport)
        self._opening.take(link)

    def expire(self) -> None:
        """It has taken too long, or too many wait."""
        if self._is_over:
            return
        is_left = not self._is_begun and self._is_left
        self._finish()
        if is_left:
            self._opening.close()
        else:
            self._refuse("handshake-timeout" if self._is_begun else "handshake-busy")

    @property
    def _is_left(self) -> bool:
        """Whether the client has given up while it waited: that costs no CPU time and no strike."""
        return self._opening.ended or self._opening.transport.is_closing()

    def _ended(self, link: TlsLink, error: BaseException | None) -> None:
        is_late = self._is_over  # refused, and so closed
        self._finish()
        if error is not None:
            self._all.failed(self._address)
        if not is_late:
            self._done(link, error)

    def _finish(self) -> None:
        self._is_over = True
        self._timer.cancel()
