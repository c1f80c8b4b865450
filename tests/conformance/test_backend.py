"""The messages of tests/proxy before Go's net/http, over HTTP/1 and HTTP/2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.build import built
from tests.cluster.cache import BuildError
from tests.conformance.build import BACKEND
from tests.conformance.pair import started
from tests.proxy.desync import find_desyncs, find_downgrade_desyncs, find_frame_desyncs
from tests.proxy.downgrades import DOWNGRADES
from tests.proxy.frame_scripts import SCRIPTS
from tests.proxy.servers import Running
from tests.proxy.smuggling import ATTACKS
from tests.proxy.world import on_loop

pytestmark = pytest.mark.conformance


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    try:
        program = built(BACKEND)
    except BuildError as error:
        pytest.fail(str(error))
    socket, log = tmp_path / "go.sock", tmp_path / "told"
    with started(str(program), str(socket), str(log)):
        yield Running(socket, socket, log)


@on_loop
async def test_go_reads_what_we_read(server: Running, tmp_path: Path) -> None:
    assert await find_desyncs(tmp_path, server.http1, ATTACKS) == []


@on_loop
async def test_go_serves_no_stream_that_we_refused(server: Running, tmp_path: Path) -> None:
    assert await find_frame_desyncs(tmp_path, server, SCRIPTS) == []


@on_loop
async def test_no_peer_hides_a_request_before_go(server: Running, tmp_path: Path) -> None:
    assert await find_downgrade_desyncs(tmp_path, server.http1, DOWNGRADES) == []
