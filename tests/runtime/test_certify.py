"""The request to identity, against servers that are not identity or answer badly."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mesh.core.errors import IdentityError
from mesh.core.names import WorkloadId
from mesh.runtime import certify, tls
from mesh.runtime.certify import IdentityClient, Issued
from tests.support.authority import TrustChain, workload

pytestmark = pytest.mark.anyio

ME = WorkloadId("cluster.local", "mesh", "mesh-identity")
GOOD = {"chain": "C", "bundle": "B", "not_after": 7}


class Server:
    """Answers every request with the same bytes and keeps what it was sent."""

    def __init__(self, answer: bytes = b"", silence: asyncio.Event | None = None) -> None:
        self.answer = answer
        self.silence = silence
        self.received = b""
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, EOFError, ssl.SSLError):
            self.received += await reader.readuntil(b"\r\n\r\n")
            self.received += await reader.read(65_536)
            if self.silence is not None:
                await self.silence.wait()
            writer.write(self.answer)
            await writer.drain()
        writer.transport.abort()


def http(status: int, data: Any, extra: str = "") -> bytes:
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    return f"HTTP/1.1 {status} X\r\n{extra}Content-Length: {len(body)}\r\n\r\n".encode() + body


@contextlib.asynccontextmanager
async def listening(
    folder: Path,
    chain: TrustChain,
    answer: bytes,
    who: WorkloadId = ME,
    *,
    silence: asyncio.Event | None = None,
) -> AsyncIterator[Server]:
    server = Server(answer, silence)
    leaf = chain.leaf_file(folder, who)
    context = tls.server_context(chain.bundle, leaf, ("http/1.1",), require_client=False)
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0, ssl=context)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        await listener.wait_closed()
        await asyncio.sleep(0.01)  # aborted transports close their sockets


def client(folder: Path, port: int) -> IdentityClient:
    token = folder / "token"
    token.write_text("secret-token\n")
    return IdentityClient(address=f"127.0.0.1:{port}", token_file=token)


async def reason_of(client: IdentityClient, bundle: str) -> str:
    with pytest.raises(IdentityError) as caught:
        await client.certify("CSR", bundle)
    return caught.value.reason


async def test_token_and_csr_go_to_identity_and_the_leaf_comes_back(tmp_path: Path) -> None:
    chain = TrustChain()
    async with listening(tmp_path, chain, http(200, GOOD)) as server:
        issued = await client(tmp_path, server.port).certify("CSR", chain.bundle)

    head, _, body = server.received.partition(b"\r\n\r\n")
    assert issued == Issued(chain="C", bundle="B", not_after=7.0)
    assert head.startswith(b"POST /v1/certificates HTTP/1.1\r\nhost: mesh-identity.mesh.service")
    assert json.loads(body) == {"token": "secret-token", "csr": "CSR"}


@pytest.mark.parametrize("who", [workload(), workload("mesh-identity", "shop"), workload("x" * 99)])
async def test_the_token_is_not_sent_to_anybody_else(tmp_path: Path, who: WorkloadId) -> None:
    chain = TrustChain()
    async with listening(tmp_path, chain, http(200, GOOD), who) as server:
        assert await reason_of(client(tmp_path, server.port), chain.bundle) == "wrong-identity"

    assert server.received == b""


async def test_the_token_is_not_sent_to_a_server_of_another_root(tmp_path: Path) -> None:
    chain, other = TrustChain(), TrustChain()
    async with listening(tmp_path, other, http(200, GOOD)) as server:
        reason = await reason_of(client(tmp_path, server.port), chain.bundle)

    assert reason == "unknown-authority"
    assert server.received == b""


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (http(429, {"reason": "rate-limited", "message": "later"}), "rate-limited"),
        (http(503, {"reason": "issuer-expired", "message": "m"}, "X: y\r\n"), "issuer-expired"),
        (http(200, {"chain": "C"}), "bad-answer"),
        (http(200, {"chain": "C", "bundle": "B", "not_after": "soon"}), "bad-answer"),
        (http(200, b"not json"), "bad-answer"),
        (http(500, b"oops"), "bad-answer"),
        (http(200, []), "bad-answer"),
        (b"", "identity-unreachable"),
        (b"HTTP/1.1 200 OK\r\n", "identity-unreachable"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "identity-unreachable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort", "identity-unreachable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n", "identity-unreachable"),
        (b"HTTP/1.1 abc\r\nContent-Length: 0\r\n\r\n", "identity-unreachable"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "identity-unreachable"),
        (b"x" * 40_000, "identity-unreachable"),
    ],
)
async def test_bad_answers_have_a_reason(tmp_path: Path, answer: bytes, reason: str) -> None:
    chain = TrustChain()
    async with listening(tmp_path, chain, answer) as server:
        assert await reason_of(client(tmp_path, server.port), chain.bundle) == reason


async def test_a_server_without_tls_gets_no_token(tmp_path: Path) -> None:
    received = bytearray()

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.read(65_536))
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        reason = await reason_of(client(tmp_path, port), TrustChain().bundle)

    assert reason.startswith("tls-")
    assert b"secret-token" not in received


async def test_nobody_there_has_a_reason(tmp_path: Path) -> None:
    chain = TrustChain()
    async with listening(tmp_path, chain, b"") as server:
        port = server.port

    assert await reason_of(client(tmp_path, port), chain.bundle) == "identity-unreachable"
    unknown = IdentityClient(address="no.such.host.invalid:1", token_file=tmp_path / "token")
    assert await reason_of(unknown, chain.bundle) == "identity-unreachable"


async def test_one_dead_replica_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = TrustChain()

    async def both(self: IdentityClient) -> list[str]:
        return ["127.0.0.9", "127.0.0.1"]

    monkeypatch.setattr(IdentityClient, "_resolve", both)
    async with listening(tmp_path, chain, http(200, GOOD)) as server:
        issued = await client(tmp_path, server.port).certify("CSR", chain.bundle)

    assert issued.chain == "C"


async def test_silence_ends_in_a_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certify, "_REQUEST_SECONDS", 0.3)
    chain, silence = TrustChain(), asyncio.Event()

    async with listening(tmp_path, chain, b"", silence=silence) as server:
        reason = await reason_of(client(tmp_path, server.port), chain.bundle)
        silence.set()

    assert reason == "identity-timeout"


@pytest.mark.parametrize("token", [None, "", "\n", "é"])
async def test_a_missing_token_is_told_before_anything_is_sent(
    tmp_path: Path, token: str | None
) -> None:
    path = tmp_path / "no-token"
    if token is not None:
        path.write_text(token)
    asker = IdentityClient(address="127.0.0.1:1", token_file=path)

    assert await reason_of(asker, TrustChain().bundle) == "token-missing"
