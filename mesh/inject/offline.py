"""Manifests in, manifests out: `mesh inject` and `mesh uninject` without a cluster.

One text may hold many documents and Lists; each is judged by itself, and a bad one is named
while the others go through. What is not ours to change keeps its bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mesh.core import labels
from mesh.core.errors import ConfigError
from mesh.inject.annotations import resolve
from mesh.inject.config import InjectConfig
from mesh.inject.documents import read_document, split_documents
from mesh.inject.jsonpatch import Op, PatchBuilder, Path, pointer
from mesh.inject.patch import Cluster, Namespace, is_meshed, keys_of, mesh_pod
from mesh.inject.probes import container_ports
from mesh.inject.refuse import find_obstacle
from mesh.inject.restore import plan_removal
from mesh.inject.switch import decide
from mesh.inject.workload import Workload

# kind -> (API groups, where the pod is); a Namespace only carries the annotation
_TEMPLATE: Final = ("spec", "template")
_KINDS: Final[Mapping[str, tuple[tuple[str, ...], Path]]] = {
    "Pod": (("",), ()),
    "ReplicationController": (("",), _TEMPLATE),
    "Deployment": (("apps", "extensions"), _TEMPLATE),
    "ReplicaSet": (("apps", "extensions"), _TEMPLATE),
    "DaemonSet": (("apps", "extensions"), _TEMPLATE),
    "StatefulSet": (("apps",), _TEMPLATE),
    "Job": (("batch",), _TEMPLATE),
    "CronJob": (("batch",), ("spec", "jobTemplate", "spec", "template")),
}


@dataclass(frozen=True)
class Report:
    """What became of one object: a word for it, and warnings or the reason of a failure."""

    name: str  # deployment "web", or where the document is
    outcome: str  # injected, annotated, uninjected, skipped, failed
    messages: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        return self.outcome == "failed"


@dataclass(frozen=True)
class Manual:
    """What a whole sidecar takes, where annotating is not enough."""

    config: InjectConfig
    bundle: str
    cluster: Cluster


Outcome = tuple[list[Op], Report]
Step = Callable[[Mapping[str, Any], str, Path], Outcome]


def inject_text(
    text: str, *, source: str, manual: Manual | None = None
) -> tuple[str, list[Report]]:
    """Annotate every workload and namespace, or with `manual` give workloads the sidecar."""

    def step(obj: Mapping[str, Any], name: str, path: Path) -> Outcome:
        if obj.get("kind") == "Namespace":
            return _annotate(obj, name, path)
        return _inject_workload(obj, name, path, manual)

    return _each_object(text, source, step)


def uninject_text(text: str, *, source: str) -> tuple[str, list[Report]]:
    """Take the sidecar and the enabled switches away."""

    def step(obj: Mapping[str, Any], name: str, path: Path) -> Outcome:
        inner = _pod_path(obj)
        ops = _prefixed(plan_removal(_at(obj, inner)), path + inner)
        return ops, Report(name, "uninjected" if ops else "skipped")

    return _each_object(text, source, step)


def _each_object(text: str, source: str, step: Step) -> tuple[str, list[Report]]:
    pieces: list[str] = []
    reports: list[Report] = []
    for number, (piece, line) in enumerate(split_documents(text), 1):
        try:
            document = read_document(piece, line)
        except ConfigError as error:
            pieces.append(piece)
            where = f"{source}: document {number}"
            reports.append(Report(where, "failed", error.problems))
            continue
        ops: list[Op] = []
        for obj, path in _objects(document.data):
            if not isinstance(obj, Mapping):
                where = ".".join(map(str, path)) or f"document {number}"
                fault = f"{source} line {line}: {where}: expected an object, got {obj!r:.60}"
                reports.append(Report(f"{source}: {where}", "failed", (fault,)))
                continue
            name = f'{str(obj.get("kind")).lower()} "{_name(obj)}"'
            try:
                more, report = (
                    step(obj, name, path) if _is_known(obj) else ([], Report(name, "skipped"))
                )
            except (AttributeError, TypeError, KeyError, ValueError) as error:
                more = []
                fault = f"{source} line {line}: not a well-formed {obj.get('kind')}: {error}"
                report = Report(name, "failed", (fault,))
            ops += more
            reports.append(report)
        pieces.append(document.changed(ops))
    return "".join(pieces), reports


def _objects(data: Any, path: Path = ()) -> Iterator[tuple[Any, Path]]:
    """What a document holds: itself, or the items of a List; nothing of an empty one."""
    if not isinstance(data, Mapping):
        if data is not None or path:
            yield data, path
        return
    items = data.get("items")
    if str(data.get("kind", "")).endswith("List") and isinstance(items, list):
        for index, item in enumerate(items):
            yield from _objects(item, (*path, "items", index))
    elif data:
        yield data, path


def _is_known(obj: Mapping[str, Any]) -> bool:
    group = str(obj.get("apiVersion", "")).rpartition("/")[0]
    if obj.get("kind") == "Namespace":
        return group == ""
    return group in _KINDS.get(str(obj.get("kind")), ((), ()))[0]


def _inject_workload(
    obj: Mapping[str, Any], name: str, path: Path, manual: Manual | None
) -> Outcome:
    inner = _pod_path(obj)
    pod = _at(obj, inner)
    if not isinstance(pod.get("spec"), Mapping):
        raise ValueError(f"expected {'.'.join((*map(str, inner), 'spec'))}, found none")
    verdict = decide(keys_of(pod), {})
    if verdict.problems:
        return [], Report(name, "failed", verdict.problems)
    if is_meshed(pod) or (verdict.said is not None and not verdict.enabled):
        return [], Report(name, "skipped")
    config = manual.config if manual else InjectConfig()
    obstacle = find_obstacle(pod, {}, config)
    if obstacle is not None:
        return [], Report(name, "failed", (obstacle[1],))
    if manual is None:
        ops, report = _annotate(pod, name, path + inner)
        ports = {n: p for c in pod["spec"].get("containers") or [] for n, p in container_ports(c)}
        notes = resolve(keys_of(pod), {}, config, port_names=ports).warnings
        return ops, Report(name, report.outcome, notes)
    injection = mesh_pod(
        pod,
        Namespace(str((obj.get("metadata") or {}).get("namespace") or "default")),
        manual.config,
        bundle=manual.bundle,
        cluster=manual.cluster,
        workload=Workload(str(obj["kind"]).lower(), _name(obj)),
    )
    ops = _prefixed(list(injection.patch), path + inner)
    return ops, Report(name, "injected", injection.warnings)


def _annotate(obj: Mapping[str, Any], name: str, path: Path) -> Outcome:
    """Add the switch to an object or template that has none of any dialect."""
    if decide(keys_of(obj), {}).said is not None:
        return [], Report(name, "skipped")
    patch = PatchBuilder(dict(obj))
    patch.add(("metadata", "annotations", labels.A_INJECT), "enabled")
    return _prefixed(patch.ops, path), Report(name, "annotated")


def _pod_path(obj: Mapping[str, Any]) -> Path:
    return _KINDS.get(str(obj.get("kind")), ((), ()))[1]


def _at(obj: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The map at `path`. Raises ValueError when there is none."""
    for index, step in enumerate(path):
        inner = obj.get(str(step))
        if not isinstance(inner, Mapping):
            where = ".".join(map(str, path[: index + 1]))
            raise ValueError(f"expected {where}, found none")
        obj = inner
    return obj


def _name(obj: Mapping[str, Any]) -> str:
    meta = obj.get("metadata")
    meta = meta if isinstance(meta, Mapping) else {}
    return str(meta.get("name") or meta.get("generateName") or "")


def _prefixed(ops: list[Op], path: Path) -> list[Op]:
    start = pointer(path)
    return [{**op, "path": start + op["path"]} for op in ops]
