"""The timers of one exchange: whole request, one try, response, idleness, stream.

Made only where a plan has timeouts. Bytes cost nothing: idleness is looked at now and then.
Which try timed out and what becomes of the request is the pipeline's.
"""

from __future__ import annotations

from collections.abc import Callable
from random import random
from typing import Any, Final

from mesh.core.model import Policy
from proxy.answer import Outcome
from proxy.backends import Clock
from proxy.exchange import Exchange

JITTER: Final = 0.1  # of a stream's life, so that streams do not all end at once
_LOOKS: Final = 4  # at idleness within its limit

Fired = Callable[[Exchange, Outcome], None]


class Watch:
    """See the module. The pipeline says what happens; `cancel` ends all."""

    __slots__ = ("_clock", "_exchange", "_fired", "_looks", "_policy", "_seen", "_timers")

    def __init__(
        self,
        clock: Clock,
        exchange: Exchange,
        policy: Policy,
        fired: Fired,
    ) -> None:
        self._clock = clock
        self._exchange = exchange
        self._policy = policy
        self._fired = fired
        self._timers: dict[Outcome | str, Any] = {}
        self._seen = 0
        self._looks = 0

    def begin(self, seconds: float | None, outcome: Outcome) -> None:
        """The request is here and may take so many seconds, retries included."""
        if seconds is not None:
            self._start(outcome, seconds)
        if self._policy.response is not None and self._exchange.request_done:
            self._start(Outcome.RESPONSE_TIMEOUT, self._policy.response)
        if self._policy.idle is not None:
            self._start_looking(self._policy.idle)

    def sent(self) -> None:
        """A try begins."""
        policy = self._policy
        times = [t for t in (policy.attempt, policy.headers) if t is not None]
        if policy.headers is not None and (
            policy.attempt is None or policy.headers < policy.attempt
        ):
            self._start("headers", policy.headers, Outcome.TRY_TIMEOUT)
        elif times:
            self._start("attempt", min(times), Outcome.TRY_TIMEOUT)

    def responded(self, *, is_tunnel: bool) -> None:
        """The response that the client gets has begun. A tunnel has no end to wait for: only
        silence and the life of a stream limit it."""
        policy = self._policy
        if is_tunnel:
            for name in (Outcome.TIMEOUT, Outcome.DEADLINE, Outcome.RESPONSE_TIMEOUT):
                self._stop(name)
            self.between()
        if self._stop("headers") and policy.attempt is not None and policy.headers is not None:
            self._start("attempt", policy.attempt - policy.headers, Outcome.TRY_TIMEOUT)
        if policy.stream is not None:
            life = policy.stream * (1.0 - JITTER * random())
            self._start("stream", life, Outcome.STREAM_ENDED)

    def between(self) -> None:
        """A try has ended, another may come."""
        self._stop("headers")
        self._stop("attempt")

    def request_ended(self) -> None:
        if self._policy.response is not None:
            self._start(Outcome.RESPONSE_TIMEOUT, self._policy.response)

    def cancel(self) -> None:
        timers, self._timers = self._timers, {}
        for timer in timers.values():
            timer.cancel()

    def _start(self, name: Outcome | str, seconds: float, outcome: Outcome | None = None) -> None:
        self._stop(name)
        why = outcome or (name if isinstance(name, Outcome) else Outcome.TIMEOUT)
        self._timers[name] = self._clock.call_later(seconds, self._fire, name, why)

    def _stop(self, name: Outcome | str) -> bool:
        timer = self._timers.pop(name, None)
        if timer is None:
            return False
        timer.cancel()
        return True

    def _fire(self, name: Outcome | str, outcome: Outcome) -> None:
        self._timers.pop(name, None)
        self._fired(self._exchange, outcome)

    def _start_looking(self, seconds: float) -> None:
        self._timers["idle"] = self._clock.call_later(seconds / _LOOKS, self._look, seconds)

    def _look(self, seconds: float) -> None:
        self._timers.pop("idle", None)
        exchange = self._exchange
        moved = exchange.request_bytes + exchange.response_bytes
        self._looks = 0 if moved != self._seen else self._looks + 1
        self._seen = moved
        if self._looks >= _LOOKS:
            self._fired(exchange, Outcome.IDLE_TIMEOUT)
        else:
            self._start_looking(seconds)
