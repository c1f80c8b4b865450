"""The four kinds of probes, and lifecycle hooks over HTTP: one attempt each.

An attempt gives None when it passed, else a sentence for the Unhealthy event. Counting attempts
is `probing.py`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Object = Mapping[str, Any]
Exec = Callable[[list[str], float], Awaitable[tuple[int, str]]]
"""(command, timeout in seconds) -> (exit code, first of its output)."""

_H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_H2_DATA, _H2_HEADERS, _H2_RST, _H2_SETTINGS, _H2_GOAWAY = 0, 1, 3, 4, 7
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_MAX_HEAD = 65536


def port_number(port: Any, container: Object) -> int:
    """A probe's port, by number or by the name of a container port. Raises ValueError."""
    if isinstance(port, int):
        return port
    if isinstance(port, str) and port.isdigit():
        return int(port)
    for entry in container.get("ports") or ():
        if entry.get("name") == port:
            return int(entry["containerPort"])
    raise ValueError(f'no port is called "{port}"')


def _trusting_context() -> ssl.SSLContext:
    """A kubelet does not verify the certificate of an HTTPS probe."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, ssl.SSLError):
        await writer.wait_closed()


async def http(address: str, container: Object, action: Object) -> str | None:
    """An HTTP or HTTPS GET; 200 to 399 passes."""
    port = port_number(action.get("port"), container)
    secure = str(action.get("scheme", "HTTP")).upper() == "HTTPS"
    host = action.get("host") or address
    given = {entry["name"].lower(): entry["value"] for entry in action.get("httpHeaders") or ()}
    shown = f"[{host}]" if ":" in host else host
    headers = {
        "host": f"{shown}:{port}",
        "user-agent": "kube-probe/1.34",
        "accept": "*/*",
        "connection": "close",
        **given,
    }
    lines = [f"GET {action.get('path') or '/'} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    reader, writer = await asyncio.open_connection(
        host, port, ssl=_trusting_context() if secure else None, limit=_MAX_HEAD
    )
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode())
        line = await reader.readline()
        parts = line.split(None, 2)
        if len(parts) < 2 or not parts[0].startswith(b"HTTP/") or not parts[1].isdigit():
            return "HTTP probe failed: malformed HTTP response"
        status = int(parts[1])
        if 200 <= status < 400:
            return None
        return f"HTTP probe failed with statuscode: {status}"
    finally:
        await _close(writer)


async def tcp(address: str, container: Object, action: Object) -> str | None:
    """A connect that succeeds passes."""
    port = port_number(action.get("port"), container)
    _, writer = await asyncio.open_connection(action.get("host") or address, port)
    await _close(writer)
    return None


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def _literal(name: str, value: str) -> bytes:
    """One header, literal without indexing and without Huffman coding: RFC 7541 section 6.2.2."""
    return (
        b"\0"
        + bytes([len(name)])
        + name.encode()
        + bytes([min(len(value), 126)])
        + value[:126].encode()
    )


def health_request(authority: str, service: str) -> bytes:
    """An HTTP/2 connection's first bytes: preface, settings, one grpc.health.v1 Check."""
    headers = b"".join(
        _literal(name, value)
        for name, value in (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/grpc.health.v1.Health/Check"),
            (":authority", authority),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("user-agent", "kube-probe/1.34"),
        )
    )
    name = service.encode()[:100]
    message = b"\x0a" + bytes([len(name)]) + name if name else b""
    body = b"\0" + struct.pack("!I", len(message)) + message
    return (
        _H2_PREFACE
        + _frame(_H2_SETTINGS, 0, 0, b"")
        + _frame(_H2_HEADERS, _END_HEADERS, 1, headers)
        + _frame(_H2_DATA, _END_STREAM, 1, body)
    )


def serving(body: bytes) -> bool:
    """Whether a gRPC message is a HealthCheckResponse with status SERVING."""
    return body[:1] == b"\0" and body[5:7] == b"\x08\x01"


async def grpc(address: str, container: Object, action: Object) -> str | None:
    """grpc.health.v1.Health/Check over plaintext HTTP/2; SERVING passes."""
    port = int(action.get("port") or 0)
    reader, writer = await asyncio.open_connection(address, port)
    try:
        writer.write(health_request(f"{address}:{port}", action.get("service") or ""))
        body = b""
        while True:
            head = await reader.readexactly(9)
            size = int.from_bytes(head[:3], "big")
            payload = await reader.readexactly(size)
            kind, flags = head[3], head[4]
            if kind == _H2_SETTINGS and not flags & _ACK:
                writer.write(_frame(_H2_SETTINGS, _ACK, 0, b""))
            elif kind == _H2_DATA:
                body += payload
            elif kind in (_H2_RST, _H2_GOAWAY):
                return "service unhealthy: the server reset the request"
            if serving(body):
                return None
            if kind in (_H2_DATA, _H2_HEADERS) and flags & _END_STREAM:
                return 'service unhealthy (responded with "NOT_SERVING")'
    finally:
        await _close(writer)


async def attempt(probe: Object, address: str, container: Object, run: Exec) -> str | None:
    """One attempt of a probe within its timeoutSeconds. Never raises for what a pod does."""
    timeout = float(probe.get("timeoutSeconds") or 1)
    try:
        async with asyncio.timeout(timeout):
            if "exec" in probe:
                code, output = await run(list(probe["exec"].get("command") or ()), timeout)
                return None if code == 0 else output.strip()[:512] or f"exit code {code}"
            if "httpGet" in probe:
                return await http(address, container, probe["httpGet"])
            if "tcpSocket" in probe:
                return await tcp(address, container, probe["tcpSocket"])
            if "grpc" in probe:
                return await grpc(address, container, probe["grpc"])
            return "the probe names no action"
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except asyncio.IncompleteReadError:
        return "the connection ended before an answer"
    except (OSError, ValueError) as error:
        return str(error)[:512]
