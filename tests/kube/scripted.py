"""A scripted API server on loopback: each request is answered by the next line of a script."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web
from lightkube.config.kubeconfig import KubeConfig
from lightkube.config.models import Cluster, User

from mesh.kube.client import KubeClient
from mesh.kube.config import Access

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Script:
    """Answers in order; when they run out, requests wait until the server stops."""

    answers: list[Answer]
    requests: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        if not self.answers:
            await asyncio.Event().wait()
        return await self.answers.pop(0)(request)


def pod(name: str, version: int, **meta: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "default", "name": name, "uid": name, **meta}
        | {"resourceVersion": str(version)}
    }


def listing(*items: dict[str, Any], version: int, token: str = "") -> Answer:
    body = {"metadata": {"resourceVersion": str(version), "continue": token}, "items": list(items)}
    return answer(body)


def answer(body: Any, code: int = 200, headers: dict[str, str] | None = None) -> Answer:
    async def reply(_: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=code, headers=headers)

    return reply


def status(code: int, reason: str, message: str = "", **headers: str) -> Answer:
    body = {"kind": "Status", "code": code, "reason": reason, "message": message}
    return answer(body, code, {key.replace("_", "-"): value for key, value in headers.items()})


def events(*lines: tuple[str, dict[str, Any]], stay: bool = False, size: int = 0) -> Answer:
    """A watch answer; `stay` keeps it open in silence, `size` cuts it into pieces of bytes."""

    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        data = b"".join(
            json.dumps({"type": kind, "object": obj}).encode() + b"\n" for kind, obj in lines
        )
        for start in range(0, len(data), size or max(1, len(data))):
            await response.write(data[start : start + (size or len(data))])
        if stay:
            await asyncio.Event().wait()
        return response

    return reply


@contextlib.asynccontextmanager
async def serving(*answers: Answer, token: str = "") -> AsyncIterator[tuple[KubeClient, Script]]:
    """A client of a server that follows the script."""
    script = Script(list(answers))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", script.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.0, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    config = KubeConfig.from_one(
        cluster=Cluster(server=f"http://127.0.0.1:{port}"), user=User(token=token or None)
    ).get()
    assert config is not None
    try:
        async with KubeClient(Access(config, in_cluster=True), timeout=5.0) as client:
            yield client, script
    finally:
        await runner.cleanup()


def decode(body: bytes) -> Any:
    return msgspec.json.decode(body)
