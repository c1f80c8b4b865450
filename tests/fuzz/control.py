"""What is said on the control stream, both ways, and on the admin port."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from destination.reports import ReportKeeper
from mesh.core import wire
from mesh.core.errors import PeerError
from mesh.core.model import View
from proxy.admin import Admin
from tests.core.test_wire import MESSAGES
from tests.proxy.memory import MemoryTransport, NoLoop


def read(data: bytes) -> None:
    """The first byte is the size of a piece. What is read is kept as either side keeps it."""
    if not data:
        return
    raw = data[1:] if data[0] & 1 else _framed(data[1:])
    whole, pieces = _messages(raw, 0), _messages(raw, 1 + (data[0] >> 1))

    assert whole == pieces
    clock = iter(range(1, 1 << 20))
    keeper, view = ReportKeeper(lambda: float(next(clock))), View()
    for message in whole[0]:
        assert _messages(wire.encode(message), 0)[0] == [message]
        if isinstance(message, wire.UpdateMessage):
            view = view.apply(message.update)
        elif isinstance(message, wire.ReportMessage):
            keeper.keep(("shop", "web-1"), "deployment/web", message.report)
            msgspec.json.encode(keeper.answer(60.0))


def _framed(data: bytes) -> bytes:
    """One message: its length is right, whatever it says."""
    return len(data).to_bytes(4, "big") + data


def _messages(data: bytes, step: int) -> tuple[list[wire.Message], str]:
    reader, found = wire.FrameReader(), list[wire.Message]()
    try:
        for at in range(0, len(data), step or len(data) or 1):
            found += reader.feed(data[at : at + (step or len(data))])
    except PeerError as error:
        return [], error.reason  # in one piece, nothing before it is told
    return found, ""


def seeds() -> Iterator[bytes]:
    more: list[wire.Message] = [
        wire.Ack(1, "h"),
        wire.Ask(1, "routes", {"a": "b"}),
        wire.Told(1, "{}"),
        wire.Ping(3),
        wire.Pong(4),
        wire.Refusal("r", "m"),
        wire.Subscribe(["10.0.0.1:80"], ["10.0.0.2:80"]),
        wire.ConnectFailure("10.0.0.1:80", "a:80", "r"),
    ]
    for message in (*MESSAGES, *more):
        data = wire.encode(message)
        yield b"\x01" + data
        yield b"\x00" + data[4:]
        yield b"\x0f" + data + data


class _Transport(MemoryTransport):
    """An admin connection from another pod."""

    def get_extra_info(self, name: str) -> Any:
        return ("10.0.0.9", 4191)


def ask_admin(data: bytes) -> None:
    """The first byte is the size of a piece: every answer is a whole one."""
    if not data:
        return
    transport = _Transport()

    def dial(host: str, port: int, opened: Callable[[Any], None], failed: Any) -> None:
        failed("connect-failed")

    admin = Admin(
        loop=NoLoop(),  # type: ignore[arg-type]
        waiting_for=list,
        metrics=lambda reply: reply(""),
        view=View,
        dial=dial,
        pod_ips=("10.0.0.9",),
    )
    connection = admin.accept()
    connection.connection_made(transport)
    step = data[0] or len(data)
    for at in range(1, len(data), step):
        if transport.is_closing():
            break
        connection.data_received(data[at : at + step])
    connection.connection_lost(None)
    for answer in transport.written:
        assert answer.startswith(b"HTTP/1.1 ")
        assert answer[9:12] != b"500"
