"""The documents by which clients learn what the server has. Pure: registry in, JSON out.

Both forms: the aggregated lists (v2 and v2beta1) and the older one-document-a-group.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from mesh.local.api.resources import Object, Registry, Resource

VERSION: Final = "v1.34.4"
# Groups without stored resources whose kinds appear in subresources only.
_GROUP_ORDER: Final = ("apps", "events.k8s.io", "authentication.k8s.io", "authorization.k8s.io")

_SUBRESOURCE_KINDS: Final[Mapping[tuple[str, str], tuple[str, str, str]]] = {
    ("serviceaccounts", "token"): ("authentication.k8s.io", "v1", "TokenRequest"),
    ("pods", "proxy"): ("", "v1", "PodProxyOptions"),
    ("services", "proxy"): ("", "v1", "ServiceProxyOptions"),
}
_SUBRESOURCE_VERBS: Final[Mapping[str, tuple[str, ...]]] = {
    "token": ("create",),
    "log": ("get",),
    "finalize": ("update",),
    "proxy": ("create", "delete", "get", "patch", "update"),
}
_STATUS_VERBS: Final = ("get", "patch", "update")


def version_info() -> Object:
    """What `/version` says: the version whose behaviour is modelled."""
    major, minor, _ = VERSION[1:].split(".")
    return {
        "major": major,
        "minor": minor,
        "gitVersion": VERSION,
        "gitCommit": "mesh-local",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "none",
        "platform": "linux/amd64",
    }


def groups(registry: Registry) -> dict[str, list[str]]:
    """Each named group with its versions, preferred first."""
    found: dict[str, list[str]] = {group: [] for group in _GROUP_ORDER}
    for resource in registry:
        if resource.group:
            known = found.setdefault(resource.group, [])
            known.extend(v for v in resource.versions if v not in known)
    return {group: sorted(v, key=version_rank) for group, v in found.items() if v}


def version_rank(version: str) -> tuple[int, int, int, str]:
    """Sorts versions as Kubernetes prefers them: v2, v1, v1beta2, v1beta1, v1alpha1, others."""
    match = re.fullmatch(r"v(\d+)(?:(alpha|beta)(\d+))?", version)
    if match is None:
        return (3, 0, 0, version)
    stage = {None: 0, "beta": 1, "alpha": 2}[match[2]]
    return (stage, -int(match[1]), -int(match[3] or 0), version)


def aggregated(registry: Registry, *, core: bool, api_version: str) -> Object:
    """APIGroupDiscoveryList for `/api` (core) or `/apis`; api_version v2 or v2beta1."""
    items = []
    for group, versions in {"": ["v1"]}.items() if core else groups(registry).items():
        items.append(
            {
                "metadata": {"name": group, "creationTimestamp": None},
                "versions": [
                    {
                        "version": version,
                        "resources": [
                            _aggregated_resource(resource, version)
                            for resource in _served(registry, group, version)
                        ],
                        "freshness": "Current",
                    }
                    for version in versions
                ],
            }
        )
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{api_version}",
        "metadata": {},
        "items": items,
    }


def api_versions() -> Object:
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def group_list(registry: Registry) -> Object:
    return {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [_group(name, versions) for name, versions in groups(registry).items()],
    }


def group(registry: Registry, name: str) -> Object | None:
    versions = groups(registry).get(name)
    if versions is None:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)}


def resource_list(registry: Registry, group: str, version: str) -> Object | None:
    """APIResourceList of one version of one group; None when it has no resources."""
    items: list[Object] = []
    for resource in _served(registry, group, version):
        items.append(_legacy_resource(resource))
        for name in resource.subresources_of(version):
            items.append(_legacy_subresource(resource, name, version))
    if not items:
        return None
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": sorted(items, key=lambda item: str(item["name"])),
    }


def _served(registry: Registry, group: str, version: str) -> Iterable[Resource]:
    found = (r for r in registry if r.group == group and version in r.versions)
    return sorted(found, key=lambda resource: resource.plural)


def _group(name: str, versions: list[str]) -> Object:
    described = [{"groupVersion": f"{name}/{v}", "version": v} for v in versions]
    return {"name": name, "versions": described, "preferredVersion": described[0]}


def _aggregated_resource(resource: Resource, version: str) -> Object:
    found: Object = {
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": version, "kind": resource.kind},
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.single,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        found["shortNames"] = list(resource.short_names)
    if resource.categories:
        found["categories"] = list(resource.categories)
    subresources = []
    for name in resource.subresources_of(version):
        group, kind_version, kind = _subresource_kind(resource, name, version)
        subresources.append(
            {
                "subresource": name,
                "responseKind": {"group": group, "version": kind_version, "kind": kind},
                "verbs": list(_SUBRESOURCE_VERBS.get(name, _STATUS_VERBS)),
            }
        )
    if subresources:
        found["subresources"] = subresources
    return found


def _subresource_kind(resource: Resource, name: str, version: str) -> tuple[str, str, str]:
    if name == "scale":
        return "autoscaling", "v1", "Scale"
    known = _SUBRESOURCE_KINDS.get((resource.plural, name))
    return known or (resource.group, version, resource.kind)


def _legacy_resource(resource: Resource) -> Object:
    found: dict[str, Any] = {
        "name": resource.plural,
        "singularName": resource.single,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        found["shortNames"] = list(resource.short_names)
    if resource.categories:
        found["categories"] = list(resource.categories)
    return found


def _legacy_subresource(resource: Resource, name: str, version: str) -> Object:
    group, kind_version, kind = _subresource_kind(resource, name, version)
    found: dict[str, Any] = {
        "name": f"{resource.plural}/{name}",
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": kind,
        "verbs": list(_SUBRESOURCE_VERBS.get(name, _STATUS_VERBS)),
    }
    if (group, kind_version) != (resource.group, version):
        found["group"], found["version"] = group, kind_version
    return found
