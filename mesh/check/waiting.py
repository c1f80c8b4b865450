"""What proxies and the control plane say they wait for while not ready, at their own /ready."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Final

import anyio

from mesh.core import labels
from mesh.core.errors import ApiError
from mesh.kube.client import KubeClient
from mesh.kube.pods import (
    is_finished,
    is_leaving,
    is_meshed,
    is_proxy_ready,
    is_ready,
    name_of,
    namespace_of,
)
from mesh.kube.resources import Object

MOST: Final = 8  # proxies that are asked: what keeps one waiting mostly keeps all
_SECONDS: Final = 2.0
_LEAF_ENDS: Final = "control_identity_cert_expiration_timestamp_seconds"
_LONGEST: Final = 300  # characters of an answer


async def ask_proxies(client: KubeClient, pods: Sequence[Object]) -> dict[str, str]:
    """`namespace/pod` -> what its proxy says; proxies that do not answer are left out."""
    unready = [pod for pod in pods if is_meshed(pod) and not is_proxy_ready(pod)]
    return await _ask(client, unready, labels.ADMIN_PORT)


async def ask_roles(client: KubeClient, pods: Sequence[Object]) -> dict[str, str]:
    """The same of the control plane's own pods."""
    unready = [pod for pod in pods if not is_ready(pod)]
    return await _ask(client, unready, labels.CONTROL_ADMIN_PORT)


async def ask_leaves(client: KubeClient, pods: Sequence[Object]) -> dict[str, float]:
    """`namespace/pod` -> when its leaf ends (unix seconds), as its proxy's own metrics say."""
    found: dict[str, float] = {}

    async def ask(pod: Object) -> None:
        place = f"{name_of(pod)}:{labels.ADMIN_PORT}"
        path = f"/api/v1/namespaces/{namespace_of(pod)}/pods/{place}/proxy/metrics"
        with contextlib.suppress(ApiError, ValueError), anyio.move_on_after(_SECONDS):
            text = (await client.raw("GET", path, seconds=_SECONDS)).decode()
            ends = text.partition(f"\n{_LEAF_ENDS} ")[2].split("\n", 1)[0]
            found[f"{namespace_of(pod)}/{name_of(pod)}"] = float(ends)

    async with anyio.create_task_group() as tasks:
        for pod in [pod for pod in pods if not (is_finished(pod) or is_leaving(pod))][:MOST]:
            tasks.start_soon(ask, pod)
    return found


async def _ask(client: KubeClient, pods: Sequence[Object], port: int) -> dict[str, str]:
    there = [
        pod
        for pod in pods
        if not (is_finished(pod) or is_leaving(pod)) and (pod.get("status") or {}).get("podIP")
    ]
    said: dict[str, str] = {}

    async def ask(pod: Object) -> None:
        place = f"{name_of(pod)}:{port}"
        path = f"/api/v1/namespaces/{namespace_of(pod)}/pods/{place}/proxy/ready"
        try:
            with anyio.move_on_after(_SECONDS):
                await client.raw("GET", path, seconds=_SECONDS)
        except ApiError as error:
            if error.code == 503 and error.message.startswith("waiting for "):
                words = "; ".join(error.message.split("\n")).strip("; ")
                said[f"{namespace_of(pod)}/{name_of(pod)}"] = words[:_LONGEST]

    async with anyio.create_task_group() as tasks:
        for pod in there[:MOST]:
            tasks.start_soon(ask, pod)
    return said
