"""How much we let the far end send ahead, and that it always gets it back."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.client_connection import Keeper
from proxy.client_streams import ClientStreams
from proxy.http2_frames import (
    END_HEADERS,
    PEER,
    RST_STREAM,
    SETTING,
    SETTINGS,
    STRANGER,
    WINDOW_UPDATE,
    Limits,
    frame,
)
from tests.proxy.apps import answering
from tests.proxy.frame_scripts import POSTS, data, head, long
from tests.proxy.memory import MemoryTransport, NoLoop
from tests.proxy.test_http2_stranger import Stranger, Watching
from tests.proxy.world import World, on_loop, request

KIB = 1024


@pytest.mark.parametrize(
    ("limits", "stream", "connection"),
    [(STRANGER, 64 * KIB, 1024 * KIB), (PEER, 1024 * KIB, 16 * 1024 * KIB)],
)
def test_the_windows_that_we_announce(limits: Limits, stream: int, connection: int) -> None:
    transport = MemoryTransport()
    ClientStreams(transport, Watching(), Keeper(NoLoop()), limits)
    sent = b"".join(transport.written)
    size = int.from_bytes(sent[:3], "big")

    assert sent[3] == SETTINGS
    assert (0x4, stream) in list(SETTING.iter_unpack(sent[9 : 9 + size]))
    assert sent[9 + size :] == frame(WINDOW_UPDATE, 0, 0, long(connection - 65_535))


def test_what_was_held_for_a_request_that_is_given_up_is_given_back() -> None:
    stranger = Stranger()

    for number in range(1, 80, 2):  # 2.3 MiB in all, of which 1 MiB may be on its way
        stranger.send(head(number, POSTS, END_HEADERS))
        stranger.there.exchanges[-1].server_blocked()
        for _ in range(15):
            stranger.send(data(number, bytes(4 * KIB)))
        stranger.send(frame(RST_STREAM, 0, number, long(8)))

    assert not stranger.server.is_over


@on_loop
async def test_a_client_of_http_1_0_gets_no_interim_responses(tmp_path: Path) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
    final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    async with World(tmp_path) as world:
        await world.serve(answering(early + final))
        world.route()
        status, _, body = await request(world.client, b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")

    assert (status, body) == (200, b"ok")
