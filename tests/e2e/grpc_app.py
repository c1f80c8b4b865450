"""A gRPC server of one unary method, and a client that counts. Mounted into pods as it stands.

python grpc_app.py serve            each message comes back; SIGTERM: GOAWAY, then the end
python grpc_app.py load HOST RATE   over one connection; 8081 answers {sent, ok, failed}
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections import Counter
from typing import Any, ClassVar

from jh2.config import H2Configuration  # type: ignore[import-untyped]
from jh2.connection import H2Connection  # type: ignore[import-untyped]
from jh2.events import (  # type: ignore[import-untyped]
    ConnectionTerminated,
    DataReceived,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

MESSAGE = b"\0\0\0\0\5hello"
HEAD = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "grpc:8080"),
    (":path", "/test.Echo/Say"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]
TIMEOUT = 10.0
ROOM = 100  # streams at a time
LEAVING = 3.0  # seconds for peers to hang up after GOAWAY


class Peer(asyncio.Protocol):
    """One HTTP/2 connection; the roles say what events mean."""

    is_client = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.h2 = H2Connection(config=H2Configuration(client_side=self.is_client))
        self.h2.initiate_connection()
        self.is_leaving = False
        self.flush()

    def data_received(self, data: bytes) -> None:
        if self.is_leaving:
            return
        for event in self.h2.receive_data(data):
            if isinstance(event, DataReceived):
                length = event.flow_controlled_length
                self.h2.acknowledge_received_data(length, event.stream_id)
            self.on_event(event)
        self.flush()

    def on_event(self, event: Any) -> None: ...

    def flush(self) -> None:
        self.transport.write(self.h2.data_to_send())


class Server(Peer):
    """Answers each message with itself."""

    all: ClassVar[set[Server]] = set()

    def __init__(self) -> None:
        self.bodies: dict[int, bytes] = {}
        self.closed = asyncio.Event()
        self.all.add(self)

    def on_event(self, event: Any) -> None:
        if isinstance(event, RequestReceived):
            self.bodies[event.stream_id] = b""
        elif isinstance(event, DataReceived):
            self.bodies[event.stream_id] += event.data
        elif isinstance(event, StreamEnded):
            number, body = event.stream_id, self.bodies.pop(event.stream_id)
            head = [(":status", "200"), ("content-type", "application/grpc")]
            self.h2.send_headers(number, head)
            self.h2.send_data(number, body)
            self.h2.send_headers(number, [("grpc-status", "0")], end_stream=True)

    def connection_lost(self, error: BaseException | None) -> None:
        self.all.discard(self)
        self.closed.set()

    def leave(self) -> None:
        self.h2.close_connection()
        self.is_leaving = True
        self.flush()


async def serve() -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    listener = await loop.create_server(Server, None, 8080)
    await stopped.wait()
    listener.close()
    leaving = list(Server.all)
    for connection in leaving:
        connection.leave()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LEAVING):
            for connection in leaving:
                await connection.closed.wait()


class Client(Peer):
    """Requests by stream, each with a future of its grpc-status."""

    is_client = True

    def __init__(self) -> None:
        self.waiting: dict[int, asyncio.Future[str]] = {}
        self.is_open = True
        self.room = asyncio.Semaphore(ROOM)

    async def ask(self) -> str:
        async with self.room:  # calls wait where the peer takes no more streams, as gRPC's do
            return await self.call()

    async def call(self) -> str:
        number = self.h2.get_next_available_stream_id()
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.waiting[number] = answer
        self.h2.send_headers(number, HEAD)
        self.h2.send_data(number, MESSAGE, end_stream=True)
        self.flush()
        async with asyncio.timeout(TIMEOUT):
            return await answer

    def on_event(self, event: Any) -> None:
        if isinstance(event, (ResponseReceived, TrailersReceived)):
            found = {_text(name): _text(value) for name, value in event.headers}
            status = found.get("grpc-status")
            if status is not None:
                self.done(event.stream_id, status if status == "0" else str(found))
        elif isinstance(event, StreamReset):
            self.done(event.stream_id, f"reset {event.error_code}")
        elif isinstance(event, ConnectionTerminated):
            self.is_open = False

    def done(self, number: int, status: str) -> None:
        answer = self.waiting.pop(number, None)
        if answer is not None and not answer.done():
            answer.set_result(status)

    def connection_lost(self, error: BaseException | None) -> None:
        self.is_open = False
        for number in list(self.waiting):
            self.done(number, "connection lost")


async def load(host: str, rate: float) -> None:
    counts: Counter[str] = Counter()
    failed: list[str] = []
    flying: set[asyncio.Task[None]] = set()

    async def tell(reader: Any, writer: Any) -> None:
        await reader.readuntil(b"\r\n\r\n")
        text = json.dumps({"sent": counts["sent"], "ok": counts["ok"], "failed": failed[-50:]})
        writer.write(b"HTTP/1.0 200 OK\r\ncontent-length: %d\r\n\r\n" % len(text) + text.encode())
        writer.close()

    async def ask(client: Client) -> None:
        counts["sent"] += 1
        try:
            status = await client.ask()
        except Exception as error:
            status = repr(error)
        if status == "0":
            counts["ok"] += 1
        else:
            failed.append(status)

    loop = asyncio.get_running_loop()
    await asyncio.start_server(tell, None, 8081)
    client, due = None, loop.time()
    while True:
        while client is None or not client.is_open:
            try:
                _, client = await loop.create_connection(Client, host, 8080)
            except OSError:
                await asyncio.sleep(0.1)
        task = asyncio.create_task(ask(client))
        flying.add(task)
        task.add_done_callback(flying.discard)
        due += 1 / rate
        await asyncio.sleep(max(0.0, due - loop.time()))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


if __name__ == "__main__":
    asyncio.run(serve() if sys.argv[1] == "serve" else load(sys.argv[2], float(sys.argv[3])))
