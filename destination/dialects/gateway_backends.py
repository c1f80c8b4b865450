"""backendRefs of routes: which Service and port, by what weight, and why not; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from destination.dialects.gateway_filters import NO_PREFIX, read_filters
from destination.dialects.gateway_refs import read_service_ref
from destination.dialects.reading import Reader, shown
from destination.fragments import INVALID_WEIGHT, MALFORMED, BackendRef, RouteKind
from mesh.core.model import Match

_BACKEND: Final = ("group", "kind", "name", "namespace", "port", "weight")
_MOST_WEIGHT: Final = 1_000_000


def read_backend(
    reader: Reader,
    kind: RouteKind,
    value: Any,
    path: str,
    cluster_domain: str,
    matches: tuple[Match, ...],
) -> tuple[BackendRef, tuple[BackendRef, ...]]:
    """One backend with the mirrors of its own filters. What does not read is refused: its
    share is answered with an error."""
    found: Mapping[str, Any] = value if isinstance(value, dict) else {}
    if not isinstance(value, dict):
        reader.warn(path, MALFORMED, f"expected a mapping, got {shown(value)}")
        return BackendRef(("", ""), 0, path, 1, None, MALFORMED), ()
    has_filters = kind in (RouteKind.HTTP, RouteKind.GRPC)
    reader.unknown(found, path, (*_BACKEND, "filters") if has_filters else _BACKEND)
    service, port, refused = read_service_ref(reader, found, path)
    weight = found.get("weight", 1)
    if not isinstance(weight, int) or isinstance(weight, bool) or not 0 <= weight <= _MOST_WEIGHT:
        message = f"expected a number from 0 to {_MOST_WEIGHT}, got {shown(weight)}; 1 is taken"
        reader.warn(f"{path}.weight", INVALID_WEIGHT, message)
        weight = 1
    listed = found.get("filters") if has_filters else None
    filters = read_filters(reader, kind, listed, f"{path}.filters", cluster_domain)
    refused = refused or filters.refused
    if filters.needs_prefix and any(match.path_prefix is None for match in matches):
        message = "ReplacePrefixMatch needs matches of type PathPrefix; answered with 500"
        reader.warn(f"{path}.filters", NO_PREFIX, message)
        refused = refused or NO_PREFIX
    backend = BackendRef(service, port, path, weight, filters.filters, refused)
    return backend, filters.mirrors
