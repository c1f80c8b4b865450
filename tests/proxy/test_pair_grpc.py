"""gRPC through two proxies: what its statuses, timeouts and retries mean to a rule."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from mesh.core.model import (
    BackendPolicy,
    Breaker,
    Filters,
    HeaderEdit,
    PathChange,
    Policy,
    Redirect,
    Retry,
    Rewrite,
)
from proxy.deadline import parse_grpc_timeout
from tests.proxy.h2_ends import GRPC, Application, End, Message, head
from tests.proxy.routing import endpoint, route
from tests.proxy.world import World, on_loop

OK = [(":status", "200"), ("content-type", "application/grpc")]
AGAIN = Retry(limit=1, grpc=(14,), backoff=0.001)


class Server:
    """Answers call number 1, 2, ... with the codes given, then 0; in trailers, or at once."""

    def __init__(self, *codes: int, at_once: bool = True, silent: bool = False) -> None:
        self._codes = list(codes)
        self._at_once = at_once
        self._silent = silent

    def __call__(self, end: End, number: int, message: Message) -> None:
        if self._silent:
            return
        code = [("grpc-status", str(self._codes.pop(0) if self._codes else 0))]
        if self._at_once:
            end.answer(number, [*OK, *code], b"", None)
        else:
            end.answer(number, OK, b"", code)


@contextlib.asynccontextmanager
async def served(
    folder: Path,
    server: Callable[[End, int, Message], None],
    *,
    policy: Policy | None = None,
    use: BackendPolicy | None = None,
    filters: Filters | None = None,
    meshed: bool = True,
) -> AsyncIterator[tuple[World, End, Application]]:
    application = Application(server)
    async with World(folder) as world:
        world.server.application = ("127.0.0.1", await application.start())
        end = endpoint(world, meshed=meshed)
        route(world, policy=policy, use=use, filters=filters, endpoints=(end,))
        client = End(*await world.client.connect(), client=True)
        try:
            yield world, client, application
        finally:
            await client.close()
            await application.close()


async def call(client: End, *fields: tuple[str, str]) -> Message:
    wanted = head("/shop.Orders/List", *GRPC, *fields, method="POST")
    number, answer = client.ask(wanted, end=False)
    await client.send(number, b"ask", end=True)
    await answer.ended.wait()
    return answer


def code_of(answer: Message) -> str:
    return dict(answer.trailers).get("grpc-status") or answer.get("grpc-status")


@pytest.mark.parametrize("meshed", [True, False])
@on_loop
async def test_a_code_that_the_route_names_is_tried_again(tmp_path: Path, meshed: bool) -> None:
    async with served(tmp_path, Server(14), policy=Policy(retry=AGAIN), meshed=meshed) as (
        _,
        client,
        application,
    ):
        answer = await call(client)
        await application.requests[1].ended.wait()

    assert code_of(answer) == "0"
    assert len(application.requests) == 2
    assert bytes(application.requests[1].body) == b"ask"


@on_loop
async def test_another_code_is_passed_on(tmp_path: Path) -> None:
    async with served(tmp_path, Server(5), policy=Policy(retry=AGAIN)) as (_, client, application):
        answer = await call(client)

    assert code_of(answer) == "5"
    assert len(application.requests) == 1


@pytest.mark.parametrize("meshed", [True, False])
@on_loop
async def test_the_clients_timeout_is_honoured_and_shortened(tmp_path: Path, meshed: bool) -> None:
    policy = Policy(request=2.0)
    async with served(tmp_path, Server(), policy=policy, meshed=meshed) as (_, client, application):
        await call(client, ("grpc-timeout", "30S"))
        await call(client, ("grpc-timeout", "900m"))

    seen = [parse_grpc_timeout(got.get("grpc-timeout").encode()) for got in application.requests]
    assert seen[0] is not None
    assert seen[1] is not None
    assert 0.9 < seen[0] <= 2.0
    assert seen[1] <= 0.9


@pytest.mark.parametrize(
    ("policy", "allowed", "reason"),
    [(None, "50m", "deadline-exceeded"), (Policy(request=0.05), "9S", "timeout")],
)
@on_loop
async def test_a_call_that_takes_too_long_ends_with_deadline_exceeded(
    tmp_path: Path, policy: Policy | None, allowed: str, reason: str
) -> None:
    async with served(tmp_path, Server(silent=True), policy=policy) as (_, client, _):
        answer = await call(client, ("grpc-timeout", allowed))

    assert (answer.status, code_of(answer)) == (200, "4")
    assert answer.get("mesh-reason").startswith(f"{reason}; HTTPRoute/shop/web#0")


def begin_only(end: End, number: int, message: Message) -> None:
    """A stream that says something and never ends."""
    end.h2.send_headers(number, OK)
    end.h2.send_data(number, b"tick")
    end.flush()


@on_loop
async def test_a_stream_that_has_lived_long_enough_ends_with_unavailable(tmp_path: Path) -> None:
    policy = Policy(stream=0.1)
    async with served(tmp_path, begin_only, policy=policy) as (_, client, _):
        answer = await call(client)

    assert (bytes(answer.body), code_of(answer)) == (b"tick", "14")


@pytest.mark.parametrize("at_once", [True, False])
@on_loop
async def test_failing_codes_break_an_endpoint(tmp_path: Path, at_once: bool) -> None:
    use = BackendPolicy(breaker=Breaker(max_failures=2, min_penalty=60.0))
    async with served(tmp_path, Server(14, 14, at_once=at_once), use=use) as (_, client, _):
        codes = [code_of(await call(client)) for _ in range(2)]
        refused = await call(client)

    assert codes == ["14", "14"]
    assert code_of(refused) == "14"
    assert refused.get("mesh-reason") == "all-broken; HTTPRoute/shop/web#0"


@on_loop
async def test_codes_that_are_the_callers_fault_break_nothing(tmp_path: Path) -> None:
    use = BackendPolicy(breaker=Breaker(max_failures=1, min_penalty=60.0))
    async with served(tmp_path, Server(5, 3, 16), use=use) as (_, client, _):
        codes = [code_of(await call(client)) for _ in range(4)]

    assert codes == ["5", "3", "16", "0"]


@pytest.mark.parametrize("at_once", [True, False])
@on_loop
async def test_failing_codes_count_as_failures(tmp_path: Path, at_once: bool) -> None:
    async with served(tmp_path, Server(14, 5, at_once=at_once)) as (world, client, _):
        for _ in range(3):
            await call(client)

        for pod, direction in ((world.client, "outbound"), (world.server, "inbound")):
            counts = [one.counts() for one in pod.server.telemetry.http.values()]
            total = (sum(c.requests for c in counts), sum(c.failures for c in counts))
            assert total == (3, 1), direction


@pytest.mark.parametrize("meshed", [True, False])
@on_loop
async def test_filters_change_http2_requests_too(tmp_path: Path, meshed: bool) -> None:
    filters = Filters(
        request=HeaderEdit(set=(("x-set", "1"),), remove=("user-agent",)),
        response=HeaderEdit(set=(("x-back", "2"),)),
        rewrite=Rewrite("orders.example", PathChange(prefix="/v2.Orders", matched="/shop.Orders")),
    )
    async with served(tmp_path, Server(), filters=filters, meshed=meshed) as (
        _,
        client,
        application,
    ):
        answer = await call(client, ("user-agent", "test"))

    got = application.requests[0]
    assert (got.get(":authority"), got.get(":path")) == ("orders.example", "/v2.Orders/List")
    assert (got.get("x-set"), got.get("user-agent"), got.get("host")) == ("1", "", "")
    assert (code_of(answer), answer.get("x-back")) == ("0", "2")


@on_loop
async def test_a_redirect_of_http2_is_answered_by_the_proxy(tmp_path: Path) -> None:
    filters = Filters(redirect=Redirect(hostname="else.where"))
    async with served(tmp_path, Server(), filters=filters) as (_, client, application):
        _, answer = client.ask(head("/a?b=1"))
        await answer.ended.wait()

    assert (answer.status, answer.get("location")) == (302, "http://else.where/a?b=1")
    assert application.requests == []
