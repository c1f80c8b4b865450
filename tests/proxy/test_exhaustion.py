"""What clients could use up: memory, descriptors, names of metrics, our answers to frames."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.client_streams import ClientStreams
from proxy.http2_frames import CALM, PING, frame
from proxy.memory import resident_bytes
from proxy.pace import Watermark
from tests.proxy.apps import Reader, Writer, hello
from tests.proxy.h2_ends import Application, End, Message, head
from tests.proxy.test_http2_stranger import Stranger
from tests.proxy.test_overload import GET, counted
from tests.proxy.world import World, on_loop, parse_response, read_response, request

KEEP = GET.replace(b"Connection: close\r\n", b"")


@on_loop
async def test_clients_choose_no_name_of_a_metric(tmp_path: Path) -> None:
    """Hosts, paths, methods and fields that never come again."""

    async def ask(reader: Reader, writer: Writer, numbers: range) -> None:
        for number in numbers:
            method = (b"GET", b"PUT", b"DELETE", b"PURGE", b"REPORT")[number % 5]
            writer.write(
                b"%b /path/%d/x?%d HTTP/1.1\r\nHost: host-%d.example:%d\r\nx-%d: y\r\n\r\n"
                % (method, number, number, number, 1 + number % 65_535, number)
            )
            await read_response(reader)

    async with World(tmp_path) as world:
        await world.serve(hello)
        world.route()
        reader, writer = await world.client.connect()
        sides = (world.client.server, world.server.server)
        await ask(reader, writer, range(10))
        before = [(len(s.telemetry.http), len(s.telemetry.errors), s.metrics()) for s in sides]
        memory = resident_bytes()
        await ask(reader, writer, range(10, 2000))
        grown = resident_bytes() - memory
        after = [(len(s.telemetry.http), len(s.telemetry.errors), s.metrics()) for s in sides]
        writer.close()

    assert grown <= 5 * 1024 * 1024
    for (http, errors, text), (http_after, errors_after, text_after) in zip(
        before, after, strict=True
    ):
        assert (http_after, errors_after) == (http, errors)
        assert text_after.count("\n") == text.count("\n")
        assert "example" not in text_after


@on_loop
async def test_requests_are_shed_while_memory_is_short_and_taken_again_soon(
    tmp_path: Path,
) -> None:
    async with World(tmp_path) as world:
        await world.serve(hello)
        world.route()
        server = world.client.server.path
        server._watermark = Watermark(resident_bytes())  # all of it is in use
        server.tick(0.0)
        shed, headers, _ = await request(world.client, GET)
        server._watermark = Watermark(resident_bytes() * 2)
        server._watermark.is_high = True
        server.tick(0.0)  # within a second
        taken, _, _ = await request(world.client, GET)

    assert (shed, headers["mesh-reason"], taken) == (503, "overloaded", 200)


@on_loop
async def test_a_flood_of_connections_leaves_room_for_those_who_are_in(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(hello)
        world.route(meshed=False)
        server = world.client.server
        reader, writer = await world.client.connect()
        writer.write(KEEP)
        assert (await read_response(reader))[0] == 200
        used = len(os.listdir("/proc/self/fd"))  # the lowest number is taken first
        server.path.fd_limit = used + 60
        flood = []
        for _ in range(100):
            flood.append(await world.client.connect())
            flood[-1][1].write(KEEP)
        writer.write(KEEP)
        status, _, _ = await read_response(reader)
        admin = await asyncio.open_connection("127.0.0.1", world.client.admin)
        admin[1].write(b"GET /live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        alive, _, _ = parse_response(await admin[0].read())
        for _, one in (*flood, (reader, writer), admin):
            one.transport.abort()

    assert (status, alive) == (200, 200)
    assert counted(world.client, "too-many-files") > 0


@on_loop
async def test_what_a_client_does_not_take_is_64_kib_a_stream_and_1_mib_in_all(
    tmp_path: Path,
) -> None:
    def pour(end: End, number: int, message: Message) -> None:
        end.h2.send_headers(number, [(":status", "200")])
        end.flush()
        tasks.append(asyncio.ensure_future(end.send(number, bytes(300_000))))

    tasks: list[asyncio.Task[None]] = []
    application = Application(pour)
    async with World(tmp_path) as world:
        world.server.application = ("127.0.0.1", await application.start())
        client = End(*await world.server.connect_inbound(), client=True)
        client.h2.update_settings({4: 0})
        client.flush()
        answers = [client.ask(head())[1] for _ in range(50)]
        for answer in answers:
            await answer.headed.wait()
        (streams,) = [
            one for one in world.server.server.keeper.clients if isinstance(one, ClientStreams)
        ]
        (end,) = application.ends
        while end.h2.outbound_flow_control_window:  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        kept = [sum(len(d) for d, _ in s.pending or ()) for s in streams.streams.values()]
        for task in tasks:
            task.cancel()
        await client.close()
        await application.close()

    assert 0 < max(kept) <= 64 * 1024
    assert sum(kept) <= 1 << 20


def test_control_frames_beyond_a_hundred_a_second_end_the_connection() -> None:
    stranger = Stranger()
    seconds = 0
    while not stranger.server.is_over:
        seconds += 1
        for _ in range(150):
            stranger.send(frame(PING, 0, 0, bytes(8)))
        stranger.transport.written.clear()
        stranger.server.check(stranger.server._since + seconds)
        assert seconds < 10

    assert stranger.there.reasons == ["ping_flood"]


def test_answers_that_nobody_reads_end_the_connection_sooner() -> None:
    stranger = Stranger()
    stranger.server.pause_writing()  # what we wrote is not taken

    for _ in range(1000 // 17):
        stranger.send(frame(PING, 0, 0, bytes(8)))

    assert stranger.server.is_over
    assert stranger.there.reasons == ["ping_flood"]
    assert CALM.to_bytes(4, "big") == b"".join(stranger.transport.written)[-4:]


@pytest.mark.parametrize("side", ["inbound", "outbound"])
def test_five_thousand_half_heads_cost_15_mib(side: str) -> None:
    """In a process that has no freed memory to give to them."""
    command = [sys.executable, "-m", "tests.proxy.half_heads", side, "5000"]

    used = int(subprocess.run(command, capture_output=True, check=True).stdout)

    print(f"{used / 5000:.0f} bytes a connection")
    assert used <= 15 * 1024 * 1024


@pytest.mark.root
def test_the_limit_of_a_container_is_kept_by_shedding_requests() -> None:
    """In a real cgroup: nobody is killed, and within five seconds it is over."""
    with limited(128 * 1024 * 1024) as folder:
        command = [sys.executable, "-m", "tests.proxy.pressure", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=40)

    assert done.returncode == 0, done.stderr
    before, reason, shed, recovered = done.stdout.split()
    assert (before, reason.partition(";")[0]) == ("200", "overloaded")
    assert float(shed) <= 5.0
    assert float(recovered) <= 5.0


@contextlib.contextmanager
def limited(size: int) -> Iterator[Path]:
    """The folder of a cgroup of its own that may use so much memory."""
    if os.geteuid() != 0:
        pytest.skip("a cgroup needs root")
    name = f"mesh-test-{os.getpid()}"
    folders = [Path("/sys/fs/cgroup/memory") / name, Path("/sys/fs/cgroup") / name]
    folder = folders[0] if folders[0].parent.is_dir() else folders[1]
    folder.mkdir()
    try:
        limits = [folder / "memory.limit_in_bytes", folder / "memory.max"]
        limit = next((file for file in limits if file.exists()), None)
        if limit is None:
            pytest.skip("cgroups here do not limit memory")
        limit.write_text(str(size))
        yield folder
    finally:
        folder.rmdir()
