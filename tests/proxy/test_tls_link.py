"""The TLS link between two transports in memory: nothing of what passed stays in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mesh.core.labels import ALPN_OPAQUE
from mesh.runtime import tls
from proxy.tls import PIECE, Flusher, TlsLink
from tests.proxy.memory import MemoryTransport, NoLoop, connect
from tests.support.authority import TrustChain, workload

RECORDS = PIECE // 16_384 + 1


class Loop(NoLoop):
    """Flushes when told to."""

    def call_soon(self, callback: Any, *args: Any) -> None: ...


class Sink:
    """Keeps what it receives."""

    def __init__(self) -> None:
        self.received: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.received.append(data)


def linked(folder: Path) -> tuple[TlsLink, TlsLink, MemoryTransport, MemoryTransport]:
    """A client and a server after their handshake, each with its transport."""
    chain = TrustChain()
    leaf = chain.leaf_file(folder, workload())
    flusher: Any = Flusher(Loop())  # type: ignore[arg-type]
    here, there = connect()
    links = (
        TlsLink(
            tls.client_context(chain.bundle, leaf, (ALPN_OPAQUE,)),
            flusher,
            lambda link, error: None,
            server_name=b"web",
        ),
        TlsLink(
            tls.server_context(chain.bundle, leaf, (ALPN_OPAQUE,)),
            flusher,
            lambda link, error: None,
        ),
    )
    here.set_protocol(links[0])
    there.set_protocol(links[1])
    for link, transport in zip(links, (here, there), strict=True):
        link.connection_made(transport)
    while here.carry() + there.carry():
        pass
    return *links, here, there


def test_bulk_goes_through_a_link_in_pieces(tmp_path: Path) -> None:
    client, server, here, _ = linked(tmp_path)
    sink = Sink()
    server.set_protocol(sink)
    data = bytes(range(256)) * 16_384

    client.write(data)
    client.flush()

    assert max(map(len, here.written)) < PIECE + RECORDS * 64
    here.carry()
    assert b"".join(sink.received) == data
    assert max(map(len, sink.received)) <= PIECE + 16_384
