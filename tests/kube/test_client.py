"""The client: paths, bodies and refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from mesh.core.errors import ApiError
from mesh.kube.client import APPLY, KubeClient, Reviewed
from mesh.kube.resources import Resource, find_resource, resource_of
from tests.kube.scripted import Answer, Script, answer, decode, listing, pod, serving, status


def _ask(
    act: Callable[[KubeClient], Awaitable[Any]], *answers: Answer, token: str = ""
) -> tuple[Any, Script]:
    async def run() -> tuple[Any, Script]:
        async with serving(*answers, token=token) as (client, script):
            return await act(client), script

    return asyncio.run(run())


def test_a_namespaced_object_is_read_at_its_path_with_the_token() -> None:
    found, script = _ask(
        lambda c: c.get("deployments.apps", "web", "shop"),
        answer({"kind": "Deployment"}),
        token="t",
    )

    assert found == {"kind": "Deployment"}
    assert script.requests[0].path == "/apis/apps/v1/namespaces/shop/deployments/web"
    assert script.requests[0].headers["Authorization"] == "Bearer t"


def test_an_object_of_a_namespaced_kind_needs_its_namespace() -> None:
    with pytest.raises(ValueError, match="expected a namespace"):
        find_resource("pods").path(None, "web")


def test_listed_objects_carry_their_kind() -> None:
    found, _ = _ask(lambda c: c.list("pods"), listing(pod("a", 1), version=1))

    assert (found[0]["apiVersion"], found[0]["kind"]) == ("v1", "Pod")


def test_a_refusal_becomes_an_api_error_with_the_words_of_its_status() -> None:
    with pytest.raises(ApiError, match='pods "x" not found') as caught:
        _ask(
            lambda c: c.get("pods", "x", "default"),
            status(404, "NotFound", 'pods "x" not found', Retry_After="3"),
        )

    assert (caught.value.code, caught.value.reason) == (404, "NotFound")
    assert caught.value.retry_after == 3.0


def test_a_refusal_without_a_status_object_keeps_its_text() -> None:
    async def reply(_: web.Request) -> web.StreamResponse:
        return web.Response(status=502, text="bad gateway here")

    with pytest.raises(ApiError, match="bad gateway here") as caught:
        _ask(lambda c: c.get("nodes", "n"), reply)

    assert caught.value.code == 502


def test_an_unreachable_server_is_an_api_error_of_code_0() -> None:
    async def act() -> None:
        async with serving() as (client, _):
            pass
        async with KubeClient(client.access) as late:
            await late.version()

    with pytest.raises(ApiError, match="not reachable") as caught:
        asyncio.run(act())

    assert (caught.value.code, caught.value.reason) == (0, "Unreachable")


def test_a_status_is_patched_as_a_merge_under_our_field_manager() -> None:
    _, script = _ask(
        lambda c: c.patch(
            "serviceprofiles.linkerd.io",
            "web",
            {"status": {"verdict": "Effective"}},
            namespace="shop",
            subresource="status",
        ),
        answer({}),
    )

    request = script.requests[0]
    assert request.path.endswith("/namespaces/shop/serviceprofiles/web/status")
    assert request.headers["Content-Type"] == "application/merge-patch+json"
    assert request.query["fieldManager"] == "mesh"
    assert decode(script.bodies[0]) == {"status": {"verdict": "Effective"}}


def test_a_server_side_apply_may_take_fields_over() -> None:
    _, script = _ask(
        lambda c: c.patch(
            "configmaps", "x", {}, namespace="d", content_type=APPLY, force=True, dry_run=True
        ),
        answer({}),
    )

    assert script.requests[0].query["force"] == "true"
    assert script.requests[0].query["dryRun"] == "All"


@pytest.mark.parametrize(
    ("status_", "expected"),
    [
        ({"authenticated": False}, None),
        (
            {
                "authenticated": True,
                "audiences": ["mesh-identity"],
                "user": {"username": "system:serviceaccount:shop:web"},
            },
            ("shop", "web"),
        ),
        (
            {"authenticated": True, "user": {"username": "system:serviceaccount:shop:web"}},
            None,
        ),
        (
            {"authenticated": True, "audiences": ["mesh-identity"], "user": {"username": "admin"}},
            None,
        ),
    ],
    ids=["refused", "ours", "audience ignored by the server", "a person"],
)
def test_a_token_review_names_the_service_account(
    status_: dict[str, Any], expected: tuple[str, str] | None
) -> None:
    found, script = _ask(
        lambda c: c.token_review("secret", ["mesh-identity"]), answer({"status": status_})
    )

    assert isinstance(found, Reviewed)
    assert found.service_account == expected
    assert decode(script.bodies[0])["spec"]["audiences"] == ["mesh-identity"]


def test_a_kind_is_discovered_in_the_version_that_the_cluster_serves() -> None:
    found, _ = _ask(
        lambda c: c.discover("trafficsplits.split.smi-spec.io"),
        answer({"versions": [{"version": "v1alpha1"}]}),
        answer({"resources": [{"name": "trafficsplits", "kind": "TrafficSplit", "namespaced": 1}]}),
    )

    assert found == Resource("split.smi-spec.io", "v1alpha1", "trafficsplits", "TrafficSplit")


def test_a_kind_that_the_cluster_lacks_is_discovered_as_none() -> None:
    found, _ = _ask(
        lambda c: c.discover("trafficsplits.split.smi-spec.io"), status(404, "NotFound")
    )

    assert found is None


def test_an_object_names_its_resource_in_its_own_version() -> None:
    split = {"apiVersion": "split.smi-spec.io/v1alpha4", "kind": "TrafficSplit"}

    assert resource_of(split).version == "v1alpha4"
    assert resource_of({"apiVersion": "v1", "kind": "Pod"}) is find_resource("pods")


def test_a_request_that_nobody_waits_for_leaves_no_connection_behind() -> None:
    async def slow(_: web.Request) -> web.StreamResponse:
        asked.set()
        await answered.wait()
        return web.json_response({})

    asked, answered = asyncio.Event(), asyncio.Event()

    async def act() -> None:
        async with serving(slow, answer({"kind": "Pod"})) as (client, _):
            task = asyncio.create_task(client.version())
            await asked.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            answered.set()

            assert await client.get("pods", "x", "d") == {"kind": "Pod"}

    asyncio.run(act())
