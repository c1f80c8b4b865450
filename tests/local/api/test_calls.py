"""Webhooks over HTTPS: by URL and through Services, with the bundle that the object names."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mesh.local.api import certs
from mesh.local.api.calls import WebhookCaller
from mesh.local.api.store import Store
from mesh.local.api.webhooks import CallError

NAME = "kubernetes.default.svc"  # the serving certificate of `certs` has it
REVIEW = {"kind": "AdmissionReview", "request": {"uid": "1"}}


@contextlib.asynccontextmanager
async def webhook(
    folder: Path, answer: bytes, heard: list[bytes]
) -> AsyncIterator[tuple[int, str]]:
    """An HTTPS server on loopback that always answers the same: its port and caBundle."""
    files = certs.ensure(folder, ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.server, files.server_key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            heard.extend((head, await reader.readexactly(length)))
            writer.write(answer)
            await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    bundle = base64.b64encode(files.ca.read_bytes()).decode()
    async with server:
        yield server.sockets[0].getsockname()[1], bundle


def http(body: bytes, status: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % (
        status,
        len(body),
    )
    return head + b"connection: close\r\n\r\n" + body


def call(folder: Path, answer: bytes, store: Store | None = None, **client: Any) -> Any:
    """What the caller made of a webhook, and what the webhook heard."""
    heard: list[bytes] = []

    async def run() -> Any:
        async with webhook(folder, answer, heard) as (port, bundle):
            where = {k: v.format(port=port) if k == "url" else v for k, v in client.items()}
            if store is not None:
                publish(store, port)
            caller = WebhookCaller(store or Store())
            try:
                config = {"caBundle": bundle, **where}
                return await caller({"clientConfig": config}, REVIEW, 5.0)
            finally:
                await caller.close()

    return asyncio.run(run()), heard


def publish(store: Store, port: int) -> None:
    """A headless Service `kubernetes` in `default`, with one endpoint on loopback."""
    meta = {"name": "kubernetes", "namespace": "default"}
    spec = {"clusterIP": "None", "ports": [{"name": "https", "port": 443}]}
    store.create("services", {"metadata": meta, "spec": spec})
    labels = {"kubernetes.io/service-name": "kubernetes"}
    store.create(
        "endpointslices.discovery.k8s.io",
        {
            "metadata": {**meta, "labels": labels},
            "endpoints": [
                {"addresses": ["127.0.0.2"], "conditions": {"ready": False}},
                {"addresses": ["127.0.0.1"], "conditions": {"ready": True}},
            ],
            "ports": [{"name": "https", "port": port}],
        },
    )


GOOD = http(json.dumps({"response": {"uid": "1", "allowed": True}}).encode())


def test_a_webhook_is_asked_by_its_url(tmp_path: Path) -> None:
    answer, (head, body) = call(tmp_path, GOOD, url="https://127.0.0.1:{port}/mutate?x=1")

    assert answer == {"response": {"uid": "1", "allowed": True}}
    assert head.startswith(b"POST /mutate?x=1&timeout=5s HTTP/1.1\r\n")
    assert json.loads(body) == REVIEW


def test_a_webhook_behind_a_service_is_found_and_must_prove_the_services_name(
    tmp_path: Path,
) -> None:
    service = {"namespace": "default", "name": "kubernetes", "port": 443, "path": "/m"}

    answer, (head, _) = call(tmp_path, GOOD, Store(), service=service)

    assert answer["response"]["allowed"] is True
    assert head.startswith(b"POST /m?timeout=5s HTTP/1.1\r\n")


def test_a_webhook_with_anothers_certificate_is_not_trusted(tmp_path: Path) -> None:
    other = certs.ensure(tmp_path / "other", [])
    bundle = base64.b64encode(other.ca.read_bytes()).decode()

    with pytest.raises(CallError, match="certificate verify failed"):
        call(tmp_path / "own", GOOD, url="https://127.0.0.1:{port}/", caBundle=bundle)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (http(b"no", b"500 Odd"), "unexpected response code: 500"),
        (http(b"no"), "the answer is not JSON"),
        (http(b"[]"), "the answer is not an AdmissionReview"),
        (b"nonsense\r\n\r\n", "Post"),
        (b"", "Post"),
    ],
)
def test_an_answer_that_is_none_is_a_failed_call(tmp_path: Path, answer: bytes, words: str) -> None:
    with pytest.raises(CallError, match=words):
        call(tmp_path, answer, url="https://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    ("client", "words"),
    [
        ({"service": {"namespace": "a", "name": "missing"}}, 'service "missing" not found'),
        ({"url": "https://127.0.0.1:1/"}, "Post"),
        ({"url": "https://127.0.0.1:1/", "caBundle": "%"}, "unable to load root certificates"),
    ],
)
def test_a_webhook_that_is_not_there_is_a_failed_call(client: dict[str, Any], words: str) -> None:
    async def run() -> None:
        caller = WebhookCaller(Store())
        try:
            await caller({"clientConfig": client}, REVIEW, 5.0)
        finally:
            await caller.close()

    with pytest.raises(CallError, match=words):
        asyncio.run(run())


def test_a_webhook_that_says_nothing_is_given_up_in_time(tmp_path: Path) -> None:
    async def run() -> None:
        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_server(hold, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        caller = WebhookCaller(Store())
        async with server:
            try:
                config = {"url": f"https://127.0.0.1:{port}/"}
                await caller({"clientConfig": config}, REVIEW, 0.05)
            finally:
                await caller.close()

    with pytest.raises(CallError, match="context deadline exceeded"):
        asyncio.run(run())
