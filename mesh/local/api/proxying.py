"""The proxy subresources: a request to a pod or Service, passed on by the API server. A shell.

As the real server does, the caller's Authorization never reaches the pod; all else does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import aiohttp
from aiohttp import web
from yarl import URL

from mesh.local.api import status
from mesh.local.api.paths import Target
from mesh.local.api.resources import Object
from mesh.local.api.store import Store

_HOP: Final = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_DROPPED: Final = _HOP | {"authorization", "host"}
CONNECT: Final = 10.0  # seconds


class Forwarder:
    """Passes requests on over one HTTP client. Call `close` at the end."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._session: aiohttp.ClientSession | None = None

    async def forward(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Raises ApiError 400, 404, 503."""
        scheme, name, port = split_name(target.name)
        if target.plural == "pods":
            host, number = self._pod(target.namespace, name, port)
        else:
            host, number = self._service(target.namespace, name, port)
        shown = f"[{host}]" if ":" in host else host
        raw = request.rel_url.raw_query_string
        text = f"{scheme}://{shown}:{number}{target.rest or '/'}" + (f"?{raw}" if raw else "")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                auto_decompress=False,
                connector=aiohttp.TCPConnector(limit=0, ssl=False),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        headers = _kept(request.headers.items(), _DROPPED)
        headers.append(("Host", f"{shown}:{number}"))
        headers.append(("X-Forwarded-For", request.remote or ""))
        try:
            async with self._session.request(
                request.method,
                URL(text, encoded=True),
                headers=headers,
                data=request.content if request.body_exists else None,
                allow_redirects=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            ) as answer:
                return await _pass_back(request, answer)
        except (aiohttp.ClientConnectionError, TimeoutError, OSError) as error:
            words = f"error trying to reach service: {str(error) or type(error).__name__}"
            raise status.StatusError(503, "ServiceUnavailable", words) from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _pod(self, namespace: str, name: str, port: str) -> tuple[str, int]:
        pod = self._store.get("pods", namespace, name)
        address = (pod.get("status") or {}).get("podIP")
        if not address:
            raise status.bad_request(f'address not allowed: pod "{name}" has no address yet')
        containers = pod["spec"].get("containers") or ()
        if not port:
            ports = [p for c in containers for p in c.get("ports") or ()]
            return address, int(ports[0]["containerPort"]) if ports else 80
        return address, _port_of(containers, port, f'pod "{name}"')

    def _service(self, namespace: str, name: str, port: str) -> tuple[str, int]:
        spec = self._store.get("services", namespace, name)["spec"]
        ports = spec.get("ports") or []
        chosen = next((p for p in ports if port in (p.get("name", ""), str(p.get("port")))), None)
        if chosen is None and not port and len(ports) == 1:
            chosen = ports[0]
        if chosen is None:
            words = f'no service port "{port}" found for service "{name}"'
            raise status.StatusError(503, "ServiceUnavailable", words)
        for part in self._store.scan("endpointslices.discovery.k8s.io", namespace):
            labels = part["metadata"].get("labels") or {}
            if labels.get("kubernetes.io/service-name") != name:
                continue
            for one in part.get("ports") or ():
                if one.get("name", "") != chosen.get("name", ""):
                    continue
                for endpoint in part.get("endpoints") or ():
                    if (endpoint.get("conditions") or {}).get("ready") is not False:
                        return str(endpoint["addresses"][0]), int(one["port"])
        words = f'no endpoints available for service "{name}"'
        raise status.StatusError(503, "ServiceUnavailable", words)


def split_name(text: str) -> tuple[str, str, str]:
    """`[https:]name[:port]` -> scheme, name, port. Raises ApiError 400."""
    parts = text.split(":")
    match parts:
        case [name]:
            return "http", name, ""
        case [name, port]:
            return "http", name, port
        case [scheme, name, port] if scheme in ("http", "https", ""):
            return scheme or "http", name, port
    raise status.bad_request(f'invalid proxy target "{text}"')


def _port_of(containers: Iterable[Object], port: str, where: str) -> int:
    if port.isdigit():
        return int(port)
    for container in containers:
        for one in container.get("ports") or ():
            if one.get("name") == port:
                return int(one["containerPort"])
    raise status.bad_request(f'no port named "{port}" in {where}')


async def _pass_back(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, reason=answer.reason)
    for name, value in _kept(answer.headers.items(), _HOP):
        response.headers.add(name, value)
    await response.prepare(request)
    async for chunk in answer.content.iter_any():
        await response.write(chunk)
    await response.write_eof()
    return response


def _kept(headers: Iterable[tuple[str, Any]], dropped: frozenset[str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() not in dropped]
