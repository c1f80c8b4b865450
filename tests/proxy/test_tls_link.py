"""The TLS link between two transports in memory: nothing of what passed stays in it."""

from __future__ import annotations

import ctypes
import ctypes.util
import time
from pathlib import Path
from typing import Any

from mesh.core.errors import PeerError
from mesh.core.labels import ALPN_OPAQUE
from mesh.runtime import tls
from proxy.telemetry import errno_name
from proxy.tls import CRUMBS, MAX_IDLE, PIECE, Flusher, TlsLink
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
        self.lost: BaseException | None = None

    def data_received(self, data: bytes) -> None:
        self.received.append(data)

    def connection_lost(self, error: BaseException | None) -> None:
        self.lost = error


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
            server_name="web",
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


class Updater:
    """Makes a link send KeyUpdate (RFC 8446 §4.6.3), which Python's ssl has no word for."""

    def __init__(self, link: TlsLink) -> None:
        self._openssl = ctypes.CDLL(ctypes.util.find_library("ssl") or "libssl.so.3")
        held: Any = link.ssl
        # PySSLSocket: the object's head, the socket, then OpenSSL's own.
        place = id(held._sslobj) + 3 * ctypes.sizeof(ctypes.c_void_p)
        self._ssl = ctypes.c_void_p(ctypes.c_void_p.from_address(place).value)

    def send(self) -> None:
        assert self._openssl.SSL_key_update(self._ssl, 1) == 1  # and let the other do so too
        assert self._openssl.SSL_do_handshake(self._ssl) == 1


def test_a_flood_of_key_updates_ends_the_link_at_little_cost(tmp_path: Path) -> None:
    client, server, here, there = linked(tmp_path)
    sink = Sink()
    server.set_protocol(sink)
    updater = Updater(client)
    began = time.process_time()
    for _ in range(10_000):
        updater.send()
    made = time.process_time() - began
    client._send()
    flood = b"".join(here.written)
    here.written.clear()
    there.written.clear()

    began = time.process_time()
    server.data_received(flood)
    took = time.process_time() - began

    assert isinstance(sink.lost, PeerError)
    assert errno_name(sink.lost) == "tls-flood"
    answered = sum(map(len, there.written))  # as many bytes as came in the updates it took
    assert MAX_IDLE < answered <= MAX_IDLE + CRUMBS < len(flood) / 10
    assert took < made / 2  # taken to the end they would cost twice as much as to make


def test_a_key_update_now_and_then_and_crumbs_of_data_go_on(tmp_path: Path) -> None:
    client, server, here, there = linked(tmp_path)
    sink = Sink()
    server.set_protocol(sink)
    client.set_protocol(Sink())
    updater = Updater(client)
    sent = b""

    for number in range(3 * MAX_IDLE // 27):  # all the updates come to more than MAX_IDLE
        updater.send()
        for _ in range(2):
            sent += bytes([number % 256])
            client.write(sent[-1:])
            client.flush()
        here.carry()
        there.carry()

    assert sink.lost is None
    assert b"".join(sink.received) == sent
