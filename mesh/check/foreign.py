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
    "httproutegroups.specs.smi-spec.io": "crds.smi",
}

# What `mesh install --gateway-api` brings.
GATEWAY_NAMES: Final = tuple(
    f"{plural}.gateway.networking.k8s.io"
    for plural in ("httproutes", "grpcroutes", "tlsroutes", "tcproutes")
)


class _Mesh(NamedTuple):
    """How another mesh's injector is known, and which of our dialects are its own."""

    title: str
    family: str
    hooks: tuple[str, ...]  # ends of webhooks' names
    crd_groups: tuple[str, ...]


_MESHES: Final = (
    _Mesh("Linkerd", LINKERD, ("linkerd-proxy-injector.linkerd.io",), ("policy.linkerd.io",)),
    _Mesh("Istio", ISTIO, ("sidecar-injector.istio.io",), ("networking.istio.io",)),
    _Mesh("Kuma", "", ("kuma-injector.kuma.io",), ("kuma.io",)),
    _Mesh("Consul", "", ("consul-connect-injector.consul.hashicorp.com",), ()),
    _Mesh("Open Service Mesh", "", ("osm-inject.k8s.io",), ()),
)


def foreign_families(facts: Facts) -> frozenset[str]:
    """The dialects of the inject switch whose own injector runs here: they do not count."""
    found = (_mesh_of(configuration) for configuration in facts.mutating.got or ())
    return frozenset(mesh.family for mesh in found if mesh is not None and mesh.family)


def _mesh_of(configuration: Mapping[str, Any]) -> _Mesh | None:
    names = [str(hook.get("name")) for hook in configuration.get("webhooks") or ()]
    for mesh in _MESHES:
        if any(name.endswith(mesh.hooks) for name in names):
            return mesh
    return None


def no_other_injector(facts: Facts) -> Iterator[Fault]:
    for configuration in facts.mutating.value:
        mesh = _mesh_of(configuration)
        if mesh is None:
            continue
        beside = (
            f"inject with {labels.A_INJECT}: enabled, the only switch of ours that counts beside "
            f"{mesh.title}'s injector, and never both into one pod"
        )
        name = f"MutatingWebhookConfiguration {name_of(configuration)}"
        yield Fault(name, f"{mesh.title}'s injector is in this cluster", beside)


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


def gateway_routes_are_free(facts: Facts) -> Iterator[Fault]:
    """`mesh install` never reads the cluster, so it cannot see these by itself."""
    theirs = [crd for crd in facts.crds.value if name_of(crd) in GATEWAY_NAMES and not is_ours(crd)]
    if theirs:
        yield Fault(
            f"CustomResourceDefinitions {', '.join(sorted(map(name_of, theirs)))}",
            f"are here already, from {owner_of(theirs[0])}",
            "the mesh reads them as they are: install without --gateway-api, which would put "
            "smaller ones in their place",
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
GATEWAY_FREE: Final = Check(
    "the Gateway API's routes are free for --gateway-api",
    gateway_routes_are_free,
    Severity.WARNING,
)
