"""Reading destination's admin port from a terminal, through the API server.

The API server's proxy strips the caller's Authorization, so the request carries a token of
its own: one for service account mesh-viewer, and the right to create it is the permission.
Where the proxy subresource is refused, `kubectl port-forward` takes its place.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream

from mesh.core import labels
from mesh.core.errors import ApiError
from mesh.kube.client import KubeClient
from mesh.kube.pods import is_leaving, is_ready, name_of
from mesh.kube.resources import Object

NO_MESH: Final = "NoMesh"  # reason of an ApiError: what `mesh install` makes is not there
_FORWARD_SECONDS: Final = 10.0
# Not permitted, not known, or the API server has no route to pods: the kubelet may have one.
_REFUSED = (403, 405, 501, 502, 503, 504)
_BROKEN = (
    OSError,
    TimeoutError,
    ValueError,
    anyio.BrokenResourceError,
    anyio.DelimiterNotFound,
    anyio.EndOfStream,
    anyio.IncompleteRead,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one destination pod said: `body`, or the `error` that came in its place."""

    pod: str
    body: bytes = b""
    error: ApiError | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    """A path below the admin port, and its query."""

    path: str
    query: Mapping[str, str]

    @property
    def url(self) -> str:
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path


async def ask_destination(
    client: KubeClient,
    mesh_namespace: str,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    pods: Sequence[Object] | None = None,
    port_forward: Sequence[str] = (),
) -> list[Answer]:
    """GET `path` on the admin port of every ready destination pod, all at once.

    `pods` are the pods to ask, where the caller has them already. `port_forward` holds
    kubectl's options for the same cluster (`--context`, ...). Raises ApiError when the pods
    cannot be listed or the token is refused.
    """
    selector = f"{labels.L_COMPONENT}=destination"
    asked = _Asked(path, query or {})
    token = ""
    found: list[Object] = [] if pods is None else [dict(pod) for pod in pods]

    async def list_pods() -> None:
        found.extend(await client.list("pods", mesh_namespace, label_selector=selector))

    async def take_token() -> None:
        nonlocal token
        try:
            token = await client.create_token(
                labels.VIEWER, mesh_namespace, audiences=[labels.DESTINATION_AUDIENCE]
            )
        except ApiError as error:
            if error.code != 404:
                raise
            raise ApiError(
                404,
                NO_MESH,
                f"no mesh in namespace {mesh_namespace}: install one "
                "(mesh install | kubectl apply -f -) or name its namespace with --mesh-namespace",
            ) from error
        except KeyError as error:
            raise ApiError(0, "BadAnswer", "TokenRequest: expected a token, got none") from error

    await _both(list_pods if pods is None else _nothing, take_token)
    ready = [name_of(pod) for pod in found if is_ready(pod) and not is_leaving(pod)]
    answers: list[Answer] = []

    async def ask(pod: str) -> None:
        answers.append(await _ask_pod(client, mesh_namespace, pod, asked, token, port_forward))

    async with anyio.create_task_group() as tasks:
        for pod in ready:
            tasks.start_soon(ask, pod)
    return sorted(answers, key=lambda answer: answer.pod)


async def _nothing() -> None:
    return None


async def _both(*jobs: Callable[[], Awaitable[None]]) -> None:
    """Run all; of several failures raise the first, not a group."""
    failures: list[ApiError] = []

    async def guarded(job: Callable[[], Awaitable[None]]) -> None:
        try:
            await job()
        except ApiError as error:
            failures.append(error)

    async with anyio.create_task_group() as tasks:
        for job in jobs:
            tasks.start_soon(guarded, job)
    if failures:
        raise failures[0]


async def _ask_pod(
    client: KubeClient,
    namespace: str,
    pod: str,
    asked: _Asked,
    token: str,
    port_forward: Sequence[str],
) -> Answer:
    headers = {labels.H_VIEWER_TOKEN: token}
    base = f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod)}"
    target = f"{base}:{labels.CONTROL_ADMIN_PORT}/proxy{asked.path}"
    try:
        body = await client.raw("GET", target, params=asked.query, headers=headers)
        return Answer(pod, body=body)
    except ApiError as error:
        if error.code not in _REFUSED or shutil.which("kubectl") is None:
            return Answer(pod, error=error)
        refused = error
    try:
        with anyio.fail_after(_FORWARD_SECONDS):
            return Answer(pod, await _forwarded(namespace, pod, asked.url, headers, port_forward))
    except _BROKEN as error:
        why = f"{refused.message}; kubectl port-forward in its place failed: {error or 'late'}"
        return Answer(pod, error=ApiError(refused.code, refused.reason, why))


async def _forwarded(
    namespace: str, pod: str, path: str, headers: dict[str, str], options: Sequence[str]
) -> bytes:
    command = ["kubectl", *options, "-n", namespace, "port-forward", f"pod/{pod}"]
    command.append(f":{labels.CONTROL_ADMIN_PORT}")
    process = await anyio.open_process(command, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        lines = BufferedByteReceiveStream(process.stdout)
        line = (await lines.receive_until(b"\n", 4096)).decode("utf-8", "replace")
        port = int(line.split(" -> ")[0].rpartition(":")[2])
        return await _plain_get(port, path, headers)
    finally:
        with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
            process.kill()
        await process.aclose()


async def _plain_get(port: int, path: str, headers: dict[str, str]) -> bytes:
    """One HTTP/1.0 request to a forwarded port, so that the body ends with the connection."""
    lines = [f"GET {path} HTTP/1.0", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send("\r\n".join([*lines, "", ""]).encode())
        received = bytearray()
        async for chunk in stream:
            received += chunk
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    status = head.split(b" ", 2)
    if len(status) < 2 or status[1] != b"200":
        raise ValueError(f"expected 200, got {head[:60]!r}")
    return body
