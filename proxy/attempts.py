"""What happens to an outbound request that did not simply succeed: another try, or an answer.

Everything here is off the usual path: failed connections, lost servers, timeouts, responses
that a route wants tried again. A retry goes out from a timer, never from within the call that
reported the failure, and only while budget, deadline, number and body allow it.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final

from mesh.core.labels import H_ATTEMPT, H_DEADLINE, H_RETRY
from mesh.core.model import Retry
from proxy import grpc, guard, retry
from proxy.answer import Outcome, dial_outcome
from proxy.deadline import parse_grpc_timeout, write_grpc_timeout, write_millis
from proxy.exchange import REFUSED, Exchange, Journey
from proxy.guard import Fields
from proxy.held import Held
from proxy.hop import Hop
from proxy.http1 import COLON, CRLF, Request, Response
from proxy.plan import Plan
from proxy.watch import Watch

if TYPE_CHECKING:
    from proxy.outbound import Outbound

_LOST: Final = {
    "bad-response": Outcome.BAD_RESPONSE,
    "tls-failed": Outcome.TLS_FAILED,
    REFUSED: Outcome.CONNECT_FAILED,
}
_NO: Final = b"no"

Resend = Callable[[Exchange], None]


def lost_outcome(reason: str) -> Outcome:
    """The outcome behind the reason why a server is lost."""
    return _LOST.get(reason, Outcome.SERVER_CLOSED)


def journey_of(exchange: Exchange) -> Journey:
    """The exchange's journey, begun if need be."""
    journey = exchange.journey
    if journey is None:
        journey = exchange.journey = Journey()
    return journey


class Attempts:
    """See the module. One for all outbound connections; `resend` is a connection's."""

    def __init__(self, out: Outbound) -> None:
        self._out = out
        self.at_once = retry.AT_ONCE

    # -- time --------------------------------------------------------------------------------

    def watch(self, exchange: Exchange, plan: Plan, deadline: float | None) -> None:
        """Start the timers of a request; `deadline` is what a caller further back allows."""
        seconds, outcome = plan.policy.request, Outcome.TIMEOUT
        if deadline is not None and (seconds is None or deadline - exchange.started < seconds):
            seconds, outcome = deadline - exchange.started, Outcome.DEADLINE
        if seconds is not None:
            journey_of(exchange).deadline = exchange.started + seconds
            seconds = max(0.0, seconds)
        watch = Watch(self._out.loop, exchange, plan.policy, self._fired)
        exchange.timer = watch
        watch.begin(seconds, outcome)
        watch.sent()

    def _fired(self, exchange: Exchange, outcome: Outcome) -> None:
        plan: Plan = exchange.plan
        if outcome is not Outcome.IDLE_TIMEOUT:
            self._note(exchange, plan, failed=True)
        asked = plan.retry is not None and plan.retry.on_timeout
        if outcome is Outcome.TRY_TIMEOUT and asked and self._again(exchange, plan):
            return
        self.answer(exchange, outcome)

    def tell(self, exchange: Exchange, plan: Plan, hop: Hop) -> None:
        """Say in headers how long this try may take, and to a proxy of ours which one it is."""
        journey = exchange.journey
        fields: Fields = []
        if journey is not None and journey.deadline is not None:
            left = journey.deadline - monotonic()
            fields += (H_DEADLINE, COLON, write_millis(left), CRLF)
            if exchange.request.is_http2:
                _shorten(exchange.request, left)
        if journey is not None and (journey.tries or not journey.budgeted):
            number = journey.tries + 1 + (not journey.budgeted)
            fields += (H_ATTEMPT, COLON, b"%d" % number, CRLF)
        if hop.mesh is not None:
            exchange.extra = plan.extra + fields

    def answer(
        self, exchange: Exchange, outcome: Outcome, detail: str = "", *, status: int = 0
    ) -> None:
        """Give up: tell the client why, which object is responsible, and the request's id."""
        exchange.answer(
            outcome,
            exchange.plan.origin,
            detail,
            status=status,
            more=self._out.journal.fields(exchange),
        )

    # -- failures ----------------------------------------------------------------------------

    def dial_failed(self, exchange: Exchange, reason: str) -> None:
        """No connection: nothing was sent, so another endpoint may be asked."""
        exchange.attempt = None
        plan: Plan = exchange.plan
        hop: Hop = exchange.endpoint
        self._out.discovery.connect_failed(hop.address, plan.leaf, reason)
        self._note(exchange, plan, failed=True)
        tried = exchange.tried = [*(exchange.tried or ()), hop]
        others = sum(other not in tried for other in plan.backend.hops)
        if retry.after_connect_failure(len(tried), others):
            exchange.pipeline.resend(exchange)  # type: ignore[attr-defined]
        else:
            self._fail(exchange, plan, dial_outcome(reason), reason)

    def lost(self, exchange: Exchange, reason: str) -> None:
        """The server went away, or refused, before a byte of its response."""
        plan: Plan = exchange.plan
        if reason == REFUSED:
            tried = exchange.tried = [*(exchange.tried or ()), exchange.endpoint]
            others = sum(other not in tried for other in plan.backend.hops)
            is_quick = monotonic() - exchange.sent < self.at_once
            if retry.after_refusal(exchange, len(tried), others=others, is_quick=is_quick):
                exchange.pipeline.resend(exchange)  # type: ignore[attr-defined]
                return
        elif retry.after_rejection(exchange, reason):
            self.dial_failed(exchange, reason)
            return
        elif retry.after_dead_connection(exchange, reason):
            exchange.tried = []
            exchange.endpoint.send_fresh(exchange, self.dial_failed)
            return
        self._note(exchange, plan, failed=True)
        self._fail(exchange, plan, lost_outcome(reason), "", reset=True)

    def _fail(
        self, exchange: Exchange, plan: Plan, outcome: Outcome, detail: str, *, reset: bool = False
    ) -> None:
        rule = plan.retry
        if (
            rule is not None
            and (
                (reset and rule.on_reset)
                or outcome.value.status in plan.statuses
                or (rule.grpc and exchange.request.is_http2 and 14 in rule.grpc)
            )
            and self._again(exchange, plan)
        ):
            return
        self.answer(exchange, outcome, detail)

    # -- responses ---------------------------------------------------------------------------

    def examine(self, exchange: Exchange, plan: Plan, response: Response) -> bool:
        """Look at a response head. True: it is thrown away and the request sent again."""
        if exchange.code is not None or not exchange.request.is_http2 or response.status >= 500:
            failed = response.status >= 500 or exchange.code in grpc.FAILURES
            self._note(exchange, plan, failed=failed)
        rule = plan.retry
        if (
            rule is not None
            and not response.upgrade
            and retry.is_asked_for(rule, plan.statuses, response.status, response.fields)
            and guard.get(response.fields, H_RETRY) != _NO
            and self._again(exchange, plan, answered=True)
        ):
            return True
        if (
            response.status == 502
            and retry.is_dropped(exchange, response.fields)
            and any(hop is not exchange.endpoint for hop in plan.backend.hops)
            and self._again(exchange, plan, retry.ELSEWHERE, answered=True)
        ):
            return True
        if rule is not None and not response.is_whole and self._may_fail_late(exchange, rule):
            Held(self._out.loop, exchange, response, self)
            return True
        self.pass_on(exchange, response)
        return False

    def pass_on(self, exchange: Exchange, response: Response) -> None:
        """A head goes to the client, as the rule changes it."""
        plan: Plan = exchange.plan
        if exchange.timer is not None:
            exchange.timer.responded(is_tunnel=bool(response.upgrade))
        if plan.filters is not None and plan.filters.changes_response:
            original = exchange.journey.original if exchange.journey is not None else None
            response.fields = plan.filters.response(original or exchange.request, response.fields)

    def _may_fail_late(self, exchange: Exchange, rule: Retry) -> bool:
        """Whether what looks like success may end with a code that the rule wants tried again."""
        return (
            exchange.request_done
            and exchange.status == 200
            and exchange.code is None
            and (rule.on_failure or bool(rule.grpc))
            and grpc.is_grpc(exchange.request)
            and self._may_go_again(exchange, rule)
        )

    def failed_late(self, exchange: Exchange, trailers: Fields | None) -> bool:
        """A gRPC call is over without a message: whether it goes out once more."""
        plan: Plan = exchange.plan
        rule = plan.retry
        fields = trailers or []
        if (
            rule is None
            or not retry.is_asked_for(rule, frozenset(), 200, fields)
            or guard.get(fields, H_RETRY) == _NO
        ):
            return False
        self._note(exchange, plan, failed=exchange.code in grpc.FAILURES)
        return self._again(exchange, plan, answered=True)

    def ended(self, exchange: Exchange, plan: Plan) -> None:
        """An HTTP/2 response is over; only now may it be known how."""
        if exchange.status < 500 and not exchange.error:
            self._note(exchange, plan, failed=exchange.code in grpc.FAILURES)

    def _note(self, exchange: Exchange, plan: Plan, *, failed: bool) -> None:
        if plan.backend.breakers is not None and exchange.endpoint is not None:
            plan.backend.note(exchange.endpoint, failed=failed)

    # -- again -------------------------------------------------------------------------------

    def _again(
        self, exchange: Exchange, plan: Plan, rule: Retry | None = None, *, answered: bool = False
    ) -> bool:
        """Send the request once more, in a while, if everything allows it. The rule is the
        route's where none is given."""
        rule = rule or plan.retry
        journey = journey_of(exchange)
        if rule is None or not self._may_go_again(exchange, rule):
            return False
        if not plan.backend.hops and (plan.drawn is None or plan.drawn.only is not None):
            return False  # nobody is left to ask
        now = monotonic()
        wait = retry.backoff(rule, journey.tries, self._out.random())
        if journey.deadline is not None and now + wait >= journey.deadline:
            return False
        if not plan.budget.withdraw(now):
            self._out.telemetry.count(
                "outbound_http_retry_overflow_total", authority=plan.apex or "-"
            )
            self._out.lineage.overflowed(now)
            return False
        series = exchange.series
        if series is not None:
            series.retried += 1
        journey.tries += 1
        hop = exchange.endpoint
        if hop is not None and hop not in (exchange.tried or ()):
            exchange.tried = [*(exchange.tried or ()), hop]
        if exchange.held is not None:
            exchange.held.drop()
        exchange.take_back(answered=answered)
        exchange.status = 0
        if exchange.timer is not None:
            exchange.timer.between()
        exchange.attempt = self._out.loop.call_later(wait, self._go, exchange)
        return True

    def _may_go_again(self, exchange: Exchange, rule: Retry) -> bool:
        """Whether number, body and lineage allow one more try: what belongs to a second try
        itself is not tried again, since who began that goes on."""
        journey = journey_of(exchange)
        return journey.budgeted and retry.may_go_again(exchange, rule, journey.tries)

    def _go(self, exchange: Exchange) -> None:
        exchange.attempt = None
        exchange.pipeline.resend(exchange, redraw=True)  # type: ignore[attr-defined]


def allowed(request: Request) -> float | None:
    """Seconds that a gRPC client allows for its request."""
    value = guard.get(request.fields, b"grpc-timeout")
    return parse_grpc_timeout(value) if value is not None else None


def _shorten(request: Request, left: float) -> None:
    """Make `grpc-timeout` no longer than what is left."""
    fields = request.fields
    for i in range(0, len(fields), 4):
        if fields[i].lower() == b"grpc-timeout":
            seconds = parse_grpc_timeout(fields[i + 2])
            if seconds is None or seconds > left:
                fields[i + 2] = write_grpc_timeout(left)
