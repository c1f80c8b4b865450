"""The inverse of injection: a pod (or template) -> the patch that takes our marks away. Pure.

Removes what `mesh.inject.patch` adds and every switch that says enabled, in any dialect.
Settings that a person wrote (skip ports, resources) and switches that say disabled stay. A map
or list that becomes empty goes as well, since injection made it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mesh.core import labels
from mesh.inject.jsonpatch import Op, PatchBuilder, Path
from mesh.inject.patch import is_meshed, read_originals
from mesh.inject.probes import is_rewritten
from mesh.inject.sidecar import VOLUMES
from mesh.inject.switch import decide

_LABELS: Final = (labels.L_CONTROL_NAMESPACE, labels.L_WORKLOAD_KIND, labels.L_WORKLOAD_NAME)
_ANNOTATIONS: Final = (
    labels.A_CREATED_BY,
    labels.A_PROXY_VERSION,
    labels.A_TRUST_HASH,
    labels.A_REWRITTEN_PROBES,
)


def plan_removal(pod: Mapping[str, Any]) -> list[Op]:
    """The patch; empty when there is nothing of ours."""
    patch = PatchBuilder(dict(pod))
    if is_meshed(pod):
        _restore_probes(patch)
        for kind in ("initContainers", "containers"):
            _remove_named(patch, kind, (labels.INIT_CONTAINER, labels.PROXY_CONTAINER))
        _remove_named(patch, "volumes", VOLUMES)
        _remove_keys(patch, "labels", _LABELS)
        _remove_keys(patch, "annotations", _ANNOTATIONS)
    switches = (labels.A_INJECT, *labels.ANNOTATION_BY_NAME[labels.A_INJECT].aliases)
    for where in ("annotations", "labels"):
        texts = _map(_map(pod, "metadata"), where)
        on = [name for name in switches if _says_enabled(name, texts.get(name))]
        _remove_keys(patch, where, on)
    if "metadata" in patch.document and not patch.document["metadata"] and pod.get("metadata"):
        patch.remove(("metadata",))
    return patch.ops


def _says_enabled(name: str, value: Any) -> bool:
    return isinstance(value, str) and decide({name: value}, {}).enabled


def _restore_probes(patch: PatchBuilder) -> None:
    noted = _map(_map(patch.document, "metadata"), "annotations").get(labels.A_REWRITTEN_PROBES)
    originals = read_originals(noted)
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(_map(patch.document, "spec").get(kind) or []):
            for name, probe in originals.get(str(container.get("name")), {}).items():
                if is_rewritten(container.get(name)):
                    patch.replace(("spec", kind, index, name), probe)


def _remove_named(patch: PatchBuilder, kind: str, names: tuple[str, ...]) -> None:
    items = list(_map(patch.document, "spec").get(kind) or [])
    for index in reversed(range(len(items))):
        if items[index].get("name") in names:
            patch.remove(("spec", kind, index))
    _drop_empty(patch, ("spec", kind), had=bool(items) and kind != "containers")


def _remove_keys(patch: PatchBuilder, where: str, names: Any) -> None:
    texts = _map(_map(patch.document, "metadata"), where)
    present = [name for name in names if name in texts]
    for name in present:
        patch.remove(("metadata", where, name))
    _drop_empty(patch, ("metadata", where), had=bool(present))


def _drop_empty(patch: PatchBuilder, path: Path, *, had: bool) -> None:
    parent = _map(patch.document, str(path[0]))
    if had and path[1] in parent and not parent[str(path[1])]:
        patch.remove(path)


def _map(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    inner = value.get(key)
    return inner if isinstance(inner, Mapping) else {}
