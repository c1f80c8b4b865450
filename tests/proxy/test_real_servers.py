"""Messages that others have read differently, before servers that are not ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.proxy.desync import find_desyncs, find_downgrade_desyncs, find_frame_desyncs
from tests.proxy.downgrades import DOWNGRADES
from tests.proxy.frame_scripts import SCRIPTS
from tests.proxy.servers import NGINX, aiohttp, nginx
from tests.proxy.smuggling import ATTACKS
from tests.proxy.world import on_loop

needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


@needs_nginx
@on_loop
async def test_nginx_reads_what_we_read(tmp_path: Path) -> None:
    async with nginx(tmp_path) as server:
        assert await find_desyncs(tmp_path, server.http1, ATTACKS) == []


@on_loop
async def test_aiohttp_reads_what_we_read(tmp_path: Path) -> None:
    async with aiohttp(tmp_path) as server:
        assert await find_desyncs(tmp_path, server, ATTACKS) == []


@needs_nginx
@on_loop
async def test_nginx_serves_no_stream_that_we_refused(tmp_path: Path) -> None:
    async with nginx(tmp_path) as server:
        assert await find_frame_desyncs(tmp_path, server, SCRIPTS) == []


@needs_nginx
@on_loop
async def test_no_peer_hides_a_request_before_nginx(tmp_path: Path) -> None:
    async with nginx(tmp_path) as server:
        assert await find_downgrade_desyncs(tmp_path, server.http1, DOWNGRADES) == []


@on_loop
async def test_no_peer_hides_a_request_before_aiohttp(tmp_path: Path) -> None:
    async with aiohttp(tmp_path) as server:
        assert await find_downgrade_desyncs(tmp_path, server, DOWNGRADES) == []


def test_there_are_as_many_as_promised() -> None:
    assert len({name for name, _ in DOWNGRADES}) == len(DOWNGRADES) >= 60
    assert len(SCRIPTS) >= 60
