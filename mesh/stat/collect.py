"""The shell of stat: reads objects and reports at the same time, all through the API server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import anyio
import msgspec

from mesh.core.errors import ApiError, MeshError
from mesh.core.report import ReportsAnswer, WindowReport
from mesh.kube.client import KubeClient
from mesh.kube.resources import Object
from mesh.kube.served import SPLITS, list_served
from mesh.kube.viewer import Answer, ask_destination
from mesh.stat.rows import Cluster, newest_reports
from mesh.stat.selection import Kind, Selection

_decoder = msgspec.json.Decoder(ReportsAnswer)


@dataclass(frozen=True, slots=True)
class Scope:
    """Where to look: one namespace, or None for all; `label_selector` picks the objects."""

    namespace: str | None
    label_selector: str = ""
    window: float = 60.0


async def collect(
    client: KubeClient,
    mesh_namespace: str,
    selections: Sequence[Selection],
    scope: Scope,
    *,
    port_forward: Sequence[str] = (),
) -> tuple[Cluster, list[str]]:
    """What rows are made of, and warnings about destinations that gave no answer.

    Raises MeshError when the API refuses or no destination answers.
    """
    objects: dict[str, list[Object]] = {}
    pods: list[Object] = []
    answers: list[Answer] = []
    failures: list[ApiError] = []

    async def read_objects(kind: Kind) -> None:
        objects[kind.name] = await _list_kind(client, kind, scope)

    async def read_pods() -> None:
        pods.extend(await client.list("pods", _pod_namespace(selections, scope)))

    async def read_reports() -> None:
        answers.extend(
            await ask_destination(
                client,
                mesh_namespace,
                "/v1/reports",
                query=_query(selections, scope),
                port_forward=port_forward,
            )
        )

    async def guarded(job: Callable[..., Awaitable[None]], *arguments: Kind) -> None:
        try:
            await job(*arguments)
        except ApiError as error:
            failures.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(guarded, read_reports)
        tasks.start_soon(guarded, read_pods)
        for selection in selections:
            tasks.start_soon(guarded, read_objects, selection.kind)
    if failures:
        raise MeshError(f"{failures[0].message}; {_advice(failures[0])}") from failures[0]
    reports, warnings = _reports_of(answers, mesh_namespace)
    return Cluster(objects, pods, reports), warnings


def _advice(error: ApiError) -> str:
    if error.code in (401, 403):
        return "ask for this right; `mesh check` lists those that mesh stat needs"
    return "`mesh check` says more"


def _query(selections: Sequence[Selection], scope: Scope) -> dict[str, str]:
    """What came into pods of one namespace is told by their own proxies; the rest by all."""
    query = {"window": f"{scope.window:g}"}
    if scope.namespace and not _asks_all(selections):
        query["namespace"] = scope.namespace
    return query


def _asks_all(selections: Sequence[Selection]) -> bool:
    return any(
        not selection.kind.namespaced or selection.kind.name in ("service", "trafficsplit")
        for selection in selections
    )


def _pod_namespace(selections: Sequence[Selection], scope: Scope) -> str | None:
    whole = any(not selection.kind.namespaced for selection in selections)
    return None if whole else scope.namespace


async def _list_kind(client: KubeClient, kind: Kind, scope: Scope) -> list[Object]:
    """The objects of one kind; none where the cluster does not know it."""
    namespace = scope.namespace if kind.namespaced else None
    if kind.name == "trafficsplit":
        return await list_served(client, SPLITS, namespace, label_selector=scope.label_selector)
    try:
        return await client.list(kind.resource, namespace, label_selector=scope.label_selector)
    except ApiError as error:
        if error.code == 404:
            return []
        raise


def _reports_of(
    answers: Sequence[Answer], mesh_namespace: str
) -> tuple[list[WindowReport], list[str]]:
    good: list[Sequence[WindowReport]] = []
    warnings: list[str] = []
    for answer in answers:
        try:
            if answer.error is not None:
                raise answer.error
            good.append(_decoder.decode(answer.body).reports)
        except (ApiError, msgspec.MsgspecError) as error:
            warnings.append(f"pod {mesh_namespace}/{answer.pod} gave no report: {error}")
    if not good:
        why = "; ".join(warnings) or f"no ready destination pod in namespace {mesh_namespace}"
        raise MeshError(f"no traffic figures: {why}; `mesh check` says more")
    return newest_reports(good), warnings
