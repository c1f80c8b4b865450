"""One attempt of each kind of probe, against servers on loopback."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mesh.local.node import probes
from mesh.local.node.probes import attempt, health_request, port_number, serving

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
CONTAINER = {"ports": [{"name": "web", "containerPort": 8080}]}


async def no_command(_: list[str], __: float) -> tuple[int, str]:
    raise AssertionError("no command is to be run")


def probe(
    handler: Handler | None, spec: dict[str, Any], context: ssl.SSLContext | None = None
) -> str | None:
    """The outcome of one attempt against a server with this handler; None handler: no server."""

    async def run() -> str | None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert handler is not None
            await handler(reader, writer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        if handler is None:
            server.close()
            await server.wait_closed()
        filled = {
            kind: {**action, "port": port} if isinstance(action, dict) else action
            for kind, action in spec.items()
        }
        async with server:
            return await attempt(filled, "127.0.0.1", CONTAINER, no_command)

    return asyncio.run(run())


def answering(text: bytes, seen: list[bytes] | None = None) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if seen is not None:
            seen.append(head)
        writer.write(text)
        await writer.drain()

    return handler


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        (b"200 OK", None),
        (b"302 Found", None),
        (b"404 Not Found", "HTTP probe failed with statuscode: 404"),
        (b"503 Busy", "HTTP probe failed with statuscode: 503"),
    ],
)
def test_an_http_probe_passes_from_200_to_399(status: bytes, wanted: str | None) -> None:
    handler = answering(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")

    assert probe(handler, {"httpGet": {"path": "/ready"}}) == wanted


def test_an_http_probe_sends_path_and_headers() -> None:
    seen: list[bytes] = []
    headers = [{"name": "Host", "value": "example.com"}, {"name": "X-A", "value": "b"}]

    probe(
        answering(b"HTTP/1.1 200 OK\r\n\r\n", seen),
        {"httpGet": {"path": "/r?x=1", "httpHeaders": headers}},
    )

    assert seen[0].startswith(b"GET /r?x=1 HTTP/1.1\r\n")
    assert b"host: example.com\r\n" in seen[0]
    assert b"x-a: b\r\n" in seen[0]
    assert b"kube-probe/" in seen[0]


@pytest.mark.parametrize("answer", [b"", b"\r\n", b"nonsense\r\n", b"HTTP/1.1 abc\r\n"])
def test_what_is_not_http_fails(answer: bytes) -> None:
    assert probe(answering(answer), {"httpGet": {}}) is not None


def test_a_silent_server_fails_when_the_timeout_is_over() -> None:
    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    found = probe(silent, {"httpGet": {}, "timeoutSeconds": 0.05})

    assert found == "no answer within 0.05 s"


def test_a_tcp_probe_passes_when_somebody_listens() -> None:
    async def nothing(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        return

    assert probe(nothing, {"tcpSocket": {}}) is None
    assert probe(None, {"tcpSocket": {}}) is not None


def frame(kind: int, flags: int, payload: bytes, stream: int = 1) -> bytes:
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def grpc_server(*frames: bytes) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(24) == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        writer.write(frame(4, 0, b"", 0))
        for item in frames:
            writer.write(item)
        await writer.drain()
        await reader.read()

    return handler


SERVING = frame(0, 0, b"\0\0\0\0\2\x08\x01")
NOT_SERVING = frame(0, 0, b"\0\0\0\0\2\x08\x02")
HEADERS, TRAILERS = frame(1, 4, b"\x88"), frame(1, 5, b"\x88")


@pytest.mark.parametrize(
    ("frames", "passes"),
    [
        ((HEADERS, SERVING, TRAILERS), True),
        ((HEADERS, NOT_SERVING, TRAILERS), False),
        ((TRAILERS,), False),
        ((frame(3, 0, b"\0\0\0\2"),), False),
        ((frame(7, 0, b"\0" * 8, 0),), False),
    ],
)
def test_a_grpc_probe_passes_when_the_service_is_serving(
    frames: tuple[bytes, ...], passes: bool
) -> None:
    assert (probe(grpc_server(*frames), {"grpc": {}}) is None) is passes


def test_a_health_request_names_its_service_as_a_protobuf_string() -> None:
    assert health_request("a:1", "shop").endswith(b"\0\0\0\0\6\x0a\x04shop")
    assert health_request("a:1", "").endswith(b"\0\0\0\0\0")


def test_only_serving_counts() -> None:
    assert serving(b"\0\0\0\0\2\x08\x01")
    assert not serving(b"\0\0\0\0\2\x08\x03")
    assert not serving(b"")


@pytest.mark.parametrize(("port", "wanted"), [(80, 80), ("81", 81), ("web", 8080)])
def test_ports_by_number_and_name(port: Any, wanted: int) -> None:
    assert port_number(port, CONTAINER) == wanted


def test_a_port_name_that_is_not_there_fails_the_probe() -> None:
    found = asyncio.run(attempt({"tcpSocket": {"port": "no"}}, "127.0.0.1", CONTAINER, no_command))

    assert found == 'no port is called "no"'


def test_a_command_passes_with_exit_code_0_and_shows_its_output() -> None:
    async def run(argv: list[str], _: float) -> tuple[int, str]:
        return (0, "") if argv == ["good"] else (1, "it hurts\n")

    def outcome(name: str) -> str | None:
        spec = {"exec": {"command": [name]}}
        return asyncio.run(attempt(spec, "127.0.0.1", CONTAINER, run))

    assert outcome("good") is None
    assert outcome("bad") == "it hurts"


def test_an_https_probe_takes_any_certificate() -> None:
    context = probes._trusting_context()

    assert context.verify_mode is ssl.CERT_NONE
    assert not context.check_hostname
