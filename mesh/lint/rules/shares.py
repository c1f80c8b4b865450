"""Shares of splits and routes that cannot be met as written: twice named, or without pods; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from destination.fragments import RouteFragment, SplitFragment
from destination.store import Store
from mesh.lint.rules.compiled import ref_of
from mesh.lint.rules.finding import Finding, Level
from mesh.lint.rules.source import Manifest

_WORKLOADS: Final = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Pod")


def find_share_faults(item: Manifest, store: Store, manifests: list[Manifest]) -> Iterator[Finding]:
    """Backends that come twice, and backends whose Service selects nothing in the files."""
    ref = ref_of(item)
    fragment = store.fragments.get(ref) if ref is not None else None
    services = {(m.namespace, m.name): m for m in manifests if m.kind == "Service"}
    if isinstance(fragment, RouteFragment):
        for rule in fragment.rules:
            for backend in rule.backends:
                found = services.get(backend.service)
                if backend.weight and found is not None and _selects_nothing(found, manifests):
                    yield _no_workload(item, backend.path, backend.service[1])
    if not isinstance(fragment, SplitFragment):
        return
    seen: dict[tuple[str, str], int] = {}
    for leaf in fragment.leaves:
        path = f"{fragment.field}[{leaf.index}].service"
        first = seen.setdefault(leaf.service, leaf.index)
        if first != leaf.index:
            yield _finding(
                item, path, "RepeatedBackend",
                f"{leaf.service[1]} is backend {first} as well; their weights add up",
                "keep one entry with the whole weight",
            )  # fmt: skip
        service = services.get(leaf.service)
        if leaf.weight and service is not None and _selects_nothing(service, manifests):
            yield _no_workload(item, path, leaf.service[1])


def _no_workload(item: Manifest, path: str, service: str) -> Finding:
    return _finding(
        item, path, "NoWorkload",
        f"no workload of these files has the labels that Service {service} selects: "
        "its share would be answered with 503",
        "correct the selector or the labels of the pod template",
    )  # fmt: skip


def _selects_nothing(service: Manifest, manifests: list[Manifest]) -> bool:
    """Whether the files hold workloads of the namespace and none has the selected labels."""
    selector = _map(_map(service.obj.get("spec")).get("selector"))
    workloads = [
        item
        for item in manifests
        if item.kind in _WORKLOADS and item.namespace == service.namespace
    ]
    return bool(selector and workloads) and not any(
        _has_labels(item, selector) for item in workloads
    )


def _has_labels(item: Manifest, selector: Mapping[str, Any]) -> bool:
    obj: Mapping[str, Any] = item.obj
    if item.kind != "Pod":
        obj = _map(_map(obj.get("spec")).get("template"))
    found = _map(_map(obj.get("metadata")).get("labels"))
    return all(found.get(name) == value for name, value in selector.items())


def _finding(item: Manifest, path: str, reason: str, message: str, remedy: str) -> Finding:
    line = item.line_of(path)
    return Finding(item.file, line, str(item), path, reason, message, remedy, Level.WARNING)


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
