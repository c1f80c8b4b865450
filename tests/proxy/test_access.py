"""The access log: what one line says in each form, and that no reader of it holds up a request."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import select
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mesh.core.labels import H_REQUEST_ID
from proxy.access import MAX_WAITING, AccessLog
from tests.proxy.world import on_loop


class LateLoop:
    """Keeps what is to be called later."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def call_later(self, _: float, call: Any) -> None:
        self.calls.append(call)


def exchange(target: bytes = b"/cart?a=1", *, error: str = "") -> Any:
    wanted = SimpleNamespace(
        method=b"GET",
        target=target,
        minor=1,
        is_http2=False,
        host=b"web",
        fields=[H_REQUEST_ID, b": ", b"id-7", b"\r\n"],
    )
    return SimpleNamespace(
        request=wanted,
        journey=None,
        status=503,
        error=error,
        request_bytes=3,
        response_bytes=40,
    )


def lines_of(form: str, *exchanges: Any, folder: Path) -> list[str]:
    """What a log of this form writes into a file."""
    loop = LateLoop()
    with (folder / "log").open("wb") as file:
        log = AccessLog(cast(Any, loop), form, fd=file.fileno(), clock=lambda: 1_700_000_000.0)
        for one in exchanges:
            log.write("inbound", one, client="10.0.0.1:5", identity="web.shop", seconds=0.0125)
        for call in loop.calls:
            call()
    return (folder / "log").read_text().splitlines(keepends=True)


def test_a_text_line_has_apaches_form(tmp_path: Path) -> None:
    assert lines_of("text", exchange(error="no-endpoints"), exchange(), folder=tmp_path) == [
        '10.0.0.1:5 web.shop - [14/Nov/2023:22:13:20 +0000] "GET /cart?a=1 HTTP/1.1" '
        "503 40 0.012500 inbound no-endpoints id-7\n",
        '10.0.0.1:5 web.shop - [14/Nov/2023:22:13:20 +0000] "GET /cart?a=1 HTTP/1.1" '
        "503 40 0.012500 inbound - id-7\n",
    ]


def test_a_json_line_is_one_object(tmp_path: Path) -> None:
    (line,) = lines_of("json", exchange(error="no-endpoints"), folder=tmp_path)
    assert json.loads(line) == {
        "direction": "inbound",
        "client": "10.0.0.1:5",
        "client_id": "web.shop",
        "method": "GET",
        "uri": "/cart?a=1",
        "version": "HTTP/1.1",
        "host": "web",
        "status": 503,
        "reason": "no-endpoints",
        "request_bytes": 3,
        "response_bytes": 40,
        "seconds": 0.0125,
        "request_id": "id-7",
        "timestamp": "2023-11-14T22:13:20Z",
    }


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_client_can_neither_end_a_line_nor_leave_its_field(form: str, tmp_path: Path) -> None:
    (line,) = lines_of(form, exchange(b'/a\n"b\\ \x1b[31m\xff' + b"x" * 9000), folder=tmp_path)
    uri = json.loads(line)["uri"] if form == "json" else line.split('"')[1].split(" ")[1]
    assert uri.startswith(r"/a\x0a\x22b\x5c\x20\x1b[31m\xffxxx")
    assert len(line) < 1000
    assert line.count("\n") == 1


def test_lines_beyond_the_room_in_memory_are_counted() -> None:
    log = AccessLog(cast(Any, LateLoop()), "text")
    for _ in range(MAX_WAITING // 100):
        log.write("inbound", exchange(), client="10.0.0.1:5", identity="web.shop", seconds=0.1)
    assert log.lost > 0


@on_loop
async def test_requests_go_on_while_nobody_reads_the_log() -> None:
    reading, writing = os.pipe()
    try:
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)
        log = AccessLog(asyncio.get_running_loop(), "text", fd=writing)
        for _ in range(100):
            log.write("inbound", exchange(), client="10.0.0.1:5", identity="web.shop", seconds=0.1)
        log.flush()
        assert 0 < log.lost < 100
    finally:
        os.close(reading)
        os.close(writing)
