"""`kubectl exec`: a command in a container, its three streams in one WebSocket. A shell.

The protocols v5 and v4.channel.k8s.io of Kubernetes' remote command over WebSockets: the first
byte of a message is its channel. Terminals (`-t`) and the older SPDY are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec
from aiohttp import WSMsgType, web

from mesh.local.api import status
from mesh.local.api.paths import Target
from mesh.local.api.resources import Object
from mesh.local.api.store import Store

Execute = Callable[[Object, str, Sequence[str], tuple[int, int, int]], Awaitable[int]]
"""(pod, container, argv, (stdin, stdout, stderr)) -> exit code. Raises OSError."""

PROTOCOLS: Final = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_STDIN, _STDOUT, _STDERR, _ERROR, _CLOSE = 0, 1, 2, 3, 255
_CHUNK: Final = 32 * 1024


async def serve(
    store: Store, execute: Execute | None, request: web.Request, target: Target
) -> web.StreamResponse:
    """Answer one request for pods/exec. Raises ApiError."""
    query = request.query
    pod = store.get("pods", target.namespace, target.name)
    argv, container = query.getall("command", []), _container(pod, query.get("container", ""))
    if execute is None:
        raise status.no_such_thing("exec without a node")
    if _is_set(query.get("tty")):
        raise status.bad_request("mesh local has no terminals: leave out -t")
    if not argv:
        raise status.bad_request("you must specify at least one command for the container")
    socket = web.WebSocketResponse(protocols=PROTOCOLS)
    if not socket.can_prepare(request).ok:
        raise status.bad_request(
            "mesh local has exec over WebSockets only: kubectl 1.31 or newer asks so"
        )
    await socket.prepare(request)
    try:
        done = await _run(socket, execute, pod, container, argv, has_input="stdin" in query)
    except OSError as error:
        done = _failure("InternalError", 500, str(error))
    with contextlib.suppress(ConnectionError):
        await socket.send_bytes(bytes([_ERROR]) + msgspec.json.encode(done))
        await socket.close()
    return socket


def _is_set(text: str | None) -> bool:
    return text is not None and text.lower() in ("", "1", "true")


def _container(pod: Object, name: str) -> str:
    spec = pod["spec"]
    known = [c["name"] for f in ("containers", "initContainers") for c in spec.get(f) or ()]
    if name and name not in known:
        where = f"{pod['metadata']['name']}_{pod['metadata']['namespace']}"
        raise status.bad_request(f"container {name} is not valid for pod {where}")
    return name or str(known[0])


async def _run(
    socket: web.WebSocketResponse,
    execute: Execute,
    pod: Object,
    container: str,
    argv: Sequence[str],
    *,
    has_input: bool,
) -> Object:
    """Run the command with its streams; the Status that ends it."""
    pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
    given = (pipes[0][0], pipes[1][1], pipes[2][1])
    ours = (pipes[0][1], pipes[1][0], pipes[2][0])
    os.set_blocking(ours[0], False)
    if not has_input:
        os.close(ours[0])
    tasks = [asyncio.create_task(_send(socket, n, ours[n])) for n in (_STDOUT, _STDERR)]
    feeding = asyncio.create_task(_feed(socket, ours[0], has_input))
    try:
        try:
            code = await execute(pod, container, argv, given)
        finally:
            for fd in given:
                os.close(fd)
        await asyncio.gather(*tasks)
        return _exit_status(code)
    finally:
        for task in (feeding, *tasks):
            task.cancel()
        await asyncio.gather(feeding, *tasks, return_exceptions=True)


async def _send(socket: web.WebSocketResponse, channel: int, fd: int) -> None:
    """What the command writes, until it and all that it left behind have closed the pipe."""
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    file = os.fdopen(fd, "rb", 0)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
    try:
        while chunk := await reader.read(_CHUNK):
            await socket.send_bytes(bytes([channel]) + chunk)
    finally:
        transport.close()


async def _feed(socket: web.WebSocketResponse, fd: int, is_open: bool) -> None:
    """What the client sends, to the command's input."""
    try:
        async for message in socket:
            if message.type is not WSMsgType.BINARY or not message.data or not is_open:
                continue
            channel, data = message.data[0], message.data[1:]
            if channel == _CLOSE and data[:1] == bytes([_STDIN]):
                os.close(fd)
                is_open = False
            elif channel == _STDIN:
                await _write(fd, data)
    except OSError:
        return  # the command reads no more
    finally:
        if is_open:
            os.close(fd)


async def _write(fd: int, data: bytes) -> None:
    loop = asyncio.get_running_loop()
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            ready: asyncio.Future[None] = loop.create_future()
            loop.add_writer(fd, _resolve, ready)
            try:
                await ready
            finally:
                loop.remove_writer(fd)


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _exit_status(code: int) -> Object:
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    made = _failure("NonZeroExitCode", 500, f"command terminated with non-zero exit code: {code}")
    made["details"] = {"causes": [{"reason": "ExitCode", "message": str(code)}]}
    del made["code"]
    return made


def _failure(reason: str, code: int, message: str) -> dict[str, Any]:
    return {
        "metadata": {},
        "status": "Failure",
        "reason": reason,
        "code": code,
        "message": message,
    }
