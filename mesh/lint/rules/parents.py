"""Routes that hang on no Service by a slip: parents that are missing, misspelt or of another
kind than their author meant; pure.

What is no Service's is somebody else's to the compiler, which says nothing of it. Here it gets
the one judgement that holds whoever reads it: fields that no version of the kind has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from destination.dialects.gateway import service_parents
from destination.fragments import UNKNOWN_FIELD
from destination.store import read_object
from mesh.lint.rules.finding import Finding, Level
from mesh.lint.rules.source import Manifest

_GROUPS: Final = ("gateway.networking.k8s.io", "policy.linkerd.io")
_KINDS: Final = ("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute")
_AS_SERVICE: Final = 'write group: "" and kind: Service, if a Service is meant'
_STAND_IN: Final = ({"group": "", "kind": "Service", "name": "stand-in"},)


def find_parent_faults(
    item: Manifest, services: Collection[tuple[str, str]], gateways: Collection[tuple[str, str]]
) -> Iterator[Finding]:
    """What is wrong with the parents of a route. `services` and `gateways` are those of the
    files, by namespace and name."""
    if item.group not in _GROUPS or item.kind not in _KINDS:
        return
    spec = item.obj.get("spec")
    if not isinstance(spec, dict):
        yield _finding(item, "spec", "Malformed", "expected a mapping", "give it a spec")
        return
    refs = spec.get("parentRefs")
    if refs is not None and not isinstance(refs, list):
        message = "expected a list of parents"
        yield _finding(item, "spec.parentRefs", "Malformed", message, "write a list")
    elif not refs and spec.get("useDefaultGateways") in (None, "None"):
        message = "no parent is named: this route acts on nothing"
        yield _finding(item, "spec", "NoParent", message, "name a Service under parentRefs")
    for index, ref in enumerate(refs if isinstance(refs, list) else ()):
        path = f"spec.parentRefs[{index}]"
        yield from _ref_faults(item, ref, path, services, gateways)
    if not service_parents(item.obj):
        yield from _unknown_fields(item, spec)


def _ref_faults(
    item: Manifest,
    ref: Any,
    path: str,
    services: Collection[tuple[str, str]],
    gateways: Collection[tuple[str, str]],
) -> Iterator[Finding]:
    name = ref.get("name") if isinstance(ref, dict) else None
    if not isinstance(name, str) or not name:
        message = "expected a parent with a name that is a text, such as web or 'no'"
        yield _finding(item, path, "Malformed", message, "give the name, in quotes if need be")
        return
    kind = ref.get("kind", "Gateway")
    group = ref.get("group", item.group)
    key = (str(ref.get("namespace") or item.namespace), name)
    if str(kind) in ("service", "Services", "services", "svc"):
        message = f'no such kind: "{kind}"; did you mean Service?'
        yield _finding(item, f"{path}.kind", UNKNOWN_FIELD, message, _AS_SERVICE)
    elif kind == "Service" and group not in ("", "core", item.group):
        message = f'Services are of group "", not "{str(group)[:60]}": this names none of them'
        yield _finding(item, f"{path}.group", "InvalidKind", message, _AS_SERVICE)
    elif kind == "Gateway" and "kind" not in ref and key in services and key not in gateways:
        message = f"without a kind this names the Gateway {name}, not the Service of that name"
        yield _finding(item, path, "InvalidKind", message, _AS_SERVICE, Level.WARNING)


def _unknown_fields(item: Manifest, spec: Mapping[str, Any]) -> Iterator[Finding]:
    """Misspelt fields, found by reading the route as if a Service were its parent."""
    read = read_object({**item.obj, "spec": {**spec, "parentRefs": list(_STAND_IN)}})
    for problem in read.problems if read is not None else ():
        if problem.reason == UNKNOWN_FIELD:
            remedy = "correct the name, or remove the field"
            yield _finding(item, problem.path, UNKNOWN_FIELD, problem.message, remedy)


def _finding(
    item: Manifest,
    path: str,
    reason: str,
    message: str,
    remedy: str,
    level: Level = Level.ERROR,
) -> Finding:
    line = item.line_of(path)
    return Finding(item.file, line, str(item), path, reason, message, remedy, level)
