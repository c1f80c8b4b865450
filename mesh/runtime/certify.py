"""Asks identity for a leaf: one HTTPS request of our own, since the proxy has no HTTP client.

The connection is anonymous on our side (there may be no leaf yet); the server must prove to be
identity itself under the bundle in force before the token leaves this process. The token file
is read for each request, because the kubelet rotates it.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import ssl
from dataclasses import dataclass
from typing import Any, Final, Protocol

from mesh.core import labels
from mesh.core.errors import IdentityError
from mesh.core.names import WorkloadId, split_authority
from mesh.runtime import tls
from mesh.runtime.tls import FilePath

CERTIFICATES_PATH: Final = "/v1/certificates"
MAX_ANSWER: Final = 512 * 1024
_MAX_HEAD: Final = 16 * 1024
_CONNECT_SECONDS: Final = 3.0
_REQUEST_SECONDS: Final = 10.0
_MAX_TRIES: Final = 4  # addresses of the name that one attempt goes through


@dataclass(frozen=True, slots=True)
class Issued:
    """What identity gave: leaf first, then intermediates; the bundle in force; the leaf's end."""

    chain: str
    bundle: str
    not_after: float  # unix seconds


class Certifier(Protocol):
    """Turns a CSR into a leaf. Raises IdentityError; `bundle` is what the asker trusts now."""

    async def certify(self, csr: str, bundle: str) -> Issued: ...


class IdentityClient:
    """The certifier that asks the identity service over the network."""

    def __init__(
        self,
        *,
        address: str,
        token_file: FilePath,
        trust_domain: str = labels.TRUST_DOMAIN,
        mesh_namespace: str = labels.MESH_NAMESPACE,
    ) -> None:
        self._host, port = split_authority(address)
        self._port = port or labels.IDENTITY_PORT
        self._token_file = token_file
        self._server = WorkloadId(trust_domain, mesh_namespace, labels.IDENTITY)
        self._server_name = tls.server_name(self._server.dns(mesh_namespace))

    async def certify(self, csr: str, bundle: str) -> Issued:
        """Send token and CSR to one replica after another until one answers."""
        body = json.dumps({"token": self._token(), "csr": csr}).encode()
        context = tls.client_context(bundle, None, (labels.ALPN_IDENTITY,))
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                status, answer = await self._ask(context, body)
        except TimeoutError as error:
            raise IdentityError(
                "identity-timeout", f"identity did not answer within {_REQUEST_SECONDS:.0f} s"
            ) from error
        return _read_answer(status, answer)

    def _token(self) -> str:
        try:
            with open(self._token_file, encoding="ascii") as file:
                token = file.read().strip()
        except (OSError, ValueError) as error:
            raise IdentityError("token-missing", f"service account token: {error}") from error
        if not token:
            raise IdentityError("token-missing", f"{self._token_file}: expected a token, got none")
        return token

    async def _ask(self, context: ssl.SSLContext, body: bytes) -> tuple[int, bytes]:
        problem: IdentityError | None = None
        for address in await self._resolve():
            try:
                return await self._ask_one(address, context, body)
            except IdentityError as error:
                problem = error
        raise problem or IdentityError("identity-unreachable", f"{self._host}: no address")

    async def _resolve(self) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise IdentityError("identity-unreachable", f"{self._host}: {error}") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        random.shuffle(addresses)
        return addresses[:_MAX_TRIES]

    async def _ask_one(
        self, address: str, context: ssl.SSLContext, body: bytes
    ) -> tuple[int, bytes]:
        where = f"identity at {address}:{self._port}"
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(
                    address,
                    self._port,
                    ssl=context,
                    server_hostname=self._server_name,
                    limit=_MAX_HEAD,
                )
        except (OSError, TimeoutError) as error:
            reason = tls.failure_reason(error)
            raise IdentityError(
                "identity-unreachable" if reason == "connect-failed" else reason,
                f"{where}: {error or 'no answer'}",
            ) from error
        try:
            if tls.peer_workload(writer.get_extra_info("ssl_object")) != self._server:
                raise IdentityError("wrong-identity", f"{where} is not {self._server.uri()}")
            writer.write(_request_head(self._server_name, len(body)) + body)
            return await _read_response(reader)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise IdentityError("identity-unreachable", f"{where}: {error}") from error
        finally:
            writer.transport.abort()


def _request_head(host: str, length: int) -> bytes:
    return (
        f"POST {CERTIFICATES_PATH} HTTP/1.1\r\nhost: {host}\r\n"
        f"content-type: application/json\r\ncontent-length: {length}\r\n"
        "connection: close\r\n\r\n"
    ).encode("ascii")


async def _read_response(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of one HTTP/1.1 response with a content-length. Raises ValueError."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    version, _, rest = head[0].partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise ValueError(f"expected an HTTP/1.1 response, got {head[0][:80]!r}")
    length = -1
    for line in head[1:]:
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-length" and value.strip().isdigit():
            length = int(value)
    if not 0 <= length <= MAX_ANSWER:
        raise ValueError(f"expected a content-length of at most {MAX_ANSWER}")
    return int(rest[:3]), await reader.readexactly(length)


def _read_answer(status: int, body: bytes) -> Issued:
    try:
        answer: Any = json.loads(body)
        if status == 200:
            return Issued(
                chain=str(answer["chain"]),
                bundle=str(answer["bundle"]),
                not_after=float(answer["not_after"]),
            )
        reason, message = str(answer["reason"])[:64], str(answer["message"])[:500]
    except (ValueError, KeyError, TypeError) as error:
        raise IdentityError("bad-answer", f"identity answered {status} unreadably") from error
    raise IdentityError(reason, f"identity refused ({status}): {message!r}")
