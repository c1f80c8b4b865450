"""Which workload of the manifests calls which Service, as far as its settings say; pure.

Addresses of Services stand in variables, arguments and mounted ConfigMaps, as URLs or as
`name:port`. What is put together in code is not seen, and bare names are not taken for calls.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from destination.facts import Key, as_list, as_mapping
from destination.store import Store
from mesh.lint.rules.source import Manifest

_WORKLOADS: Final = (
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "ReplicaSet",
    "Job",
    "CronJob",
    "Pod",
)
_URL: Final = re.compile(
    r"\b(https?|grpcs?|h2c)://([a-z0-9](?:[a-z0-9.-]{0,250}[a-z0-9])?)(?::(\d{1,5}))?"
)
_ADDRESS: Final = re.compile(
    r"(?<![\w./-])([a-z0-9](?:[a-z0-9.-]{0,250}[a-z0-9])?):(\d{1,5})(?!\w)"
)
_PORTS: Final = {"http": 80, "h2c": 80, "grpc": 80, "https": 443, "grpcs": 443}
_LONGEST: Final = 100_000  # characters of one text that are looked at


@dataclass(frozen=True, slots=True)
class Call:
    """A port of a Service that a workload calls."""

    service: Key
    port: int


@dataclass(frozen=True, slots=True)
class Caller:
    """A workload, the labels of its pods and what it calls."""

    name: str  # deployment/web
    namespace: str
    labels: Mapping[str, Any]
    calls: tuple[Call, ...]


def find_callers(manifests: Iterable[Manifest], store: Store) -> list[Caller]:
    """The workloads that call a Service of the store."""
    manifests = list(manifests)
    maps = {
        (item.namespace, item.name): as_mapping(item.obj.get("data"))
        for item in manifests
        if item.kind == "ConfigMap"
    }
    callers = []
    for item in manifests:
        if item.kind not in _WORKLOADS:
            continue
        template = _template_of(item)
        texts = _texts_of(as_mapping(template.get("spec")), item.namespace, maps)
        calls = {call for text in texts for call in _calls_in(text, item.namespace, store)}
        if calls:
            labels = as_mapping(as_mapping(template.get("metadata")).get("labels"))
            name = f"{item.kind.lower()}/{item.name}"
            order = sorted(calls, key=lambda call: (call.service, call.port))
            callers.append(Caller(name, item.namespace, labels, tuple(order)))
    return callers


def _template_of(item: Manifest) -> Mapping[str, Any]:
    if item.kind == "Pod":
        return item.obj
    spec = as_mapping(item.obj.get("spec"))
    if item.kind == "CronJob":
        spec = as_mapping(as_mapping(spec.get("jobTemplate")).get("spec"))
    return as_mapping(spec.get("template"))


def _texts_of(
    pod: Mapping[str, Any], namespace: str, maps: Mapping[Key, Mapping[str, Any]]
) -> Iterator[str]:
    """Whatever a pod's containers are told."""
    for container in map(as_mapping, as_list(pod.get("containers"))):
        for words in ("command", "args"):
            yield from (text for text in as_list(container.get(words)) if isinstance(text, str))
        for variable in map(as_mapping, as_list(container.get("env"))):
            ref = as_mapping(as_mapping(variable.get("valueFrom")).get("configMapKeyRef"))
            known = maps.get((namespace, str(ref.get("name"))), {})
            value = variable.get("value", known.get(str(ref.get("key"))))
            if isinstance(value, str):
                yield value
        for source in map(as_mapping, as_list(container.get("envFrom"))):
            ref = as_mapping(source.get("configMapRef"))
            yield from _values(maps.get((namespace, str(ref.get("name"))), {}))
    for volume in map(as_mapping, as_list(pod.get("volumes"))):
        ref = as_mapping(volume.get("configMap"))
        yield from _values(maps.get((namespace, str(ref.get("name"))), {}))


def _values(data: Mapping[str, Any]) -> Iterator[str]:
    return (value for value in data.values() if isinstance(value, str))


def _calls_in(text: str, namespace: str, store: Store) -> Iterator[Call]:
    text = text[:_LONGEST]
    found = [(m[2], int(m[3]) if m[3] else _PORTS[m[1]]) for m in _URL.finditer(text)]
    found += [(m[1], int(m[2])) for m in _ADDRESS.finditer(text)]
    for host, port in found:
        name, _, rest = host.partition(".")
        home = rest.partition(".")[0] or namespace
        service = store.services.get((home, name))
        if service is not None and any(known.number == port for known in service.ports):
            yield Call(service.key, port)
