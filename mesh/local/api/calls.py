"""HTTPS to admission webhooks: by URL, or through a Service of the cluster. A shell."""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import msgspec

from mesh.local.api.resources import Object
from mesh.local.api.store import Store
from mesh.local.api.webhooks import CallError

MAX_ANSWER: Final = 8 << 20  # bytes


class WebhookCaller:
    """Asks webhooks over one HTTP client. Call `close` at the end."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[str, ssl.SSLContext] = {}

    async def __call__(self, webhook: Mapping[str, Any], review: Object, seconds: float) -> Object:
        """The webhook's AdmissionReview. Raises CallError."""
        client = webhook.get("clientConfig") or {}
        url, name = self._where(client)
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, enable_cleanup_closed=False),
                auto_decompress=True,
            )
        try:
            async with self._session.post(
                url,
                data=msgspec.json.encode(review),
                params={"timeout": f"{seconds:g}s"},
                headers={"Content-Type": "application/json", "Accept": "application/json"},
                ssl=self._context(client.get("caBundle") or ""),
                server_hostname=name,
                timeout=aiohttp.ClientTimeout(total=seconds),
                allow_redirects=False,
            ) as response:
                raw = await response.content.read(MAX_ANSWER)
                if response.status != 200:
                    raise CallError(f"unexpected response code: {response.status}")
        except TimeoutError as error:
            raise CallError(f'Post "{url}": context deadline exceeded') from error
        except (aiohttp.ClientError, OSError, ssl.SSLError) as error:
            raise CallError(f'Post "{url}": {_words(error)}') from error
        try:
            answer = msgspec.json.decode(raw)
        except msgspec.DecodeError as error:
            raise CallError(f"the answer is not JSON: {error}") from error
        if not isinstance(answer, dict):
            raise CallError("the answer is not an AdmissionReview")
        return answer

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            await asyncio.sleep(0)

    def _where(self, client: Mapping[str, Any]) -> tuple[str, str | None]:
        """The URL to dial and the name that the server's certificate must have."""
        if client.get("url"):
            return str(client["url"]), None
        service = client.get("service") or {}
        namespace, name = str(service.get("namespace")), str(service.get("name"))
        port = int(service.get("port") or 443)
        path = "/" + str(service.get("path") or "/").lstrip("/")
        host, port = self._address(namespace, name, port)
        shown = f"[{host}]" if ":" in host else host
        return f"https://{shown}:{port}{path}", f"{name}.{namespace}.svc"

    def _address(self, namespace: str, name: str, port: int) -> tuple[str, int]:
        found = self._store.find("services", namespace, name)
        if found is None:
            raise CallError(f'service "{name}" not found')
        spec = found["spec"]
        if all(one.get("port") != port for one in spec.get("ports") or ()):
            raise CallError(f'no service port {port} found for service "{name}"')
        address = spec.get("clusterIP")
        if spec.get("type") == "ExternalName":
            return str(spec["externalName"]), port
        if address and address != "None":
            return str(address), port
        return self._ready_endpoint(namespace, name, port, spec)

    def _ready_endpoint(
        self, namespace: str, name: str, port: int, spec: Mapping[str, Any]
    ) -> tuple[str, int]:
        """A ready address behind a headless Service."""
        wanted = next(one for one in spec["ports"] if one.get("port") == port)
        for part in self._store.scan("endpointslices.discovery.k8s.io", namespace):
            labels = part["metadata"].get("labels") or {}
            if labels.get("kubernetes.io/service-name") != name:
                continue
            numbers = [
                one["port"]
                for one in part.get("ports") or ()
                if one.get("name", "") == wanted.get("name", "")
            ]
            for endpoint in part.get("endpoints") or ():
                if numbers and (endpoint.get("conditions") or {}).get("ready") is not False:
                    return str(endpoint["addresses"][0]), int(numbers[0])
        raise CallError(f'no endpoints available for service "{name}"')

    def _context(self, bundle: str) -> ssl.SSLContext:
        if bundle not in self._contexts:
            if len(self._contexts) > 64:
                self._contexts.clear()
            try:
                pem = base64.b64decode(bundle, validate=True).decode() if bundle else None
                self._contexts[bundle] = ssl.create_default_context(cadata=pem)
            except (binascii.Error, UnicodeDecodeError, ssl.SSLError) as error:
                raise CallError(f"unable to load root certificates: {error}") from error
        return self._contexts[bundle]


def _words(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"x509: {error.certificate_error}"
    text = str(error) or type(error).__name__
    return text[:300]
