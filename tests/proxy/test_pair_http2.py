"""Applications' HTTP/2 and gRPC through two proxies with mutual TLS, and through one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from h2.settings import SettingCodes

from proxy.http2_frames import (
    ACK,
    CANCEL,
    DATA,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    REFUSED_STREAM,
    SETTINGS,
    frame,
)
from tests.proxy.apps import Reader, Writer, hello
from tests.proxy.frame_scripts import HEAD
from tests.proxy.h2_ends import GRPC, Application, End, Message, head
from tests.proxy.world import World, free_port, on_loop, read_head, request

OK = [(":status", "200")]
Handle = Callable[[End, int, Message], None]


def greet(end: End, number: int, message: Message) -> None:
    end.answer(number, [*OK, ("x-up", "1")], b"hi", [("x-sum", "2")])


@contextlib.asynccontextmanager
async def pair(
    folder: Path, handle: Handle = greet, *, meshed: bool = True, inbound: bool = False
) -> AsyncIterator[tuple[World, End, Application]]:
    """An application behind two proxies (or the client's alone), and a client's connection."""
    application = Application(handle)
    async with World(folder) as world:
        world.server.application = ("127.0.0.1", await application.start())
        world.route(meshed=meshed)
        connect = world.server.connect_inbound if inbound else world.client.connect
        client = End(*await connect(), client=True)
        try:
            yield world, client, application
        finally:
            await client.close()
            await application.close()


@pytest.mark.parametrize("way", ["meshed", "unmeshed", "inbound"])
@on_loop
async def test_a_request_arrives_as_http2_and_its_trailers_come_back(
    tmp_path: Path, way: str
) -> None:
    async with pair(tmp_path, meshed=way != "unmeshed", inbound=way == "inbound") as (
        world,
        client,
        application,
    ):
        _, answer = client.ask(head("/a?b=c", ("te", "trailers"), ("l5d-client-id", "forged")))
        await answer.ended.wait()

    assert (answer.status, answer.get("x-up"), bytes(answer.body)) == (200, "1", b"hi")
    assert answer.trailers == [("x-sum", "2")]
    got = application.requests[0]
    assert got.headers[:4] == head("/a?b=c")
    assert got.get("te") == "trailers"
    proven = world.client.credentials.identity if way == "meshed" else ""
    assert got.get("l5d-client-id") == proven


@on_loop
async def test_http1_to_the_same_service_stays_http1(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(hello)
        world.route()

        status, _, body = await request(
            world.client, b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"
        )

    assert status == 200
    assert body.startswith(b"GET / HTTP/1.1\r\n")


@on_loop
async def test_many_streams_share_connections_and_are_counted_one_by_one(tmp_path: Path) -> None:
    async with pair(tmp_path) as (world, client, application):
        answers = [client.ask(head())[1] for _ in range(200)]
        for answer in answers:
            await answer.ended.wait()
        series = world.client.server.telemetry.http.values()

    assert {answer.status for answer in answers} == {200}
    assert sum(one.requests for one in series) == 200
    assert len(application.ends) <= 3


@on_loop
async def test_bodies_flow_both_ways_at_the_pace_of_the_slower_end(tmp_path: Path) -> None:
    def echo(end: End, number: int, message: Message) -> None:
        async def run() -> None:
            await message.ended.wait()
            end.h2.send_headers(number, OK)
            await end.send(number, bytes(message.body), end=True)

        tasks.append(asyncio.ensure_future(run()))

    tasks: list[asyncio.Future[None]] = []
    body = bytes(range(256)) * 12_000  # 3 MB
    async with pair(tmp_path, echo) as (_, client, _application):
        number, answer = client.ask(head(method="POST"), end=False)
        await client.send(number, body, end=True)
        await answer.ended.wait()

    assert bytes(answer.body) == body


@on_loop
async def test_a_client_that_takes_nothing_holds_the_server_back(tmp_path: Path) -> None:
    sent = [0]

    def pour(end: End, number: int, message: Message) -> None:
        async def run() -> None:
            end.h2.send_headers(number, OK)
            while True:
                await end.send(number, bytes(16_384))
                sent[0] += 16_384
                await asyncio.sleep(0)

        tasks.append(asyncio.ensure_future(run()))

    tasks: list[asyncio.Future[None]] = []
    async with pair(tmp_path, pour) as (_, client, _application):
        client.gives_credit = False
        client.ask(head())
        before = -1
        while not sent[0] or sent[0] != before:  # until nothing moves any more
            before = sent[0]
            await asyncio.sleep(0.2)
        tasks[0].cancel()

    assert 65_536 <= sent[0] < 4 << 20


@on_loop
async def test_a_whole_head_stays_whole(tmp_path: Path) -> None:
    def fail(end: End, number: int, message: Message) -> None:
        fields = [*OK, ("content-type", "application/grpc"), ("grpc-status", "5")]
        end.answer(number, fields)

    async with pair(tmp_path, fail) as (_, client, _application):
        _, answer = client.ask(head("/s/m", *GRPC, method="POST"))
        await answer.ended.wait()

    assert (answer.heads, answer.trailers, answer.get("grpc-status")) == (1, [], "5")


@on_loop
async def test_interim_responses_pass(tmp_path: Path) -> None:
    def hint(end: End, number: int, message: Message) -> None:
        end.h2.send_headers(number, [(":status", "103"), ("link", "</a>")])
        greet(end, number, message)

    async with pair(tmp_path, hint) as (_, client, _application):
        _, answer = client.ask(head())
        await answer.ended.wait()

    assert (answer.heads, answer.status) == (3, 200)


@on_loop
async def test_a_cancelled_request_is_cancelled_at_the_server(tmp_path: Path) -> None:
    async with pair(tmp_path, lambda end, number, message: None) as (_, client, application):
        number, _ = client.ask(head(method="POST"), end=False)
        await application.begun.wait()
        client.h2.reset_stream(number, CANCEL)
        client.flush()
        await application.requests[0].ended.wait()

    assert application.requests[0].reset == CANCEL


@pytest.mark.parametrize("code", [1, 2, 8, 11])
@on_loop
async def test_the_code_of_a_servers_reset_reaches_the_client(tmp_path: Path, code: int) -> None:
    def reset(end: End, number: int, message: Message) -> None:
        end.h2.reset_stream(number, code)
        end.flush()

    async with pair(tmp_path, reset) as (_, client, _application):
        _, answer = client.ask(head())
        await answer.ended.wait()

    assert answer.reset == code


@on_loop
async def test_a_refused_stream_is_asked_again_whatever_the_method(tmp_path: Path) -> None:
    refused: list[int] = []

    def refuse_first(end: End, number: int, message: Message) -> None:
        if not refused:
            refused.append(number)
            end.h2.reset_stream(number, REFUSED_STREAM)
            end.flush()
        else:
            greet(end, number, message)

    async with pair(tmp_path, refuse_first) as (_, client, _application):
        _, answer = client.ask(head(method="POST"))
        await answer.ended.wait()

    assert answer.status == 200


@pytest.mark.parametrize("meshed", [True, False])
@on_loop
async def test_a_server_that_goes_away_again_and_again_costs_no_request(
    tmp_path: Path, meshed: bool
) -> None:
    def serve_ten(end: End, number: int, message: Message) -> None:
        served = done.setdefault(id(end), [])
        if len(served) < 10:
            served.append(number)
            greet(end, number, message)
        if len(served) == 10:
            end.h2.close_connection(last_stream_id=served[-1])
            end.flush()

    done: dict[int, list[int]] = {}
    async with pair(tmp_path, serve_ten, meshed=meshed) as (_, client, _application):
        answers = []
        for _ in range(10):
            batch = [client.ask(head(method="POST"))[1] for _ in range(7)]
            for answer in batch:
                await answer.ended.wait()
            answers += batch

    assert {answer.status for answer in answers} == {200}


@on_loop
async def test_a_client_that_leaves_is_not_reset_for_what_it_says_meanwhile(tmp_path: Path) -> None:
    ping = frame(PING, 0, 0, bytes(8))
    loop = asyncio.get_running_loop()
    async with pair(tmp_path) as (world, _, _):
        with socket.create_connection(("127.0.0.1", world.client.outbound)) as client:
            client.setblocking(False)
            client.sendall(PREFACE + frame(SETTINGS, 0, 0, b"") + frame(GOAWAY, 0, 0, bytes(8)))
            said = b""
            while data := await loop.sock_recv(client, 65_536):
                said += data
            client.sendall(ping)
            client.sendall(ping)
            error = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    assert said.endswith(frame(GOAWAY, 0, 0, bytes(8)))
    assert error == 0


@on_loop
async def test_a_proxy_that_drains_answers_what_it_has_and_names_the_last(tmp_path: Path) -> None:
    waiting: list[tuple[End, int, Message]] = []

    async with pair(tmp_path, lambda *parts: waiting.append(parts)) as (world, _, application):
        reader, writer = await world.client.connect()  # h2 itself hears no second GOAWAY
        writer.write(PREFACE + frame(SETTINGS, 0, 0, b"") + frame(HEADERS, 5, 1, HEAD))
        await application.begun.wait()
        world.client.server.end()
        goaways, codes = [], []
        while frames := await read_frames(reader):
            for kind, payload in frames:
                codes.append(kind)
                if kind == GOAWAY:
                    goaways.append(int.from_bytes(payload[:4], "big"))
                    if len(goaways) == 2:
                        greet(*waiting[0])
                elif kind == PING:
                    writer.write(frame(PING, ACK, 0, payload))
        writer.close()

    assert goaways == [2**31 - 1, 1]
    assert codes[-3:] == [HEADERS, DATA, HEADERS]


async def read_frames(reader: Reader) -> list[tuple[int, bytes]]:
    """The next frame, as kind and payload; none at the end."""
    try:
        start = await reader.readexactly(9)
    except asyncio.IncompleteReadError:
        return []
    return [(start[3], await reader.readexactly(int.from_bytes(start[:3], "big")))]


@on_loop
async def test_grpc_callers_get_a_grpc_status(tmp_path: Path) -> None:
    async with pair(tmp_path) as (world, client, _application):
        world.server.application = ("127.0.0.1", free_port())
        world.route(meshed=False)
        _, refused = client.ask(head("/s/m", *GRPC, method="POST"), end=False)
        _, plain = client.ask(head())
        await refused.ended.wait()
        await plain.ended.wait()

    assert (refused.status, refused.get("grpc-status")) == (200, "14")
    assert refused.get("mesh-reason").startswith("connect-failed")
    assert "connect failed" in refused.get("grpc-message")
    assert refused.heads == 1
    assert (plain.status, plain.get("grpc-status")) == (502, "")


@on_loop
async def test_a_deadline_of_a_route_is_deadline_exceeded(tmp_path: Path) -> None:
    async with pair(tmp_path, lambda end, number, message: None) as (world, client, _):
        world.route(timeout=0.05)
        _, answer = client.ask(head("/s/m", *GRPC, method="POST"))
        await answer.ended.wait()

    assert (answer.status, answer.get("grpc-status")) == (200, "4")


@on_loop
async def test_a_grpc_answer_that_breaks_off_ends_with_a_status(tmp_path: Path) -> None:
    def break_off(end: End, number: int, message: Message) -> None:
        end.h2.send_headers(number, [*OK, ("content-type", "application/grpc")])
        end.h2.send_data(number, b"\0\0\0\0\x05h")
        end.flush()
        end.writer.close()

    async with pair(tmp_path, break_off) as (_, client, _application):
        _, answer = client.ask(head("/s/m", *GRPC, method="POST"))
        await answer.ended.wait()

    assert answer.reset is None
    assert dict(answer.trailers)["grpc-status"] == "14"


@on_loop
async def test_an_answer_that_breaks_off_is_reset(tmp_path: Path) -> None:
    def break_off(end: End, number: int, message: Message) -> None:
        end.h2.send_headers(number, OK)
        end.h2.send_data(number, b"half")
        end.flush()
        end.writer.close()

    async with pair(tmp_path, break_off) as (_, client, _application):
        _, answer = client.ask(head())
        await answer.ended.wait()

    assert answer.reset == 2


@on_loop
async def test_connect_opens_a_tunnel_on_a_stream(tmp_path: Path) -> None:
    async def tunnel(reader: Reader, writer: Writer) -> None:
        first = await read_head(reader)
        assert first.startswith(b"CONNECT db:5432 HTTP/1.1\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while data := await reader.read(1000):
            writer.write(data.upper())
        writer.close()

    async with World(tmp_path) as world:
        await world.serve(tunnel)
        world.route()
        client = End(*await world.client.connect(), client=True)
        fields = [(":method", "CONNECT"), (":authority", "db:5432")]

        number, answer = client.ask(fields, end=False)
        await client.send(number, b"early ")
        await answer.headed.wait()
        await client.send(number, b"and late", end=True)
        await answer.ended.wait()
        await client.close()

    assert (answer.status, bytes(answer.body)) == (200, b"EARLY AND LATE")


@on_loop
async def test_an_application_that_breaks_http2_is_a_bad_gateway(tmp_path: Path) -> None:
    async def speaks_http1(reader: Reader, writer: Writer) -> None:
        await reader.read(1000)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async with World(tmp_path) as world:
        await world.serve(speaks_http1)
        world.route()
        client = End(*await world.client.connect(), client=True)
        _, answer = client.ask(head())
        await answer.ended.wait()
        await client.close()

    assert answer.status == 502
    assert answer.get("mesh-reason").startswith("bad-response")


@on_loop
async def test_an_applications_limit_of_streams_opens_more_connections(tmp_path: Path) -> None:
    def few(end: End, number: int, message: Message) -> None:
        if number == 1:
            end.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 5})
        async_answers.append(asyncio.ensure_future(answer_later(end, number, message)))

    async def answer_later(end: End, number: int, message: Message) -> None:
        await asyncio.sleep(0.02)
        greet(end, number, message)

    async_answers: list[asyncio.Future[None]] = []
    async with pair(tmp_path, few) as (_, client, application):
        _, first = client.ask(head())
        await first.ended.wait()
        answers = [client.ask(head())[1] for _ in range(4)]
        for answer in answers:
            await answer.ended.wait()
        more = [client.ask(head())[1] for _ in range(9)]
        for answer in more:
            await answer.ended.wait()
        connections = len(application.ends)

    assert {answer.status for answer in [*answers, *more]} == {200}
    assert connections >= 2
