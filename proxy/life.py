"""The life of a proxy: wait until it knows enough, serve, drain, end.

Sockets listen from the start, but data-path connections are taken only once there is a leaf
and a first view, so that nothing goes out in plaintext for want of waiting; a control plane
that stays away does not hold a pod up for more than HOLD seconds. When to end is decided in
`proxy.stopping`; while draining everything goes on, and answers say `Connection: close`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from time import monotonic
from typing import Final

from proxy.memory import settle
from proxy.seams import Credentials, Discovery
from proxy.settings import Settings
from proxy.stopping import Phase, Stopping

log = logging.getLogger(__name__)

HOLD: Final = 5.0  # seconds to wait for leaf and view before taking connections all the same
TELL: Final = 0.8  # seconds until the log says what the proxy waits for


class Life:
    """See the module. Who serves traffic, this process or its workers, is the subclass's."""

    def __init__(
        self, settings: Settings, *, discovery: Discovery, credentials: Credentials
    ) -> None:
        self._settings = settings
        self._discovery = discovery
        self._credentials = credentials
        self._stopping = Stopping(
            is_native=settings.native_sidecar, hard_stop=settings.drain_timeout
        )
        self._asked = asyncio.Event()

    # -- the subclass says -------------------------------------------------------------------

    async def serve(self) -> None:
        """Take connections of the data path."""
        raise NotImplementedError

    def tick(self, now: float) -> None:
        """Called every second; ten times a second while draining."""
        raise NotImplementedError

    def opened(self) -> int:
        """Connections of clients that are open."""
        raise NotImplementedError

    def drain(self) -> None:
        """Finish what is in hand."""
        raise NotImplementedError

    def report(self) -> None:
        """Tell destination what was counted."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close everything at once."""
        raise NotImplementedError

    # -- from start to end -------------------------------------------------------------------

    def is_ready(self) -> bool:
        """Leaf and first view are there, and the end has not begun."""
        return not self.waiting_for()

    def waiting_for(self) -> list[str]:
        """What keeps this proxy from being ready, for people; empty when it is."""
        if self._stopping.phase is not Phase.SERVING:
            return ["nothing: stopping"]
        waits, settings = [], self._settings
        if not self._credentials.ready:
            reason = self._credentials.last_reason or "no answer yet"
            waits.append(f"a certificate from {_place(settings.identity_address)} ({reason})")
        if not self._discovery.ready:
            reason = self._discovery.last_reason or "no answer yet"
            waits.append(f"the first view from {_place(settings.destination_address)} ({reason})")
        return waits

    async def run(self) -> None:
        """Serve until asked to end, or until the application has ended; then drain."""
        await self._hold()
        await self.serve()
        log.info("serving ready=%s", self.is_ready())
        settle()
        while self._step() is Phase.SERVING:
            await self._sleep(1.0)
            self.tick(monotonic())
        log.info("draining open=%d", self.opened())
        self.drain()
        while self._step() is Phase.DRAINING:
            await asyncio.sleep(0.1)
            self.tick(monotonic())
        self.report()
        log.info("stopping open=%d", self.opened())
        await self.close()

    def end(self) -> None:
        """Ask to drain and stop, as SIGTERM does."""
        self._stopping.ask(monotonic())
        self._asked.set()

    def _step(self) -> Phase:
        done = self._discovery.view.app_done
        return self._stopping.step(monotonic(), opened=self.opened(), app_done=done)

    async def _hold(self) -> None:
        """Wait for leaf and view, but not for ever."""
        began, is_told = monotonic(), False
        while (waits := self.waiting_for()) and not self._asked.is_set():
            waited = monotonic() - began
            if waited >= HOLD:
                log.warning("serving before being ready: waiting for %s", ", ".join(waits))
                return
            if waited >= TELL and not is_told:
                is_told = True
                log.warning("not ready: waiting for %s", ", ".join(waits))
            await self._sleep(0.01)

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._asked.wait()


def _place(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"
