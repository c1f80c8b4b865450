"""LimitRanges and ResourceQuotas: what they add to a pod, and which pods they refuse. Pure.

As Kubernetes' admission plugins LimitRanger and ResourceQuota do it, for containers and pods.
Works in place; a second time changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any, Final

from mesh.core.quantity import parse_quantity
from mesh.local.api import status
from mesh.local.api.defaults import containers
from mesh.local.api.resources import Object

_ALIASES: Final = {"cpu": "requests.cpu", "memory": "requests.memory", "count/pods": "pods"}
KEYS: Final = ("requests.cpu", "requests.memory", "limits.cpu", "limits.memory", "pods", *_ALIASES)
_BINARY: Final = (("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10))
_OVER: Final = ("Succeeded", "Failed")
Amounts = dict[str, Fraction]


def fill_limits(pod: Object, ranges: Iterable[Object]) -> None:
    """Give containers what a LimitRange gives those that ask for nothing. Raises ApiError 403."""
    for item in (item for found in ranges for item in found["spec"].get("limits") or ()):
        if item.get("type") != "Container":
            continue
        default = item.get("default") or item.get("max") or {}
        request = {**default, **(item.get("min") or {}), **(item.get("defaultRequest") or {})}
        for container in containers(pod["spec"]):
            resources = container.setdefault("resources", {})
            asked, limits = resources.get("requests") or {}, resources.get("limits") or {}
            for name, amount in request.items():
                asked.setdefault(name, limits.get(name, amount))
            for name, amount in default.items():
                limits.setdefault(name, amount)
            resources |= {"requests": asked} if asked else {}
            resources |= {"limits": limits} if limits else {}
            _check_range(pod, item, asked, limits)


def _check_range(pod: Object, item: Object, asked: Object, limits: Object) -> None:
    for bound, given, word, sign in (
        ("min", asked, "minimum", -1),
        ("max", limits, "maximum", 1),
    ):
        for name, amount in (item.get(bound) or {}).items():
            found = given.get(name)
            if found is None or sign * (parse_quantity(found) - parse_quantity(amount)) > 0:
                kind = "request" if bound == "min" else "limit"
                what = f"{kind} is {found}" if found is not None else f"no {kind} is specified"
                words = f"{word} {name} usage per Container is {amount}, but {what}"
                raise status.forbidden("pods", pod["metadata"].get("name", ""), words)


def usage(pod: Object) -> Amounts:
    """What a pod counts in a quota, by the quota's own keys."""
    if (pod.get("status") or {}).get("phase") in _OVER:
        return {}
    found: Amounts = {"pods": Fraction(1)}
    for kind in ("requests", "limits"):
        for name in ("cpu", "memory"):
            found[f"{kind}.{name}"] = _effective(pod["spec"], kind, name)
    return found


def _effective(spec: Object, kind: str, name: str) -> Fraction:
    """Applications and sidecars together, or the largest init container with its sidecars."""
    sidecars, largest = Fraction(0), Fraction(0)
    for container in spec.get("initContainers") or ():
        amount = _amount(container, kind, name)
        if container.get("restartPolicy") == "Always":
            sidecars += amount
            largest = max(largest, sidecars)
        else:
            largest = max(largest, sidecars + amount)
    together = sum((_amount(c, kind, name) for c in spec["containers"]), sidecars)
    return max(together, largest)


def _amount(container: Object, kind: str, name: str) -> Fraction:
    found = ((container.get("resources") or {}).get(kind) or {}).get(name)
    return parse_quantity(found) if found is not None else Fraction(0)


def used_by(quota: Object, pods: Iterable[Object]) -> dict[str, str]:
    """`status.used` of a quota, as quantities."""
    total: Amounts = {}
    for pod in pods:
        for key, amount in usage(pod).items():
            total[key] = total.get(key, Fraction(0)) + amount
    return {
        key: show(total.get(_ALIASES.get(key, key), Fraction(0)), key)
        for key in quota["spec"].get("hard") or {}
    }


def show(amount: Fraction, key: str) -> str:
    """A quantity in its shortest form: 150m of a CPU, 160Mi of memory."""
    if key.endswith("cpu"):
        return str(int(amount)) if amount.denominator == 1 else f"{-(-amount * 1000 // 1)}m"
    for suffix, size in _BINARY:
        if amount and amount % size == 0:
            return f"{amount // size}{suffix}"
    return str(int(amount))


def check_quotas(pod: Object, quotas: Iterable[Object], pods: Iterable[Object]) -> None:
    """Raises ApiError 403 for a pod that a quota has no room for, or that names no amount."""
    wanted, there = usage(pod), list(pods)
    name = pod["metadata"].get("name", "")
    for quota in quotas:
        hard: Mapping[str, Any] = quota["spec"].get("hard") or {}
        unnamed = [
            container["name"]
            for container in pod["spec"]["containers"]
            for key in hard
            if _lacks(container, key)
        ]
        if unnamed:
            keys = [key for key in hard if any(_lacks(c, key) for c in pod["spec"]["containers"])]
            words = f"must specify {','.join(keys)} for: {','.join(dict.fromkeys(unnamed))}"
            raise status.forbidden(
                "pods", name, f"failed quota: {quota['metadata']['name']}: {words}"
            )
        used = used_by(quota, there)
        over = [
            key
            for key, most in hard.items()
            if parse_quantity(used[key]) + wanted[_ALIASES.get(key, key)] > parse_quantity(most)
        ]
        if over:
            asked = ",".join(f"{key}={show(wanted[_ALIASES.get(key, key)], key)}" for key in over)
            has = ",".join(f"{key}={used[key]}" for key in over)
            most = ",".join(f"{key}={hard[key]}" for key in over)
            title = quota["metadata"]["name"]
            words = f"exceeded quota: {title}, requested: {asked}, used: {has}, limited: {most}"
            raise status.forbidden("pods", name, words)


def _lacks(container: Object, key: str) -> bool:
    kind, dot, name = _ALIASES.get(key, key).partition(".")
    return bool(dot) and name not in ((container.get("resources") or {}).get(kind) or {})


def quota_faults(quota: Object) -> Iterable[status.Fault]:
    """A quota of something that is not counted here is refused, never ignored."""
    for key in quota.get("spec", {}).get("hard") or {}:
        if key not in KEYS:
            yield status.forbidden_field(f"spec.hard[{key}]", f"mesh local has no quota of {key}")
    for field in ("scopes", "scopeSelector"):
        if quota.get("spec", {}).get(field):
            yield status.forbidden_field(f"spec.{field}", f"mesh local has no quota {field}")


def range_faults(limit_range: Object) -> Iterable[status.Fault]:
    """A LimitRange of something that is not looked at here is refused, never ignored."""
    for number, item in enumerate(limit_range.get("spec", {}).get("limits") or ()):
        place = f"spec.limits[{number}]"
        if item.get("type") != "Container":
            words = f"mesh local has no limits of a {item.get('type')}"
            yield status.forbidden_field(f"{place}.type", words)
        if item.get("maxLimitRequestRatio"):
            words = "mesh local has no maxLimitRequestRatio"
            yield status.forbidden_field(f"{place}.maxLimitRequestRatio", words)
