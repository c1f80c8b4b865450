"""Annotations of pods and namespaces, read by the injector's own parsers; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from mesh.core import labels
from mesh.inject.annotations import resolve
from mesh.inject.config import InjectConfig
from mesh.inject.switch import decide
from mesh.lint.rules.finding import Finding, Level
from mesh.lint.rules.source import Manifest

_TEMPLATES: Final = {
    "Pod": "",
    "Deployment": "spec.template",
    "StatefulSet": "spec.template",
    "DaemonSet": "spec.template",
    "ReplicaSet": "spec.template",
    "ReplicationController": "spec.template",
    "Job": "spec.template",
    "CronJob": "spec.jobTemplate.spec.template",
}


def find_annotation_faults(item: Manifest) -> Iterator[Finding]:
    """Annotations that the injector would warn of, or never see where they stand."""
    if item.kind == "Namespace":
        keys = _texts(_map(item.obj.get("metadata")).get("annotations"))
        yield from _faults(item, "metadata.annotations", keys, {})
    inner = _TEMPLATES.get(item.kind)
    if inner is None:
        return
    pod: Mapping[str, Any] = item.obj
    for step in inner.split(".") if inner else ():
        pod = _map(pod.get(step))
    path = f"{inner}.metadata.annotations".lstrip(".")
    yield from _faults(item, path, _notes(pod), _port_names(pod))
    if inner:
        yield from _misplaced(item, path)


def _faults(
    item: Manifest, path: str, keys: Mapping[str, str], ports: Mapping[str, int]
) -> Iterator[Finding]:
    warnings = resolve(keys, {}, InjectConfig(), port_names=ports).warnings
    for warning in (*warnings, *decide(keys, {}).problems):
        name = max((key for key in keys if key[:60] in warning), key=len, default="")
        is_unknown = "is not known" in warning
        yield Finding(
            item.file,
            item.line_of(f"{path}[{name}]"),
            str(item),
            f"{path}[{name}]" if name else path,
            "UnknownAnnotation" if is_unknown else "InvalidAnnotation",
            warning,
            "correct the name, or remove it" if is_unknown else "write what is expected",
            Level.WARNING if is_unknown and "did you mean" not in warning else Level.ERROR,
        )


def _misplaced(item: Manifest, path: str) -> Iterator[Finding]:
    """On the workload itself, where the injector, which sees pods, never looks."""
    for name in _notes(item.obj):
        if name in labels.ANNOTATION_BY_NAME:
            yield Finding(
                item.file,
                item.line_of(f"metadata.annotations[{name}]"),
                str(item),
                f"metadata.annotations[{name}]",
                "MisplacedAnnotation",
                f"{name} acts on pods; on a {item.kind} it has no effect",
                f"move it to {path}",
                Level.ERROR,
            )


def _port_names(pod: Mapping[str, Any]) -> dict[str, int]:
    containers = _map(pod.get("spec")).get("containers")
    found: dict[str, int] = {}
    for container in containers if isinstance(containers, list) else []:
        ports = _map(container).get("ports")
        for port in map(_map, ports if isinstance(ports, list) else []):
            if isinstance(port.get("containerPort"), int) and port.get("name"):
                found[str(port["name"])] = port["containerPort"]
    return found


def _notes(obj: Mapping[str, Any]) -> dict[str, str]:
    return _texts(_map(obj.get("metadata")).get("annotations"))


def _texts(found: Any) -> dict[str, str]:
    return {str(key): value for key, value in _map(found).items() if isinstance(value, str)}


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
