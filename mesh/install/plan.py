"""What an upgrade changes: rendered manifests against what the cluster has. Pure.

Only what we write is compared, since the API server fills in the rest; what was written by
the last apply and is written no more counts as removed, as kubectl does it. Each change is a
line that a person can judge; what nobody would notice is only counted.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mesh.core import labels
from mesh.core.errors import ConfigError
from mesh.inject.config import KEY, InjectConfig, load_config
from mesh.install.render import VERSION_KEY, Manifest
from mesh.kube.pods import annotations_of, is_finished, is_meshed, labels_of, namespace_of

Key = tuple[str, str, str]  # kind, namespace ("" for cluster-wide kinds), name
_LAST: Final = "kubectl.kubernetes.io/last-applied-configuration"
_NOTHING: Final[tuple[Any, ...]] = ("", [], {}, None, False, 0)  # what the API server leaves out
_MARKS: Final = ("---", "+++", "@@")  # of a diff, but not of its lines
_LONGEST: Final = 60  # characters of a value in a line
_MOST: Final = 8  # paths shown for one object


@dataclass(frozen=True)
class Plan:
    """`created`, `removed`: objects by name; `changed`: with the paths; `behaviour`: sentences."""

    created: tuple[str, ...]
    changed: Mapping[str, tuple[str, ...]]
    removed: tuple[str, ...]
    same: int
    behaviour: tuple[str, ...] = field(default=())


def plan_upgrade(
    wanted: Sequence[Manifest], live: Mapping[Key, Manifest], strays: Iterable[Manifest] = ()
) -> Plan:
    """`live` holds what the cluster has of the wanted, `strays` what else it has of ours."""
    created, changed, same = [], {}, 0
    for manifest in wanted:
        there = live.get(key_of(manifest))
        if there is None:
            created.append(title(manifest))
            continue
        lines = tuple(find_changes(there, manifest))
        if lines:
            changed[title(manifest)] = lines
        else:
            same += 1
    keys = {key_of(manifest) for manifest in wanted}
    removed = tuple(title(item) for item in strays if key_of(item) not in keys)
    return Plan(tuple(created), changed, removed, same)


def find_changes(there: Manifest, wanted: Manifest) -> Iterator[str]:
    """`path: old -> new` of each value that applying `wanted` changes."""
    yield from _compare(there, wanted, "")
    noted = annotations_of(there).get(_LAST)
    try:
        last = json.loads(noted) if noted else {}
    except ValueError:
        last = {}
    for path in _gone(last, wanted, ""):
        yield f"{path}: removed"


def describe_behaviour(
    before: Mapping[str, str], after: Mapping[str, str], pods: Iterable[Manifest], version: str
) -> list[str]:
    """What users notice: `before` and `after` are the data of ConfigMap mesh-config."""
    lines = []
    if before.get(VERSION_KEY) != version:
        lines.append(f"control plane: version {before.get(VERSION_KEY, 'unknown')} -> {version}")
    old, new = _config(before), _config(after)
    if old is not None and new is not None:
        lines += _config_changes(old, new)
    behind: dict[tuple[str, str], int] = {}
    for pod in pods:
        at = annotations_of(pod).get(labels.A_PROXY_VERSION, "")
        if is_meshed(pod) and not is_finished(pod) and at != version:
            key = namespace_of(pod), at
            behind[key] = behind.get(key, 0) + 1
    for (namespace, at), count in sorted(behind.items()):
        lines.append(
            f"namespace {namespace}: {count} proxies stay at {at or 'an unknown version'} until "
            f"their pods restart: kubectl -n {namespace} rollout restart deploy,sts,ds"
        )
    return lines


def print_plan(plan: Plan) -> str:
    """For a terminal."""
    lines = [f"+ {name}" for name in plan.created]
    for name, paths in plan.changed.items():
        lines.append(f"~ {name}")
        lines += [f"    {path}" for path in paths[:_MOST]]
        if len(paths) > _MOST:
            lines.append(f"    and {len(paths) - _MOST} more")
        if name.startswith("Deployment") and any("spec.template." in path for path in paths):
            lines.append("    its pods are replaced, one after the other")
    for name in plan.removed:
        kind, _, where = name.partition(" ")
        namespace, slash, of = where.rpartition("/")
        place = f" -n {namespace}" if slash else ""
        lines.append(f"- {name} (apply does not remove it: kubectl delete {kind} {of}{place})")
    lines.append(f"= {plan.same} objects stay as they are")
    if plan.behaviour:
        lines += ["", "What changes with it:", *(f"  {line}" for line in plan.behaviour)]
    return "\n".join(lines) + "\n"


def key_of(manifest: Manifest) -> Key:
    meta = manifest["metadata"]
    return manifest["kind"], str(meta.get("namespace") or ""), meta["name"]


def title(manifest: Manifest) -> str:
    """`Deployment mesh/mesh-identity`."""
    kind, namespace, name = key_of(manifest)
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"


def _compare(there: Any, wanted: Any, path: str) -> Iterator[str]:
    if isinstance(wanted, Mapping) and isinstance(there, Mapping):
        for key, value in wanted.items():
            yield from _compare(there.get(key), value, f"{path}.{key}" if path else str(key))
    elif isinstance(wanted, list) and isinstance(there, list):
        yield from _compare_lists(there, wanted, path)
    elif isinstance(wanted, str) and isinstance(there, str) and "\n" in wanted + there:
        lines = difflib.unified_diff(there.splitlines(), wanted.splitlines(), lineterm="", n=0)
        yield from (f"{path}: {line}" for line in lines if not line.startswith(_MARKS))
    elif there != wanted and not (_is_nothing(there) and _is_nothing(wanted)):
        yield f"{path}: {_show(there)} -> {_show(wanted)}"


def _compare_lists(there: list[Any], wanted: list[Any], path: str) -> Iterator[str]:
    """By name where the entries have one, else by position when there are as many."""
    old, new = _named(there), _named(wanted)
    if old is None or new is None:
        if len(there) != len(wanted):
            yield f"{path}: {_show(there)} -> {_show(wanted)}"
            return
        old, new = dict(enumerate(there)), dict(enumerate(wanted))
    for name, value in new.items():
        place = f"{path}[{name}]"
        if name in old:
            yield from _compare(old[name], value, place)
        else:
            yield f"{place}: added"
    for name in old:
        if name not in new:
            yield f"{path}[{name}]: removed"


def _named(items: list[Any]) -> dict[Any, Any] | None:
    names = [item.get("name") if isinstance(item, Mapping) else None for item in items]
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        return None
    return dict(zip(names, items, strict=True))


def _gone(last: Any, wanted: Any, path: str) -> Iterator[str]:
    """Keys that the last apply wrote and this one does not."""
    if not isinstance(last, Mapping) or not isinstance(wanted, Mapping):
        return
    for key, value in last.items():
        place = f"{path}.{key}" if path else str(key)
        if key in wanted:
            yield from _gone(value, wanted[key], place)
        elif not _is_nothing(value) and place not in ("metadata.annotations", "status"):
            yield place


def _config(data: Mapping[str, str]) -> InjectConfig | None:
    try:
        return load_config(data.get(KEY, ""))
    except ConfigError:
        return None


def _config_changes(old: InjectConfig, new: InjectConfig) -> Iterator[str]:
    for name in ("image", "trust_domain", "cluster_domain"):
        if getattr(old, name) != getattr(new, name):
            said = name.replace("_", " ")
            yield f"new pods: {said} {getattr(old, name)} -> {getattr(new, name)}"
    for name in ("inbound_port", "outbound_port", "admin_port"):
        if getattr(old, name) != getattr(new, name):
            said = name.replace("_", " ")
            yield (
                f"new pods: {said} {getattr(old, name)} -> {getattr(new, name)}; proxies with "
                "different ports do not find each other: restart all meshed pods"
            )
    for annotation in labels.ANNOTATIONS:
        before, after = old.default_of(annotation), new.default_of(annotation)
        if before != after:
            yield f"new pods: {annotation.name} {_show(before)} -> {_show(after)}"


def _is_nothing(value: Any) -> bool:
    return any(value is nothing or value == nothing for nothing in _NOTHING)


def _show(value: Any) -> str:
    text = "unset" if _is_nothing(value) else value if isinstance(value, str) else json.dumps(value)
    text = " ".join(str(text).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def is_ours(manifest: Manifest) -> bool:
    """Whether an object carries our mark."""
    return labels_of(manifest).get(labels.L_PART_OF) == labels.PART_OF
