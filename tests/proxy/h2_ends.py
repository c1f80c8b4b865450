"""An HTTP/2 client and an HTTP/2 application for tests, on the `h2` package: not our own code
on both ends of the wire."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.exceptions

Pairs = list[tuple[str, str]]


@dataclass
class Message:
    """One request or response as it came."""

    headers: Pairs = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    trailers: Pairs = field(default_factory=list)
    heads: int = 0  # heads that came, trailers and interim ones included
    reset: int | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    headed: asyncio.Event = field(default_factory=asyncio.Event)

    def get(self, name: str) -> str:
        return dict(self.headers).get(name, "")

    @property
    def status(self) -> int:
        return int(self.get(":status") or 0)


class End:
    """One side of one connection; messages by stream."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, client: bool
    ) -> None:
        config = h2.config.H2Configuration(client_side=client, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        self.reader, self.writer = reader, writer
        self.messages: dict[int, Message] = {}
        self.goaways: list[int] = []
        self.gives_credit = True
        self.window = asyncio.Event()
        self.on_request: Callable[[End, int, Message], None] = lambda end, number, message: None
        self.h2.initiate_connection()
        self.flush()
        self.task = asyncio.ensure_future(self._run())

    def flush(self) -> None:
        with contextlib.suppress(RuntimeError):
            self.writer.write(self.h2.data_to_send())

    async def close(self) -> None:
        self.task.cancel()
        self.writer.transport.abort()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    def message(self, number: int) -> Message:
        return self.messages.setdefault(number, Message())

    def ask(self, headers: Pairs, *, end: bool = True) -> tuple[int, Message]:
        number = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, headers, end_stream=end)
        self.flush()
        return number, self.message(number)

    async def send(self, number: int, data: bytes, *, end: bool = False) -> None:
        """A body, as fast as the windows allow."""
        while data:
            self.window.clear()
            room = min(self.h2.local_flow_control_window(number), 16_384, len(data))
            if room <= 0:
                await self.window.wait()
                continue
            self.h2.send_data(number, data[:room])
            data = data[room:]
            self.flush()
        if end:
            self.h2.end_stream(number)
            self.flush()

    def answer(
        self, number: int, headers: Pairs, body: bytes = b"", trailers: Pairs | None = None
    ) -> None:
        self.h2.send_headers(number, headers, end_stream=not body and trailers is None)
        if body:
            self.h2.send_data(number, body, end_stream=trailers is None)
        if trailers is not None:
            self.h2.send_headers(number, trailers, end_stream=True)
        self.flush()

    async def _run(self) -> None:
        with contextlib.suppress(ConnectionError, h2.exceptions.ProtocolError):
            while data := await self.reader.read(65_536):
                for event in self.h2.receive_data(data):
                    self._on_event(event)
                self.flush()
        for message in self.messages.values():
            message.headed.set()
            message.ended.set()
        self.window.set()

    def _on_event(self, event: h2.events.Event) -> None:
        match event:
            case (
                h2.events.RequestReceived()
                | h2.events.ResponseReceived()
                | h2.events.InformationalResponseReceived()
            ):
                message = self.message(event.stream_id or 0)
                message.headers = [(str(n), str(v)) for n, v in event.headers or ()]
                message.heads += 1
                message.headed.set()
                if isinstance(event, h2.events.RequestReceived):
                    self.on_request(self, event.stream_id or 0, message)
            case h2.events.TrailersReceived():
                message = self.message(event.stream_id or 0)
                message.trailers = [(str(n), str(v)) for n, v in event.headers or ()]
                message.heads += 1
            case h2.events.DataReceived():
                self.message(event.stream_id or 0).body += event.data or b""
                if self.gives_credit and event.flow_controlled_length:
                    size = event.flow_controlled_length
                    self.h2.acknowledge_received_data(size, event.stream_id or 0)
            case h2.events.StreamEnded():
                self.message(event.stream_id or 0).ended.set()
            case h2.events.StreamReset():
                message = self.message(event.stream_id or 0)
                message.reset = int(event.error_code or 0)
                message.headed.set()
                message.ended.set()
            case h2.events.ConnectionTerminated():
                self.goaways.append(event.last_stream_id or 0)
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                self.window.set()


class Application:
    """An HTTP/2 server; `handle` is called with each request head."""

    def __init__(self, handle: Callable[[End, int, Message], None]) -> None:
        self._handle = handle
        self.ends: list[End] = []
        self.requests: list[Message] = []
        self.begun = asyncio.Event()

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end = End(reader, writer, client=False)
        end.on_request = self._on_request
        self.ends.append(end)

    def _on_request(self, end: End, number: int, message: Message) -> None:
        self.requests.append(message)
        self.begun.set()
        self._handle(end, number, message)

    async def close(self) -> None:
        self._server.close()
        for end in self.ends:
            await end.close()


def head(path: str = "/", *more: tuple[str, str], method: str = "GET") -> Pairs:
    return [
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "web.shop"),
        *more,
    ]


GRPC = (("content-type", "application/grpc"), ("te", "trailers"))
