"""The shell of live questions: proxies asked through destination, as a viewer may."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from mesh.core import labels
from mesh.core.errors import ApiError, MeshError
from mesh.core.report import AskedAnswer
from mesh.kube.client import KubeClient
from mesh.kube.viewer import NO_MESH, ask_destination

_decoder = msgspec.json.Decoder(AskedAnswer)


@dataclass(frozen=True, slots=True)
class Told:
    """What the proxy of one pod said."""

    namespace: str
    pod: str
    body: dict[str, Any]


async def ask_proxies(
    client: KubeClient,
    mesh_namespace: str,
    what: str,
    query: Mapping[str, str] | None = None,
    *,
    namespace: str = "",
    pod: str = "",
    most: int = 0,
    port_forward: Sequence[str] = (),
) -> list[Told]:
    """The answers of those proxies that are connected, by name; of at most `most` of each
    destination, 0 for all. Raises MeshError when nobody may ask, or no destination answers."""
    asked = {"what": what, "namespace": namespace, "pod": pod, **(query or {})}
    if most:
        asked["most"] = str(most)
    try:
        answers = await ask_destination(
            client, mesh_namespace, "/v1/ask", query=asked, port_forward=port_forward
        )
    except ApiError as error:
        raise MeshError(f"{error.message}{_advice(error)}") from error
    told: dict[tuple[str, str], Told] = {}
    failures = []
    for answer in answers:
        if answer.error is not None:
            failures.append(f"{answer.pod}: {answer.error.message}")
            continue
        for one in _decoder.decode(answer.body).answers:
            told[one.namespace, one.pod] = Told(one.namespace, one.pod, json.loads(one.body))
    if failures and len(failures) == len(answers):
        raise MeshError(f"no destination answered: {'; '.join(failures)}; `mesh check` says more")
    if not answers:
        raise MeshError(f"no ready destination pod in namespace {mesh_namespace}; `mesh check`")
    return [told[key] for key in sorted(told)]


def _advice(error: ApiError) -> str:
    if error.reason == NO_MESH:
        return ""
    if error.code in (401, 403):
        return f"; ask for the right to create tokens of service account {labels.VIEWER}"
    return "; `mesh check` says more"
