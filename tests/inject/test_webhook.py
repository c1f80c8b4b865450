"""What the webhook answers when something is missing, slow or broken."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from mesh.core.errors import ApiError
from mesh.inject.config import InjectConfig
from mesh.inject.events import News
from mesh.inject.patch import Cluster, Namespace
from mesh.inject.webhook import Metrics, Webhook
from mesh.runtime.web import HttpServer
from tests.inject.pods import BUNDLE, make_pod

Namespaces = Callable[[str], Coroutine[Any, Any, Namespace]]


async def of_shop(name: str) -> Namespace:
    return Namespace(name, {}, {"mesh/inject": "enabled"})


@dataclass
class FakeView:
    config: InjectConfig | None = field(default_factory=InjectConfig)
    bundle: str = BUNDLE
    namespace: Namespaces = of_shop
    cluster: Cluster = field(default_factory=Cluster)


def review(**request: Any) -> bytes:
    whole = {"uid": "1", "namespace": "shop", "object": make_pod(), **request}
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "request": whole}).encode()


def ask(view: FakeView, body: Any, *, deadline: float = 5.0) -> tuple[int, str, str, list[News]]:
    """(status, answer, metrics, events) of one POST to /inject."""

    async def run() -> tuple[int, str, str, list[News]]:
        registry, told = CollectorRegistry(), list[News]()
        webhook = Webhook(view, Metrics(registry), told.append, deadline=deadline)
        server = HttpServer(webhook.make_app(), host="127.0.0.1", port=0)
        await server.start()
        url = f"http://127.0.0.1:{server.port}/inject"
        async with aiohttp.ClientSession() as session, session.post(url, data=body) as response:
            status, text = response.status, await response.text()
        await server.stop()
        samples = (s for metric in registry.collect() for s in metric.samples)
        results = [
            f"{s.labels['result']}/{s.labels['reason']}"
            for s in samples
            if s.name == "mesh_inject_admissions_total"
        ]
        return status, text, ",".join(results), told

    return asyncio.run(run())


def test_a_pod_is_answered_with_a_patch() -> None:
    status, text, result, told = ask(FakeView(), review())

    assert (status, result) == (200, "injected/")
    assert json.loads(text)["response"]["patchType"] == "JSONPatch"
    assert [news.reason for news in told] == ["Injected"]


def test_a_dry_run_tells_nobody() -> None:
    assert ask(FakeView(), review(dryRun=True))[3] == []


def test_another_kind_is_let_through() -> None:
    status, text, _, _ = ask(FakeView(), review(object={"kind": "Service"}))

    assert status == 200
    assert json.loads(text)["response"] == {"uid": "1", "allowed": True}


@pytest.mark.parametrize("view", [FakeView(config=None), FakeView(bundle="")])
def test_before_it_knows_enough_the_failure_policy_decides(view: FakeView) -> None:
    status, text, result, _ = ask(view, review())

    assert (status, result) == (503, "error/not-ready")
    assert "no install values or trust bundle" in text


def test_a_namespace_that_cannot_be_read_is_an_error() -> None:
    async def fail(name: str) -> Namespace:
        raise ApiError(0, "Unreachable", "API server not reachable")

    status, _, result, _ = ask(FakeView(namespace=fail), review())

    assert (status, result) == (503, "error/api")


def test_a_slow_answer_is_cut_at_the_deadline() -> None:
    async def hang(name: str) -> Namespace:
        await asyncio.Event().wait()
        raise AssertionError

    status, _, result, _ = ask(FakeView(namespace=hang), review(), deadline=0.05)

    assert (status, result) == (504, "error/timeout")


def test_a_slow_body_is_cut_at_the_deadline() -> None:
    async def body() -> Any:
        yield b"{"
        await asyncio.Event().wait()

    try:
        status, _, result, _ = ask(FakeView(), body(), deadline=0.05)
        assert (status, result) == (504, "error/timeout")
    except aiohttp.ClientError:
        pytest.fail("expected an answer before the connection ends")


def test_a_bug_is_an_error_of_one_request() -> None:
    async def break_down(name: str) -> Namespace:
        raise RuntimeError("bug")

    status, text, result, _ = ask(FakeView(namespace=break_down), review())

    assert (status, result) == (500, "error/bug")
    assert "bug" not in text
