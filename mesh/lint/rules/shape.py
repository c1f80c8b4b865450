"""The outer shape of objects: kinds, versions and fields that nobody would read; pure."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from typing import Any, Final

from mesh.lint.rules.finding import Finding, Level
from mesh.lint.rules.source import Manifest

_VERSIONS: Final = {
    ("linkerd.io", "ServiceProfile"): ("v1alpha1", "v1alpha2"),
    ("linkerd.io", "TrafficSplit"): ("v1alpha2",),
    ("split.smi-spec.io", "TrafficSplit"): ("v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"),
    ("specs.smi-spec.io", "HTTPRouteGroup"): ("v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"),
    ("gateway.networking.k8s.io", "HTTPRoute"): ("v1", "v1beta1", "v1alpha2"),
    ("gateway.networking.k8s.io", "GRPCRoute"): ("v1", "v1alpha2"),
    ("gateway.networking.k8s.io", "TLSRoute"): ("v1", "v1alpha3", "v1alpha2"),
    ("gateway.networking.k8s.io", "TCPRoute"): ("v1", "v1alpha2"),
    ("policy.linkerd.io", "HTTPRoute"): ("v1alpha1", "v1beta1", "v1beta2", "v1beta3"),
}
_KINDS: Final = {"linkerd.io": ("ServiceProfile", "TrafficSplit")} | {
    "split.smi-spec.io": ("TrafficSplit",),
    # Kinds of these that we do not read belong to gateways, access control and others.
    "gateway.networking.k8s.io": (
        *("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute", "Gateway"),
        *("GatewayClass", "ReferenceGrant", "BackendTLSPolicy", "ListenerSet"),
    ),
    "specs.smi-spec.io": ("HTTPRouteGroup", "TCPRoute", "UDPRoute"),
}
_TOP: Final = ("apiVersion", "kind", "metadata", "spec", "status")
_META: Final = (
    *("name", "generateName", "namespace", "labels", "annotations", "creationTimestamp"),
    *("deletionTimestamp", "deletionGracePeriodSeconds", "finalizers", "generation", "uid"),
    *("managedFields", "ownerReferences", "resourceVersion", "selfLink"),
)
_TYPED: Final = frozenset(  # kinds whose top level is exactly _TOP
    ("Service", "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "Pod", "Namespace")
)


def find_shape_faults(item: Manifest) -> Iterator[Finding]:
    """Misspelt kinds, versions, outer fields and metadata."""
    group_kind = (item.group, item.kind)
    kinds = _KINDS.get(item.group)
    if kinds is not None and item.kind not in kinds:
        yield _unknown(item, "kind", item.kind, kinds, "kind of this group")
        return
    versions = _VERSIONS.get(group_kind)
    if versions is not None:
        version = str(item.obj.get("apiVersion")).rpartition("/")[2]
        if version not in versions:
            yield _unknown(item, "apiVersion", version, versions, "version of this kind")
    if versions is None and item.kind not in _TYPED:
        return
    top = (*_TOP, "matches") if item.kind == "HTTPRouteGroup" else _TOP
    yield from _unknown_fields(item, item.obj, "", top)
    yield from _unknown_fields(item, item.obj.get("metadata"), "metadata", _META)
    if not item.name and not _value(item.obj.get("metadata"), "generateName"):
        yield _finding(
            item, "metadata.name", "Malformed", "expected a name, got none", "give it a name"
        )


def _unknown_fields(
    item: Manifest, found: Any, path: str, known: Collection[str]
) -> Iterator[Finding]:
    for name in found if isinstance(found, dict) else ():
        if name not in known:
            yield _unknown(item, f"{path}.{name}".lstrip("."), str(name), known, "field")


def _unknown(item: Manifest, path: str, name: str, known: Collection[str], what: str) -> Finding:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
    message = f'no such {what}: "{name[:60]}"{hint}'
    return _finding(item, path, "UnknownField", message, "correct the name, or remove it")


def _finding(item: Manifest, path: str, reason: str, message: str, remedy: str) -> Finding:
    line = item.line_of(path)
    return Finding(item.file, line, str(item), path, reason, message, remedy, Level.ERROR)


def _value(found: Any, name: str) -> Any:
    return found.get(name) if isinstance(found, dict) else None
