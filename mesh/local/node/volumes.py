"""Volumes of a pod: what files they hold (pure), and putting those on the node's tmpfs.

ConfigMaps, Secrets, tokens and the downward API appear as a kubelet writes them: files in a
hidden folder, `..data` pointing at it, and a link per name, so that an update is one rename.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.core.quantity import parse_quantity
from mesh.local.node import linux
from mesh.local.node.capabilities import CreateError
from mesh.local.node.environment import Lookup, field, resource_field

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class File:
    """One file of a volume."""

    data: bytes
    mode: int
    token: bool = False


TokenKey = tuple[str, int]  # audience ("" for the API server's own) and lifetime in seconds


def volumes(pod: Object) -> list[Object]:
    """The volumes of a pod's spec."""
    return list(pod["spec"].get("volumes") or ())


def wanted_tokens(pod: Object) -> list[TokenKey]:
    """Every service-account token that the pod's projected volumes ask for."""
    found = []
    for volume in volumes(pod):
        for source in (volume.get("projected") or {}).get("sources") or ():
            if "serviceAccountToken" in source:
                found.append(token_key(source["serviceAccountToken"]))
    return list(dict.fromkeys(found))


def token_key(source: Object) -> TokenKey:
    """Audience and lifetime of a serviceAccountToken projection; 3,600 s where unset."""
    return source.get("audience") or "", max(600, int(source.get("expirationSeconds") or 3600))


def _selected(
    values: Mapping[str, bytes], source: Object, default_mode: int, what: str
) -> dict[str, File]:
    items = source.get("items")
    if not items:
        return {key: File(value, default_mode) for key, value in values.items()}
    made = {}
    for item in items:
        if item["key"] not in values:
            if source.get("optional"):
                continue
            raise CreateError(f"{what} references non-existent key: {item['key']}", "FailedMount")
        mode = item.get("mode")
        made[item["path"]] = File(values[item["key"]], default_mode if mode is None else int(mode))
    return made


def _config_map(source: Object, name: str, lookup: Lookup, mode: int) -> dict[str, File]:
    found = lookup("configmaps", name)
    if found is None:
        if source.get("optional"):
            return {}
        raise CreateError(f'configmap "{name}" not found', "FailedMount")
    values = {key: value.encode() for key, value in (found.get("data") or {}).items()}
    values |= {key: b64decode(value) for key, value in (found.get("binaryData") or {}).items()}
    return _selected(values, source, mode, "configmap")


def _secret(source: Object, name: str, lookup: Lookup, mode: int) -> dict[str, File]:
    found = lookup("secrets", name)
    if found is None:
        if source.get("optional"):
            return {}
        raise CreateError(f'secret "{name}" not found', "FailedMount")
    values = {key: b64decode(value) for key, value in (found.get("data") or {}).items()}
    return _selected(values, source, mode, "secret")


def _downward(
    pod: Object, source: Object, mode: int, machine: Mapping[str, str]
) -> dict[str, File]:
    made = {}
    for item in source.get("items") or ():
        if "fieldRef" in item:
            text = field(pod, item["fieldRef"].get("fieldPath", ""))
        else:
            text = resource_field(pod, {}, item.get("resourceFieldRef") or {}, machine)
        own = item.get("mode")
        made[item["path"]] = File(text.encode(), mode if own is None else int(own))
    return made


def files(
    pod: Object,
    volume: Object,
    lookup: Lookup,
    tokens: Mapping[TokenKey, str],
    machine: Mapping[str, str],
) -> dict[str, File] | None:
    """The files of a volume by path; None for one that starts empty or lies on the machine.

    Raises CreateError with reason FailedMount.
    """
    if "configMap" in volume:
        source = volume["configMap"]
        mode = int(source.get("defaultMode", 0o644))
        return _config_map(source, source.get("name", ""), lookup, mode)
    if "secret" in volume:
        source = volume["secret"]
        mode = int(source.get("defaultMode", 0o644))
        return _secret(source, source.get("secretName", ""), lookup, mode)
    if "downwardAPI" in volume:
        source = volume["downwardAPI"]
        return _downward(pod, source, int(source.get("defaultMode", 0o644)), machine)
    if "projected" in volume:
        return _projected(pod, volume["projected"], lookup, tokens, machine)
    if "emptyDir" in volume or "hostPath" in volume:
        return None
    kinds = sorted(set(volume) - {"name"})
    if not kinds:
        return None
    raise CreateError(f"mesh local has no {', '.join(kinds)} volumes", "FailedMount")


def _projected(
    pod: Object,
    projected: Object,
    lookup: Lookup,
    tokens: Mapping[TokenKey, str],
    machine: Mapping[str, str],
) -> dict[str, File]:
    mode = int(projected.get("defaultMode", 0o644))
    made: dict[str, File] = {}
    for entry in projected.get("sources") or ():
        if "serviceAccountToken" in entry:
            source = entry["serviceAccountToken"]
            token = tokens[token_key(source)]
            made[source["path"]] = File(token.encode(), mode, token=True)
        elif "configMap" in entry:
            source = entry["configMap"]
            made |= _config_map(source, source.get("name", ""), lookup, mode)
        elif "secret" in entry:
            source = entry["secret"]
            made |= _secret(source, source.get("name", ""), lookup, mode)
        elif "downwardAPI" in entry:
            made |= _downward(pod, entry["downwardAPI"], mode, machine)
        else:
            raise CreateError(f"mesh local cannot project {sorted(entry)}", "FailedMount")
    return made


def _common_user(pod: Object) -> int | None:
    """The uid that all containers share, or None: who may read a token of mode 0600."""
    spec = pod["spec"]
    general = (spec.get("securityContext") or {}).get("runAsUser")
    users = set()
    for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
        own = (container.get("securityContext") or {}).get("runAsUser")
        users.add(general if own is None else own)
    only = users.pop() if len(users) == 1 else None
    return None if only is None else int(only)


def _write(path: Path, file: File, group: int | None, user: int | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file.data)
    mode, owner = file.mode, 0
    if file.token and group is not None:
        mode = 0o640
    elif file.token and user is not None:
        mode, owner = 0o600, user
    elif group is not None:
        mode |= 0o040
    os.chown(path, owner, 0 if group is None else group)
    path.chmod(mode)


def write_files(folder: Path, made: Mapping[str, File], pod: Object) -> None:
    """Make the volume's folder hold exactly these files, in one step for readers."""
    folder.mkdir(parents=True, exist_ok=True)
    group = _group(pod)
    user = _common_user(pod)
    link = folder / "..data"
    old = os.readlink(link) if link.is_symlink() else ""
    number = int(old.removeprefix("..") or 0) + 1
    fresh = folder / f"..{number}"
    fresh.mkdir()
    for name, file in made.items():
        _write(fresh / name, file, group, user)
    temporary = folder / "..data_tmp"
    temporary.symlink_to(fresh.name)
    temporary.rename(link)
    tops = {name.partition("/")[0] for name in made}
    for top in tops:
        if not (folder / top).is_symlink():
            (folder / top).symlink_to(f"..data/{top}")
    for entry in folder.iterdir():
        if not entry.name.startswith("..") and entry.name not in tops:
            entry.unlink()
    if old:
        shutil.rmtree(folder / old, ignore_errors=True)


def _group(pod: Object) -> int | None:
    group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
    return None if group is None else int(group)


def make_empty(folder: Path, volume: Object, pod: Object) -> None:
    """An emptyDir: writable for everyone, and for the pod's fsGroup what it makes there."""
    if folder.exists():
        return
    folder.mkdir(parents=True)
    source = volume.get("emptyDir") or {}
    if source.get("medium") == "Memory" or source.get("sizeLimit"):
        size = source.get("sizeLimit")
        flags = linux.MS_NOSUID | linux.MS_NODEV
        data = "mode=777" + (f",size={_bytes(size)}" if size else "")
        linux.mount("tmpfs", str(folder), "tmpfs", flags, data)
    folder.chmod(0o777)
    group = _group(pod)
    if group is not None:
        os.chown(folder, 0, group)
        folder.chmod(0o2777)


def _bytes(size: Any) -> int:
    try:
        return max(4096, int(parse_quantity(size)))
    except ValueError as error:
        raise CreateError(f"emptyDir: sizeLimit: {error}", "FailedMount") from error


def remove(folder: Path) -> None:
    """Unmount what lies on top of a pod's folders and delete them."""
    if not folder.exists():
        return
    for entry in folder.iterdir():
        with contextlib.suppress(OSError):
            linux.umount(str(entry), linux.MNT_DETACH)
    shutil.rmtree(folder, ignore_errors=True)
