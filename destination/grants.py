"""Which Services of other namespaces a route may lead to; pure.

Routes on Services need no ReferenceGrant (GEP-1426): they add nothing that a client could not
reach anyway. A namespace may ask for them all the same, by annotation; then a route of another
namespace leads to a Service there only with a grant, or where that Service is its own parent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from msgspec import structs

from destination.facts import Key, Namespace
from destination.fragments import (
    REF_NOT_PERMITTED,
    BackendRef,
    GrantFragment,
    RouteFragment,
    RouteRule,
)
from mesh.core.model import Filters
from mesh.core.names import service_authority


def find_forbidden(
    route: RouteFragment, namespaces: Mapping[str, Namespace], grants: Iterable[GrantFragment]
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
            grant.ref.namespace == service[0] and grant.permits(route, service) for grant in grants
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
