"""Other meshes in the cluster, and definitions of kinds that somebody else put there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from mesh.check.facts import Facts
from mesh.check.model import Category, Check, Fault, Severity
from mesh.core import labels
from mesh.inject.switch import ISTIO, LINKERD
from mesh.kube.pods import annotations_of, labels_of, name_of

# Definitions that `mesh install` brings -> the flag that leaves them out.
CRD_FLAGS: Final[Mapping[str, str]] = {
    "serviceprofiles.linkerd.io": "crds.linkerd",
    "linkerdtrafficsplits.linkerd.io": "crds.linkerd",
    "trafficsplits.split.smi-spec.io": "crds.smi",
}


class _Mesh(NamedTuple):
    """How another mesh's injector is known, and which of our dialects are its own."""

    title: str
    family: str
    webhooks: tuple[str, ...]  # beginnings of names of webhook configurations
    crd_groups: tuple[str, ...]


_MESHES: Final = (
    _Mesh("Linkerd", LINKERD, ("linkerd-proxy-injector",), ("policy.linkerd.io",)),
    _Mesh(
        "Istio", ISTIO, ("istio-sidecar-injector", "istio-revision-tag"), ("networking.istio.io",)
    ),
    _Mesh("Kuma", "", ("kuma-admission-mutating",), ("kuma.io",)),
    _Mesh("Consul", "", ("consul-connect-injector", "consul-consul-connect-injector"), ()),
    _Mesh("Open Service Mesh", "", ("osm-webhook",), ()),
)


def foreign_families(facts: Facts) -> frozenset[str]:
    """The dialects of the inject switch whose own injector runs here: they do not count."""
    return frozenset(
        mesh.family
        for configuration in facts.mutating.got or ()
        for mesh in _MESHES
        if mesh.family and name_of(configuration).startswith(mesh.webhooks)
    )


def no_other_injector(facts: Facts) -> Iterator[Fault]:
    for configuration in facts.mutating.value:
        for mesh in _MESHES:
            if name_of(configuration).startswith(mesh.webhooks):
                yield Fault(
                    f"MutatingWebhookConfiguration {name_of(configuration)}",
                    f"{mesh.title}'s injector is in this cluster",
                    f"inject with {labels.A_INJECT}: enabled, the only switch that counts beside "
                    f"{mesh.title}'s own, and never both into one pod",
                )


def no_other_definitions(facts: Facts) -> Iterator[Fault]:
    """Kinds of another mesh that take no effect here, one line a group."""
    groups = {str((crd.get("spec") or {}).get("group")) for crd in facts.crds.value}
    for mesh in _MESHES:
        for group in sorted(groups & set(mesh.crd_groups)):
            yield Fault(
                f"CustomResourceDefinitions of {group}",
                f"{mesh.title}'s kinds are here; objects of them have no effect in this mesh",
                f"if {mesh.title} is gone, delete what is left of it; else nothing is to be done",
            )


def definitions_are_free(facts: Facts) -> Iterator[Fault]:
    for crd in facts.crds.value:
        flag = CRD_FLAGS.get(name_of(crd))
        if flag is None or is_ours(crd):
            continue
        yield Fault(
            f"CustomResourceDefinition {name_of(crd)}",
            f"is here already, from {owner_of(crd)}",
            f"`mesh install --set {flag}=false` leaves it alone; without that, ours takes its "
            "place and keeps every stored object readable",
        )


def is_ours(obj: Mapping[str, Any]) -> bool:
    """Whether `mesh install` made this object."""
    return labels_of(obj).get(labels.L_PART_OF) == labels.PART_OF


def owner_of(obj: Mapping[str, Any]) -> str:
    """Who put an object there, as far as its labels, annotations and managers tell."""
    annotations, tags = annotations_of(obj), labels_of(obj)
    release = annotations.get("meta.helm.sh/release-name")
    if release:
        where = annotations.get("meta.helm.sh/release-namespace", "?")
        return f"Helm release {release} in namespace {where}"
    for key in ("linkerd.io/control-plane-ns", "linkerd.io/extension"):
        if key in tags:
            return f"Linkerd ({key}: {tags[key]})"
    for key in (labels.L_PART_OF, "app.kubernetes.io/managed-by", "app.kubernetes.io/name"):
        if tags.get(key):
            return str(tags[key])
    managers = [m.get("manager") for m in (obj.get("metadata") or {}).get("managedFields") or ()]
    named = [str(manager) for manager in managers if manager and manager != "kube-apiserver"]
    return f"field manager {named[0]}" if named else "somebody unknown"


OTHERS: Final = Category(
    "other-meshes",
    (
        Check("no other mesh injects proxies here", no_other_injector, Severity.WARNING),
        Check("no other mesh's kinds are here", no_other_definitions, Severity.WARNING),
    ),
)
DEFINITIONS_FREE: Final = Check(
    "the kinds that the mesh brings belong to nobody else", definitions_are_free, Severity.WARNING
)
