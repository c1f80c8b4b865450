"""A stand-in for an API server: paths and their answers, on loopback without TLS.

Only for how our commands behave towards one: what it answers is what a test says.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

Object = dict[str, Any]
HANGS = -1  # as a status code: never answers

_KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
contexts: [{{name: here, context: {{cluster: here, user: me, namespace: {namespace}}}}}]
clusters: [{{name: here, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
users: [{{name: me, user: {{token: secret}}}}]
"""


@dataclass
class FakeApi:
    """`answers` maps `METHOD /path` to an object, a status code, or bytes; a list is a List.

    What is not in it is 404. `requests` are (method, path with query, headers).
    """

    answers: dict[str, Any]
    port: int = 0
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def kubeconfig(self, folder: Path, namespace: str = "shop") -> str:
        path = folder / "kubeconfig"
        path.write_text(_KUBECONFIG.format(port=self.port, namespace=namespace))
        return str(path)

    async def _answer(self, request: web.Request) -> web.Response:
        self.requests.append((request.method, request.path_qs, dict(request.headers)))
        answer = self.answers.get(f"{request.method} {request.path}", 404)
        if answer == HANGS:
            await asyncio.Event().wait()
        if isinstance(answer, bytes):
            return web.Response(body=answer)
        if isinstance(answer, int):
            message = f"{request.method} {request.path} answered {answer}"
            status = {"kind": "Status", "code": answer, "reason": "Said", "message": message}
            return web.json_response(status, status=answer)
        if isinstance(answer, list):
            answer = {"kind": "List", "metadata": {}, "items": answer}
        return web.json_response(answer)


@contextmanager
def running_fake_api(answers: dict[str, Any]) -> Iterator[FakeApi]:
    """Serve on a free port, in a thread with a loop of its own."""
    api = FakeApi(answers)
    started = threading.Event()
    ends: list[Callable[[], object]] = []

    async def serve() -> None:
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", api._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        api.port = runner.addresses[0][1]
        end, loop = asyncio.Event(), asyncio.get_running_loop()
        ends.append(lambda: loop.call_soon_threadsafe(end.set))
        started.set()
        await end.wait()
        await runner.cleanup()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    started.wait()
    try:
        yield api
    finally:
        ends[0]()
        thread.join()
