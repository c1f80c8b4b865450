"""What a ServiceProfile says beside its routes: retry budget, overrides, opaque ports; pure."""

from __future__ import annotations

from typing import Any, Final

from destination.dialects.reading import Reader, shown
from destination.dialects.smi import scaled
from destination.facts import Key, as_text
from destination.fragments import (
    INVALID_BUDGET,
    INVALID_PORTS,
    INVALID_WEIGHT,
    MALFORMED,
    NO_WEIGHT,
    WeightedLeaf,
)
from mesh.core.model import Budget
from mesh.core.names import is_dns_label, split_authority
from mesh.core.quantity import parse_duration, parse_ports, parse_weights

_MOST_RATIO: Final = 1000
_TTL: Final = (1.0, 60.0)  # seconds, as Linkerd takes them


def read_budget(reader: Reader) -> Budget | None:
    """How many retries the Service may get; None where nothing is said."""
    path = "spec.retryBudget"
    found = reader.mapping(reader.spec.get("retryBudget"), path)
    if not found:
        return None
    reader.unknown(found, path, ("retryRatio", "minRetriesPerSecond", "ttl"))
    default = Budget()
    ratio = found.get("retryRatio", default.ratio)
    if not _is_number(ratio) or not 0 <= ratio <= _MOST_RATIO:
        message = f"expected a number from 0 to {_MOST_RATIO}; {default.ratio} is taken"
        reader.warn(f"{path}.retryRatio", INVALID_BUDGET, message)
        ratio = default.ratio
    least = found.get("minRetriesPerSecond", default.min_per_second)
    if not _is_number(least) or least < 0:
        message = f"expected 0 or more; {default.min_per_second:g} is taken"
        reader.warn(f"{path}.minRetriesPerSecond", INVALID_BUDGET, message)
        least = default.min_per_second
    return Budget(float(ratio), float(least), _ttl(reader, found.get("ttl"), f"{path}.ttl"))


def _ttl(reader: Reader, value: Any, path: str) -> float:
    default = Budget().ttl
    if value is None:
        return default
    try:
        ttl = parse_duration(value if isinstance(value, str) else shown(value))
    except ValueError as error:
        reader.warn(path, INVALID_BUDGET, f"{error}; {default:g}s is taken")
        return default
    low, high = _TTL
    if not low <= ttl <= high:
        message = f"expected {low:g}s to {high:g}s, got {ttl:g}s; {default:g}s is taken"
        reader.warn(path, INVALID_BUDGET, message)
        return default
    return ttl


def read_overrides(reader: Reader, cluster_domain: str) -> tuple[WeightedLeaf, ...]:
    """The weighted Services that take the place of the profile's own."""
    leaves: list[tuple[Key, int | None, int]] = []
    weights: list[Any] = []
    items = reader.items(reader.spec.get("dstOverrides"), "spec.dstOverrides")
    for index, value in enumerate(items):
        path = f"spec.dstOverrides[{index}]"
        if not isinstance(value, dict):
            reader.warn(path, MALFORMED, f"expected a mapping, got {shown(value)}")
            return ()
        reader.unknown(value, path, ("authority", "weight"))
        found = _authority(reader, value.get("authority"), f"{path}.authority", cluster_domain)
        weight = value.get("weight")
        if found is None or not _is_weight(reader, weight, f"{path}.weight"):
            return ()
        leaves.append((*found, index))
        weights.append(weight)
    if not leaves:
        return ()
    numbers = scaled(parse_weights(weights))
    if not any(numbers):
        message = "all weights are 0: every request is answered with 503"
        reader.warn("spec.dstOverrides", NO_WEIGHT, message)
    return tuple(
        WeightedLeaf(service, weight, index, port)
        for (service, port, index), weight in zip(leaves, numbers, strict=True)
    )


def _authority(
    reader: Reader, value: Any, path: str, cluster_domain: str
) -> tuple[Key, int | None] | None:
    """Service and port of `name.namespace.svc.<cluster domain>[:port]`."""
    host, port = split_authority(as_text(value))
    short = host.removesuffix(".").removesuffix(f".svc.{cluster_domain}").removesuffix(".svc")
    name, _, namespace = short.partition(".")
    if not is_dns_label(name) or (namespace and not is_dns_label(namespace)):
        message = (
            f"expected a Service such as web.shop.svc.{cluster_domain}, got {shown(value)}; "
            "the overrides are ignored"
        )
        reader.warn(path, MALFORMED, message)
        return None
    return (namespace or reader.key[0], name), port


def _is_weight(reader: Reader, value: Any, path: str) -> bool:
    try:
        if not isinstance(value, (int, float, str)):
            raise ValueError("expected a weight such as 90 or 500m, got none")
        parse_weights([value])
    except ValueError as error:
        reader.warn(path, INVALID_WEIGHT, f"{error}; the overrides are ignored")
        return False
    return True


def read_opaque_ports(reader: Reader) -> tuple[tuple[int, int], ...]:
    """Ports whose bytes are forwarded without parsing: `"25"`, `"8000-8010"`, or numbers."""
    words = []
    for index, value in enumerate(reader.items(reader.spec.get("opaquePorts"), "spec.opaquePorts")):
        word = str(value) if _is_number(value) else as_text(value)
        try:
            if not parse_ports(word):
                raise ValueError(f"expected a port or a range, got {shown(value)}")
            words.append(word)
        except ValueError as error:
            reader.warn(f"spec.opaquePorts[{index}]", INVALID_PORTS, str(error))
    return parse_ports(",".join(words))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
