"""A container's environment, command and downward API. Pure over the objects it is given."""

from __future__ import annotations

import math
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from mesh.core.quantity import parse_quantity
from mesh.local.node.capabilities import CreateError

Object = dict[str, Any]
Lookup = Callable[[str, str], Object | None]
"""(resource, name) -> the object in the pod's namespace, or None."""

PATH = "/opt/mesh/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_VARIABLE = re.compile(r"\$\$|\$\(([^()]*)\)")
_SUBSCRIPT = re.compile(r"^metadata\.(labels|annotations)\['([^']+)'\]$")


def expand(text: str, known: Mapping[str, str]) -> str:
    """`$(NAME)` replaced where known, left alone where not; `$$` is one dollar."""

    def replace(match: re.Match[str]) -> str:
        if match.group(0) == "$$":
            return "$"
        return known.get(match.group(1), match.group(0))

    return _VARIABLE.sub(replace, text)


def format_map(values: Mapping[str, str]) -> str:
    """Labels or annotations as the downward API writes them: sorted, quoted, one a line."""
    lines = []
    for key in sorted(values):
        quoted = values[key].replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        lines.append(f'{key}="{quoted}"')
    return "\n".join(lines)


def field(pod: Object, path: str) -> str:
    """The value of a fieldRef. Raises CreateError for a path that pods do not have."""
    meta, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    match = _SUBSCRIPT.match(path)
    if match:
        return str((meta.get(match.group(1)) or {}).get(match.group(2), ""))
    if path in ("metadata.labels", "metadata.annotations"):
        return format_map(meta.get(path.partition(".")[2]) or {})
    simple: dict[str, Callable[[], Any]] = {
        "metadata.name": lambda: meta["name"],
        "metadata.namespace": lambda: meta["namespace"],
        "metadata.uid": lambda: meta["uid"],
        "spec.nodeName": lambda: spec.get("nodeName"),
        "spec.serviceAccountName": lambda: spec.get("serviceAccountName") or "default",
        "status.podIP": lambda: status.get("podIP"),
        "status.podIPs": lambda: ",".join(entry["ip"] for entry in status.get("podIPs") or ()),
        "status.hostIP": lambda: status.get("hostIP"),
        "status.hostIPs": lambda: ",".join(entry["ip"] for entry in status.get("hostIPs") or ()),
    }
    if path not in simple:
        raise CreateError(f"fieldRef: pods have no field {path}")
    return str(simple[path]() or "")


def _amount(text: Any) -> Fraction:
    try:
        return parse_quantity(text)
    except ValueError as error:
        raise CreateError(f"resourceFieldRef: {error}") from error


def resource_field(
    pod: Object, container: Object, reference: Object, machine: Mapping[str, str]
) -> str:
    """The value of a resourceFieldRef, rounded up; without a limit it is the machine's size."""
    if reference.get("containerName"):
        every = [*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]]
        named = [entry for entry in every if entry["name"] == reference["containerName"]]
        if not named:
            raise CreateError(f"resourceFieldRef: no container {reference['containerName']}")
        container = named[0]
    kind, _, name = str(reference.get("resource", "")).partition(".")
    if kind not in ("limits", "requests"):
        raise CreateError(f"resourceFieldRef: expected limits.X or requests.X, got {kind}.{name}")
    resources = container.get("resources") or {}
    value = (resources.get(kind) or {}).get(name)
    if value is None:
        value = machine.get(name, "0") if kind == "limits" else "0"
    divisor = _amount(reference.get("divisor") or 1) or Fraction(1)
    return str(math.ceil(_amount(value) / divisor))


def _key(kind: str, reference: Object, found: Object | None, values: Mapping[str, str]) -> Any:
    name, key = reference.get("name", ""), reference.get("key", "")
    if found is None:
        if reference.get("optional"):
            return None
        raise CreateError(f'{kind} "{name}" not found')
    if key not in values:
        if reference.get("optional"):
            return None
        raise CreateError(f"couldn't find key {key} in {kind} {name}")
    return values[key]


def _decoded(secret: Object | None) -> dict[str, str]:
    data = (secret or {}).get("data") or {}
    return {key: b64decode(value).decode(errors="replace") for key, value in data.items()}


def _from(pod: Object, container: Object, source: Object, lookup: Lookup, machine: Any) -> Any:
    if "fieldRef" in source:
        return field(pod, source["fieldRef"].get("fieldPath", ""))
    if "resourceFieldRef" in source:
        return resource_field(pod, container, source["resourceFieldRef"], machine)
    if "configMapKeyRef" in source:
        reference = source["configMapKeyRef"]
        found = lookup("configmaps", reference.get("name", ""))
        return _key("configmap", reference, found, (found or {}).get("data") or {})
    if "secretKeyRef" in source:
        reference = source["secretKeyRef"]
        found = lookup("secrets", reference.get("name", ""))
        return _key("secret", reference, found, _decoded(found))
    raise CreateError(f"env: valueFrom has no source that is known here: {sorted(source)}")


def _bulk(entry: Object, lookup: Lookup) -> dict[str, str]:
    prefix = entry.get("prefix", "")
    for field_, resource in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
        reference = entry.get(field_)
        if reference is None:
            continue
        found = lookup(resource, reference.get("name", ""))
        if found is None:
            if reference.get("optional"):
                return {}
            raise CreateError(f'{resource[:-1]} "{reference.get("name")}" not found')
        values = _decoded(found) if field_ == "secretRef" else found.get("data") or {}
        return {prefix + key: value for key, value in values.items()}
    return {}


def environment(
    pod: Object,
    container: Object,
    lookup: Lookup,
    *,
    base: Mapping[str, str],
    machine: Mapping[str, str],
) -> dict[str, str]:
    """All variables of a container; later ones win and may use earlier ones. Raises CreateError."""
    made = dict(base)
    for entry in container.get("envFrom") or ():
        made.update(_bulk(entry, lookup))
    for entry in container.get("env") or ():
        if entry.get("valueFrom"):
            value = _from(pod, container, entry["valueFrom"], lookup, machine)
            if value is None:
                continue
            made[entry["name"]] = value
        else:
            made[entry["name"]] = expand(str(entry.get("value") or ""), made)
    return made


def command(container: Object, known: Mapping[str, str]) -> list[str]:
    """The argument vector. Raises CreateError with reason NoCommand where the spec has none."""
    words = container.get("command") or ()
    if not words:
        raise CreateError(
            "images are names only here: a container needs a command in its spec",
            reason="NoCommand",
        )
    return [expand(str(word), known) for word in (*words, *(container.get("args") or ()))]
