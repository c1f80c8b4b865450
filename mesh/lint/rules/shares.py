"""Shares of splits and routes that cannot be met as written: twice named, or without pods; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from destination.fragments import RouteFragment, SplitFragment
from destination.store import Store
from mesh.lint.rules.compiled import ref_of
from mesh.lint.rules.finding import Finding, Level
from mesh.lint.rules.source import Manifest

_WORKLOADS: Final = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Pod")


class Held:
    """The Services of the files, and the labels of what their pods come from; made once."""

    def __init__(self, manifests: Iterable[Manifest]) -> None:
        self._selectors: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._namespaces: set[str] = set()
        self._labels: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
        for item in manifests:
            if item.kind == "Service":
                selector = _map(_map(item.obj.get("spec")).get("selector"))
                self._selectors[item.namespace, item.name] = selector
            elif item.kind in _WORKLOADS:
                self._namespaces.add(item.namespace)
                labels = _labels_of(item)
                for name, value in labels.items():
                    key = (item.namespace, name, str(value))
                    self._labels.setdefault(key, []).append(labels)

    def selects_nothing(self, service: tuple[str, str]) -> bool:
        """Whether the files hold the Service and workloads of its namespace, and none of these
        has the labels that it selects."""
        selector = self._selectors.get(service)
        if not selector or service[0] not in self._namespaces:
            return False
        first, value = next(iter(selector.items()))
        return not any(
            all(labels.get(name) == wanted for name, wanted in selector.items())
            for labels in self._labels.get((service[0], first, str(value)), ())
        )


def find_share_faults(item: Manifest, store: Store, held: Held) -> Iterator[Finding]:
    """Backends that come twice, and backends whose Service selects nothing in the files."""
    ref = ref_of(item)
    fragment = store.fragments.get(ref) if ref is not None else None
    if isinstance(fragment, RouteFragment):
        for rule in fragment.rules:
            for backend in rule.backends:
                if backend.weight and held.selects_nothing(backend.service):
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
        if leaf.weight and held.selects_nothing(leaf.service):
            yield _no_workload(item, path, leaf.service[1])


def _no_workload(item: Manifest, path: str, service: str) -> Finding:
    return _finding(
        item, path, "NoWorkload",
        f"no workload of these files has the labels that Service {service} selects: "
        "its share would be answered with 503",
        "correct the selector or the labels of the pod template",
    )  # fmt: skip


def _labels_of(item: Manifest) -> Mapping[str, Any]:
    obj: Mapping[str, Any] = item.obj
    if item.kind != "Pod":
        obj = _map(_map(obj.get("spec")).get("template"))
    return _map(_map(obj.get("metadata")).get("labels"))


def _finding(item: Manifest, path: str, reason: str, message: str, remedy: str) -> Finding:
    line = item.line_of(path)
    return Finding(item.file, line, str(item), path, reason, message, remedy, Level.WARNING)


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
