"""What annotations of a pod change in its proxy: its logs, its patience, its opaque ports."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.proxy.apps import Reader, Writer, hello
from tests.proxy.world import World, free_port, on_loop, request
from tests.support.authority import TrustChain

GET_CLOSE = b"GET /a?b HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("form", ["json", "text"])
def test_access_log_gives_a_line_a_request_on_both_sides(
    form: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    @on_loop
    async def act() -> None:
        async with World(tmp_path, access_log=form, server={"access_log": form}) as world:
            await world.serve(hello)
            world.route()
            assert (await request(world.client, GET_CLOSE))[0] == 200

    act()
    lines = [line for line in capfd.readouterr().err.splitlines() if "GET" in line]
    if form == "json":
        found = {entry["direction"]: entry for entry in map(json.loads, lines)}
        assert (found["outbound"]["uri"], found["outbound"]["status"]) == ("/a?b", 200)
        assert found["inbound"]["client_id"].startswith("client.shop.serviceaccount.")
    else:
        pattern = r'\S+ \S+ - \[[^]]+\] "GET /a\?b HTTP/1.1" 200 \d+ [\d.]+ (\w+) - \S+'
        assert {re.fullmatch(pattern, line)[1] for line in lines} == {"inbound", "outbound"}  # type: ignore[index]


def test_no_access_log_unless_asked_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    @on_loop
    async def act() -> None:
        async with World(tmp_path) as world:
            await world.serve(hello)
            world.route()
            assert (await request(world.client, GET_CLOSE))[0] == 200

    act()
    assert "GET" not in capfd.readouterr().err


@on_loop
async def test_connect_timeout_ends_the_wait_for_an_endpoint_that_is_silent(tmp_path: Path) -> None:
    with socket.socket() as silent, socket.socket() as first, socket.socket() as second:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)  # a full queue: further connections get no answer at all
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
        async with World(tmp_path, connect_timeout=0.2) as world:
            world.route(meshed=False, port=silent.getsockname()[1])
            loop = asyncio.get_running_loop()
            begun = loop.time()

            status, headers, _ = await request(world.client, GET_CLOSE)

        assert status in (502, 504)
        assert headers["mesh-reason"].startswith("connect-timeout")
        assert 0.2 <= loop.time() - begun < 0.9  # the default is 1 s


@on_loop
async def test_opaque_ports_are_never_parsed(tmp_path: Path) -> None:
    """HTTP that a proxy would refuse arrives as it was sent."""
    odd = b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: x\r\n\r\n"

    async def application(reader: Reader, writer: Writer) -> None:
        writer.write(b"got " + await reader.readexactly(len(odd)))
        writer.close()

    async with World(tmp_path, server={"opaque_ports": ((1, 65535),)}) as world:
        await world.serve(application)
        reader, writer = await world.server.connect_inbound()
        writer.write(odd)
        assert await reader.read() == b"got " + odd
        writer.close()
        assert not world.server.server.telemetry.http

    async with World(tmp_path) as world:
        await world.serve(application)
        status, _, _ = await request(world.server, odd, inbound=True)
        assert status == 400


@pytest.mark.parametrize(
    ("level", "form", "line"),
    [
        ("info", "text", r"\S+Z info proxy: listening outbound=.*"),
        (
            "info",
            "json",
            r'\{"time": "\S+Z", "level": "info", "role": "proxy", "msg": "listening.*',
        ),
        ("warning", "text", r"\S+Z warning proxy: .*"),
    ],
)
def test_log_level_and_format_decide_the_first_line(
    level: str, form: str, line: str, tmp_path: Path
) -> None:
    chosen = {"MESH_PROXY_LOG_LEVEL": level, "MESH_PROXY_LOG_FORMAT": form}

    first = first_line([], tmp_path, chosen)

    assert re.fullmatch(line, first), first


def test_workers_are_a_flag_too(tmp_path: Path) -> None:
    """It counts before the variable, which the injector writes."""
    said = first_line(["--workers", "3"], tmp_path, {"MESH_PROXY_WORKERS": "2"})

    assert said.endswith("workers=3")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--workers=no"], '--workers: expected a number from 1 to 64, got "no"'),
        (["--workers"], '--workers: expected a number from 1 to 64, got ""'),
        (["--threads", "2"], 'expected --workers, got "--threads"'),
    ],
)
def test_a_wrong_flag_is_told_in_a_line(arguments: list[str], line: str, tmp_path: Path) -> None:
    assert first_line(arguments, tmp_path, {}) == line


def first_line(arguments: list[str], folder: Path, chosen: dict[str, str]) -> str:
    """What a proxy without a control plane says first."""
    ports = {
        f"MESH_PROXY_{name}_PORT": str(free_port()) for name in ("OUTBOUND", "INBOUND", "ADMIN")
    }
    environ = {
        **os.environ,
        **ports,
        "MESH_POD_NAME": "web-1",
        "MESH_POD_NAMESPACE": "shop",
        "MESH_POD_UID": "uid-1",
        "MESH_POD_IPS": "127.0.0.1",
        "MESH_SERVICE_ACCOUNT": "web",
        "MESH_TRUST_BUNDLE": TrustChain().bundle,
        "MESH_IDENTITY_ADDRESS": f"127.0.0.1:{free_port()}",
        "MESH_DESTINATION_ADDRESS": f"127.0.0.1:{free_port()}",
        "MESH_TOKEN_FILE": str(folder / "token"),
        "MESH_KEY_DIR": str(folder),
        "MESH_STATE_DIR": str(folder),
        "MESH_PROXY_NATIVE_SIDECAR": "enabled",  # it waits for nobody when it is told to end
        **chosen,
    }
    proxy = subprocess.Popen(
        [sys.executable, "-m", "proxy", *arguments],
        env=environ,
        stderr=subprocess.PIPE,
        text=True,
    )
    with proxy:
        assert proxy.stderr is not None
        first = proxy.stderr.readline().rstrip("\n")
        proxy.terminate()
        proxy.stderr.read()
    return first
