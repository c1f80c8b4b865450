"""gRPC calls that fail only in their trailers: what a rule that retries them does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mesh.core.model import Policy
from mesh.core.route import CLASS_RETRY
from proxy.held import HOLD
from tests.proxy.h2_ends import GRPC, End, Message, head
from tests.proxy.routing import until
from tests.proxy.test_pair_grpc import AGAIN, OK, Server, call, code_of, served
from tests.proxy.world import World, on_loop


def total(world: World) -> tuple[int, int]:
    """Requests and failures that the client's proxy has counted."""
    counts = [one.counts() for one in world.client.server.telemetry.http.values()]
    return sum(c.requests for c in counts), sum(c.failures for c in counts)


def streams_of(world: World) -> list[object]:
    """What its applications ask of the client's proxy just now."""
    clients = world.client.server.keeper.clients
    return [stream for client in clients for stream in getattr(client, "streams", {}).values()]


@pytest.mark.parametrize("meshed", [True, False])
@on_loop
async def test_a_code_in_trailers_behind_an_empty_body_is_tried_again(
    tmp_path: Path, meshed: bool
) -> None:
    server = Server(14, at_once=False)
    async with served(tmp_path, server, policy=Policy(retry=AGAIN), meshed=meshed) as (
        world,
        client,
        application,
    ):
        answer = await call(client)

    assert (code_of(answer), len(application.requests)) == ("0", 2)
    assert answer.heads == 2  # one head, one block of trailers: nothing of the first try
    assert bytes(application.requests[1].body) == b"ask"
    assert total(world) == (1, 0)


@on_loop
async def test_a_last_try_that_fails_in_trailers_reaches_the_client_whole(tmp_path: Path) -> None:
    server = Server(14, 14, 14, at_once=False)
    async with served(tmp_path, server, policy=Policy(retry=AGAIN)) as (world, client, application):
        answer = await call(client)

    assert (code_of(answer), len(application.requests)) == ("14", 2)
    assert (answer.status, answer.get("grpc-status")) == (200, "")
    assert total(world) == (1, 1)


@on_loop
async def test_a_call_that_has_answered_is_not_tried_again(tmp_path: Path) -> None:
    def partly(end: End, number: int, message: Message) -> None:
        end.answer(number, OK, b"part", [("grpc-status", "14")])

    async with served(tmp_path, partly, policy=Policy(retry=AGAIN)) as (_, client, application):
        answer = await call(client)

    assert (code_of(answer), bytes(answer.body)) == ("14", b"part")
    assert len(application.requests) == 1


@on_loop
async def test_a_stream_that_begins_with_silence_still_begins(
    tmp_path: Path,
) -> None:
    opened: list[tuple[End, int]] = []

    def quiet(end: End, number: int, message: Message) -> None:
        end.h2.send_headers(number, OK)
        end.flush()
        opened.append((end, number))

    async with served(tmp_path, quiet, policy=Policy(retry=AGAIN)) as (_, client, application):
        number, answer = client.ask(head("/shop.Orders/Watch", *GRPC, method="POST"), end=False)
        await client.send(number, b"ask", end=True)
        await answer.headed.wait()  # HOLD at most
        assert not answer.ended.is_set()
        end, theirs = opened[0]
        end.h2.send_headers(theirs, [("grpc-status", "14")], end_stream=True)
        end.flush()
        await answer.ended.wait()

    assert (code_of(answer), len(application.requests)) == ("14", 1)


@on_loop
async def test_a_call_whose_client_still_sends_gets_its_head_at_once(tmp_path: Path) -> None:
    """It may wait for the head before it says more."""

    def greet(end: End, number: int, message: Message) -> None:
        end.h2.send_headers(number, OK)
        end.flush()

    async with served(tmp_path, greet, policy=Policy(retry=AGAIN)) as (_, client, _application):
        began = asyncio.get_running_loop().time()
        _, answer = client.ask(head("/shop.Orders/Talk", *GRPC, method="POST"), end=False)
        await answer.headed.wait()

        assert answer.status == 200
        assert asyncio.get_running_loop().time() - began < HOLD


@on_loop
async def test_a_server_that_minds_is_left_alone(tmp_path: Path) -> None:
    def minds(end: End, number: int, message: Message) -> None:
        end.answer(number, OK, b"", [("grpc-status", "14"), ("grpc-retry-pushback-ms", "-1")])

    async with served(tmp_path, minds, policy=Policy(retry=AGAIN)) as (_, client, application):
        answer = await call(client)

    assert (code_of(answer), len(application.requests)) == ("14", 1)


@on_loop
async def test_a_connection_that_dies_behind_a_held_head_is_answered(tmp_path: Path) -> None:
    def dies(end: End, number: int, message: Message) -> None:
        end.h2.send_headers(number, OK)
        end.flush()
        end.writer.close()

    async with served(tmp_path, dies, policy=Policy(retry=AGAIN)) as (_, client, _application):
        answer = await call(client)

    assert code_of(answer) == "14"


@on_loop
async def test_a_client_that_leaves_takes_a_held_head_with_it(tmp_path: Path) -> None:
    seen = asyncio.Event()

    def quiet(end: End, number: int, message: Message) -> None:
        end.h2.send_headers(number, OK)
        end.flush()
        seen.set()

    async with served(tmp_path, quiet, policy=Policy(retry=AGAIN)) as (world, client, application):
        number, _ = client.ask(head("/shop.Orders/Watch", *GRPC, method="POST"), end=False)
        await client.send(number, b"ask", end=True)
        await seen.wait()
        client.h2.reset_stream(number)
        client.flush()
        await until(lambda: application.requests[0].reset is not None)
        await until(lambda: not streams_of(world))

    assert application.requests[0].reset is not None


@pytest.mark.parametrize(("code", "tries"), [(14, 2), (13, 2), (5, 1)])
@pytest.mark.parametrize("at_once", [True, False])
@on_loop
async def test_a_retryable_route_of_a_profile_means_codes_that_are_failures(
    tmp_path: Path, at_once: bool, code: int, tries: int
) -> None:
    policy = Policy(retry=CLASS_RETRY)
    server = Server(code, at_once=at_once)
    async with served(tmp_path, server, policy=policy) as (_, client, application):
        await call(client)

    assert len(application.requests) == tries
