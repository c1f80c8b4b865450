"""TrafficSplit of split.smi-spec.io (v1alpha1 to v1alpha4) and of linkerd.io (v1alpha2).

One reader for all versions: they differ in how weights are written, and users mix that anyway.
`allocation`, which people write for `backends`, is taken as that. `matches` (v1alpha3 on) name
HTTPRouteGroups of specs.smi-spec.io, which `smi_groups` reads; one that does not read rejects
the split as a whole: without it, it would act on more requests than its author meant.
"""

from __future__ import annotations

import math
from typing import Any, Final

from destination.dialects.reading import Reader, shown
from destination.facts import Key, Object, as_text
from destination.fragments import (
    ACCEPTED_SPELLING,
    CROSS_NAMESPACE,
    INVALID_WEIGHT,
    MALFORMED,
    NO_BACKENDS,
    NO_WEIGHT,
    NOT_SUPPORTED,
    Ref,
    RejectedFragment,
    SplitFragment,
    WeightedLeaf,
)
from mesh.core import labels
from mesh.core.quantity import parse_weights

GROUP_KIND: Final = "HTTPRouteGroup"
GROUP_API: Final = "specs.smi-spec.io"
ROUTE_GROUPS: Final = "httproutegroups.specs.smi-spec.io"
_SPEC: Final = ("service", "backends", "allocation", "matches")
_BACKEND: Final = ("service", "weight")
_LARGEST: Final = 1_000_000  # weights are scaled down to it; finer shares cannot be observed


def read_traffic_split(
    split: Object, resource: str, cluster_domain: str = labels.CLUSTER_DOMAIN
) -> SplitFragment | RejectedFragment:
    """Read a TrafficSplit. Never raises: what cannot be honoured is a Problem.

    Weights are relative: 1/1 and 500m/500m both mean half and half. Whether the Services
    exist is for the compiler to say, since that changes without the split.
    """
    reader = Reader(split, resource, "TrafficSplit")
    reader.unknown(reader.spec, "spec", _SPEC)
    groups = _groups(reader)
    apex = _service(reader, reader.spec.get("service"), "spec.service", cluster_domain)
    field = _backends_field(reader)
    leaves = _leaves(reader, field, cluster_domain)
    problems = tuple(reader.problems)
    if reader.is_rejected or apex is None:
        return RejectedFragment(reader.ref, reader.source, problems)
    return SplitFragment(
        reader.ref, reader.source, apex, leaves, f"spec.{field}", reader.created, problems, groups
    )


def _groups(reader: Reader) -> tuple[Ref, ...]:
    """The HTTPRouteGroups of `matches`, of the split's own namespace."""
    found = []
    value = reader.spec.get("matches")
    if value is not None and not isinstance(value, list):
        reader.reject("spec.matches", MALFORMED, f"expected a list, got {shown(value)}")
        return ()
    for index, item in enumerate(value or ()):
        path = f"spec.matches[{index}]"
        if not isinstance(item, dict):
            reader.reject(path, MALFORMED, f"expected kind and name, got {shown(item)}")
            continue
        reader.unknown(item, path, ("kind", "name", "apiGroup"))
        kind, name = item.get("kind", GROUP_KIND), as_text(item.get("name"))
        if kind != GROUP_KIND or item.get("apiGroup") not in (None, "", GROUP_API):
            message = f"expected kind {GROUP_KIND} of {GROUP_API}, got {shown(kind)}"
            reader.reject(f"{path}.kind", NOT_SUPPORTED, message)
        elif not name:
            reader.reject(f"{path}.name", MALFORMED, f"expected the name of an {GROUP_KIND}")
        else:
            found.append(Ref(ROUTE_GROUPS, reader.key[0], name))
    return tuple(found)


def _backends_field(reader: Reader) -> str:
    if "allocation" not in reader.spec:
        return "backends"
    if reader.spec.get("backends"):
        reader.reject(
            "spec.allocation", MALFORMED, "expected backends or allocation, got both; keep backends"
        )
        return "backends"
    reader.warn("spec.allocation", ACCEPTED_SPELLING, "taken as backends, which is its name in SMI")
    return "allocation"


def _leaves(reader: Reader, field: str, cluster_domain: str) -> tuple[WeightedLeaf, ...]:
    items = reader.items(reader.spec.get(field), f"spec.{field}")
    services: list[tuple[Key, int]] = []
    weights: list[Any] = []
    for index, value in enumerate(items):
        path = f"spec.{field}[{index}]"
        if not isinstance(value, dict):
            reader.reject(path, MALFORMED, f"expected service and weight, got {shown(value)}")
            continue
        reader.unknown(value, path, _BACKEND)
        service = _service(reader, value.get("service"), f"{path}.service", cluster_domain)
        if service is not None and _is_weight(reader, value.get("weight"), f"{path}.weight"):
            services.append((service, index))
            weights.append(value["weight"])
    if reader.is_rejected:
        return ()
    if not services:
        reader.reject(f"spec.{field}", NO_BACKENDS, "expected at least one service, got none")
        return ()
    numbers = scaled(parse_weights(weights))
    if not any(numbers):
        reader.warn(
            f"spec.{field}", NO_WEIGHT, "all weights are 0: every request is answered with 503"
        )
    return tuple(
        WeightedLeaf(service, weight, index)
        for (service, index), weight in zip(services, numbers, strict=True)
    )


def _is_weight(reader: Reader, value: Any, path: str) -> bool:
    if not isinstance(value, (int, float, str)):
        reader.reject(path, INVALID_WEIGHT, "expected a weight such as 90 or 500m, got none")
        return False
    try:
        parse_weights([value])
    except ValueError as error:
        reader.reject(path, INVALID_WEIGHT, str(error))
        return False
    return True


def _service(reader: Reader, value: Any, path: str, cluster_domain: str) -> Key | None:
    """The Service that a name means: bare, `name.namespace` or the full name, of the split's
    own namespace only."""
    name = as_text(value)
    if not name:
        reader.reject(path, MALFORMED, "expected the name of a Service, got none")
        return None
    short = name.removesuffix(".").removesuffix(f".svc.{cluster_domain}").removesuffix(".svc")
    service, _, namespace = short.partition(".")
    if namespace and namespace != reader.key[0]:
        reader.reject(
            path,
            CROSS_NAMESPACE,
            f"expected a Service of namespace {reader.key[0]}, got {shown(name)}",
        )
        return None
    return reader.key[0], service


def scaled(weights: list[int]) -> list[int]:
    """The same proportions in small numbers; what is not 0 stays above 0."""
    divisor = math.gcd(*weights) or 1
    weights = [weight // divisor for weight in weights]
    largest = max(weights)
    if largest <= _LARGEST:
        return weights
    return [weight and max(1, weight * _LARGEST // largest) for weight in weights]
