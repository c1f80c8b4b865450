"""Which Services of other namespaces a route may lead to; pure.

Routes on Services need no ReferenceGrant (GEP-1426): they add nothing that a client could not
reach anyway. A namespace may ask for them all the same, by annotation; then a route of another
namespace leads to a Service there only with a grant, or where that Service is its own parent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from msgspec import structs

from destination.facts import Key, Namespace, Object, as_list, as_mapping, as_text, key_of
from destination.fragments import REF_NOT_PERMITTED, BackendRef, RouteFragment, RouteRule
from mesh.core.model import Filters
from mesh.core.names import service_authority

_ANY: Final = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """One ReferenceGrant, as far as it is about Services. `names` holds "" for all of them."""

    namespace: str
    name: str
    sources: frozenset[tuple[str, str, str]]  # group, kind, namespace
    names: frozenset[str]

    def permits(self, route: RouteFragment, service: Key) -> bool:
        group = route.ref.resource.partition(".")[2]
        source = (group, route.source.kind, route.ref.namespace)
        return source in self.sources and bool(self.names & {_ANY, service[1]})


def read_grant(obj: Object) -> Grant:
    """Read a ReferenceGrant; what does not read of it grants nothing."""
    spec = as_mapping(obj.get("spec"))
    namespace, name = key_of(obj)
    sources = [as_mapping(item) for item in as_list(spec.get("from"))]
    targets = [as_mapping(item) for item in as_list(spec.get("to"))]
    return Grant(
        namespace=namespace,
        name=name,
        sources=frozenset(
            (as_text(item.get("group")), as_text(item.get("kind")), as_text(item.get("namespace")))
            for item in sources
        ),
        names=frozenset(
            as_text(item.get("name"))
            for item in targets
            if item.get("kind") == "Service" and item.get("group") in ("", "core", None)
        ),
    )


def find_forbidden(
    route: RouteFragment, namespaces: Mapping[str, Namespace], grants: Iterable[Grant]
) -> frozenset[Key]:
    """The Services that a route names and may not lead to."""
    home = route.ref.namespace
    own = {parent.service for parent in route.parents}
    refs = {ref.service for rule in route.rules for ref in (*rule.backends, *rule.mirrors)}
    asked = {
        service
        for service in refs - own
        if service[0] != home
        for namespace in (namespaces.get(service[0]),)
        if namespace is not None and namespace.needs_grants
    }
    if not asked:
        return frozenset()
    grants = list(grants)
    return frozenset(
        service
        for service in asked
        if not any(
            grant.namespace == service[0] and grant.permits(route, service) for grant in grants
        )
    )


def without_forbidden(
    route: RouteFragment, forbidden: frozenset[Key], cluster_domain: str
) -> RouteFragment:
    """The route with these backends refused and these mirrors left out."""
    if not forbidden:
        return route
    gone = frozenset(
        service_authority(ref.service[1], ref.service[0], ref.port, cluster_domain)
        for rule in route.rules
        for ref in rule.mirrors
        if ref.service in forbidden
    )
    return replace(route, rules=tuple(_rule(rule, forbidden, gone) for rule in route.rules))


def _rule(rule: RouteRule, forbidden: frozenset[Key], gone: frozenset[str]) -> RouteRule:
    backends = tuple(_backend(ref, forbidden, gone) for ref in rule.backends)
    return replace(rule, backends=backends, filters=_filters(rule.filters, gone))


def _backend(ref: BackendRef, forbidden: frozenset[Key], gone: frozenset[str]) -> BackendRef:
    refused = ref.refused or (REF_NOT_PERMITTED if ref.service in forbidden else "")
    return replace(ref, refused=refused, filters=_filters(ref.filters, gone))


def _filters(filters: Filters | None, gone: frozenset[str]) -> Filters | None:
    if filters is None or not filters.mirrors or not gone:
        return filters
    mirrors = tuple(mirror for mirror in filters.mirrors if mirror.authority not in gone)
    return structs.replace(filters, mirrors=mirrors)
