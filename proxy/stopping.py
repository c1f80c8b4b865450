"""When a proxy ends: one state machine for every kind of pod, without a knob. Pure.

Serving, until SIGTERM comes or until destination says that every application container has ended
for good: an ordinary sidecar would otherwise keep its Job from completing. Then draining:
not ready, but connections are still taken, since peers hear of it later than we do, and
outbound stays for as long as the application may need it. Ended as soon as the application is
gone and nothing has been open for QUIET seconds; at the hard stop in any case.

The application is gone when destination says so. A native sidecar gets SIGTERM only after the
last application container has ended, so there SIGTERM says it.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

QUIET: Final = 1.0  # seconds without a connection, since the last ones may still be on their way


class Phase(Enum):
    """Where a proxy stands; it never goes back."""

    SERVING = "serving"
    DRAINING = "draining"
    ENDED = "ended"


class Stopping:
    """The phases of one proxy. The caller passes the time, in seconds of one clock."""

    __slots__ = ("_deadline", "_hard_stop", "_is_native", "_quiet_since", "phase")

    def __init__(self, *, is_native: bool, hard_stop: float) -> None:
        """`hard_stop`: seconds from the beginning of draining to the end, whatever is open."""
        self._is_native = is_native
        self._hard_stop = hard_stop
        self._deadline = 0.0
        self._quiet_since = 0.0
        self.phase = Phase.SERVING

    def ask(self, now: float) -> None:
        """SIGTERM. A second one changes nothing."""
        if self.phase is Phase.SERVING:
            self.phase = Phase.DRAINING
            self._deadline = now + self._hard_stop
            self._quiet_since = now

    def step(self, now: float, *, opened: int, app_done: bool) -> Phase:
        """The phase by now, with `opened` connections, and what destination says of the
        application containers."""
        if self.phase is Phase.SERVING and app_done and not self._is_native:
            self.ask(now)
        if self.phase is not Phase.DRAINING:
            return self.phase
        if opened:
            self._quiet_since = now
        is_app_gone = self._is_native or app_done
        if now >= self._deadline or (is_app_gone and now - self._quiet_since >= QUIET):
            self.phase = Phase.ENDED
        return self.phase
