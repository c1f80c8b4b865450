"""Copies of requests that go elsewhere, and whose answers nobody waits for.

A copy is an exchange of its own with nobody behind it: it never slows the client down, is
dropped when its server does not keep up, and there are only so many at once.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from mesh.core.errors import PeerError
from mesh.core.model import Mirror
from proxy.attempts import journey_of, lost_outcome
from proxy.exchange import MAX_REPLAY, ClientSide, Exchange, Pipeline
from proxy.guard import Fields
from proxy.hop import Hop
from proxy.http1 import Request, Response
from proxy.native import mypyc_attr
from proxy.plan import Plan

if TYPE_CHECKING:
    from proxy.outbound import Outbound

MOST: Final = 256  # copies under way at once
SECONDS: Final = 30.0  # after which a copy is given up


class Mirrors(Pipeline):
    """All copies of one proxy; the pipeline of their exchanges."""

    def __init__(self, out: Outbound) -> None:
        self._out = out
        self._plans: dict[str, Plan] = {}
        self.active = 0
        self.seconds = SECONDS

    def copy(self, exchange: Exchange, mirrors: list[Mirror]) -> None:
        """Send a copy of a request to each mirror whose share is drawn."""
        for mirror in mirrors:
            if mirror.share < 1.0 and self._out.random() >= mirror.share:
                continue
            if self.active >= MOST:
                self._count(mirror.authority, "too-many")
                continue
            shadow = self._begin(exchange.request, mirror)
            if shadow is not None and exchange.request.length != 0:
                journey = journey_of(exchange)
                journey.mirrors = [*(journey.mirrors or ()), shadow]

    def _begin(self, request: Request, mirror: Mirror) -> Exchange | None:
        out = self._out
        plan = self._plan(mirror.authority)
        hop: Hop | None = plan.backend.pick(plan.backend.hops, out.random)
        if hop is None or (hop.mesh is None and out.requires_tls and not hop.is_local):
            self._count(mirror.authority, plan.why_nobody()[0].value.reason)
            return None
        nobody = Nobody()
        shadow = nobody.exchange = Exchange(nobody, self, request, monotonic())
        shadow.plan = plan
        shadow.timer = Limit(out.loop.call_later(self.seconds, shadow.client_gone, "timeout"))
        self.active += 1
        shadow.series = plan.series.get(hop) or out.targets.http_series(plan, hop)
        shadow.series.requests += 1
        if hop.mesh is not None:
            shadow.extra = plan.extra
        shadow.endpoint = hop
        shadow.load = hop.load
        hop.load.begin()
        connection = hop.take_stream() if request.is_http2 else hop.take()
        if connection is not None:
            shadow.attach(connection)
        else:
            hop.send_fresh(shadow, self._dial_failed)
        return shadow

    def _plan(self, authority: str) -> Plan:
        targets = self._out.targets
        plan = self._plans.get(authority)
        if plan is None:
            plan = self._plans[authority] = Plan(
                apex=authority,
                leaf=authority,
                backend=targets.backend(authority),
                budget=targets.budget(authority, None),
            )
        return plan

    def _dial_failed(self, exchange: Exchange, reason: str) -> None:
        exchange.attempt = None
        exchange.client_gone(reason)

    def _count(self, authority: str, reason: str) -> None:
        self._out.telemetry.count(
            "outbound_mirror_dropped_total", authority=authority, error=reason
        )

    # -- the pipeline of copies --------------------------------------------------------------

    def begin(self, exchange: Exchange) -> None: ...

    def lost(self, exchange: Exchange, reason: str) -> None:
        exchange.client_gone(lost_outcome(reason).value.reason)

    def responded(self, exchange: Exchange, response: Response) -> bool:
        return False

    def finished(self, exchange: Exchange, now: float) -> None:
        self.active -= 1
        if exchange.load is not None:
            exchange.load.pending -= 1
        status, error = exchange.status, exchange.error
        exchange.series.record(status, status >= 500 or error != "", error, exchange.started, now)
        if error:
            self._count(exchange.plan.leaf, error)

    def refused(self, error: PeerError) -> None: ...
    def closed(self, client: Any, error: BaseException | None) -> None: ...


class Limit:
    """The one timer of a copy."""

    __slots__ = ("_timer",)

    def __init__(self, timer: Any) -> None:
        self._timer = timer

    def cancel(self) -> None:
        self._timer.cancel()

    def request_ended(self) -> None: ...


@mypyc_attr(allow_interpreted_subclasses=True)
class Nobody(ClientSide):
    """The client of a copy: hears the answer and does not care."""

    __slots__ = ("exchange",)

    exchange: Exchange

    def send_response(self, response: Response) -> None: ...
    def send_body(self, data: bytes) -> None: ...
    def send_end(self, trailers: Fields | None) -> None: ...
    def flush(self) -> None: ...
    def refuse(self) -> bool:
        return False

    def cut(self, code: int = 0) -> None: ...
    def exchange_over(self, now: float) -> None: ...

    def tunnel(self) -> bytes:
        return b""

    def pause_reading(self) -> None:
        """The copy's server is slow, or not there yet. The client is not made to wait."""
        if self.exchange.request_bytes > MAX_REPLAY:
            self.exchange.client_gone("too-slow")

    def resume_reading(self) -> None: ...
