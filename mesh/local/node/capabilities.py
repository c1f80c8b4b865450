"""What a container's securityContext means for its credentials. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mesh.core.errors import MeshError

NAMES: tuple[str, ...] = (
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
)
"""Names by number: include/uapi/linux/capability.h, without the prefix CAP_."""

_NUMBERS = {name: number for number, name in enumerate(NAMES)}

DEFAULT = frozenset(
    _NUMBERS[name]
    for name in [
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "MKNOD",
        "NET_RAW",
        "SETGID",
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
        "AUDIT_WRITE",
    ]
)
"""What containerd gives a container that asks for nothing."""


class CreateError(MeshError):
    """A container that cannot be created as its spec stands; `reason` is its waiting reason."""

    def __init__(self, message: str, reason: str = "CreateContainerConfigError") -> None:
        self.reason = reason
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who a container's process is."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    capabilities: frozenset[int]
    no_new_privileges: bool
    readonly_root: bool
    privileged: bool


def capability_set(spec: Mapping[str, Any]) -> frozenset[int]:
    """`securityContext.capabilities` as numbers: the default set, less `drop`, plus `add`."""
    drop = [str(name).upper().removeprefix("CAP_") for name in spec.get("drop") or ()]
    add = [str(name).upper().removeprefix("CAP_") for name in spec.get("add") or ()]
    for name in (*drop, *add):
        if name != "ALL" and name not in _NUMBERS:
            raise CreateError(f'capabilities: no capability is called "{name}"')
    every = frozenset(range(len(NAMES)))
    kept = frozenset() if "ALL" in drop else DEFAULT - {_NUMBERS[name] for name in drop}
    if "ALL" in add:
        return every - {_NUMBERS[name] for name in drop if name != "ALL"}
    return kept | {_NUMBERS[name] for name in add}


def credentials(pod_spec: Mapping[str, Any], container: Mapping[str, Any]) -> Credentials:
    """Merge the pod's and the container's securityContext.

    Images are names only and name no user: without runAsUser a container runs as root, and
    runAsNonRoot then refuses it as a kubelet would. Raises CreateError.
    """
    pod = pod_spec.get("securityContext") or {}
    own = container.get("securityContext") or {}

    def merged(field: str) -> Any:
        return own[field] if own.get(field) is not None else pod.get(field)

    uid = int(merged("runAsUser") or 0)
    if merged("runAsNonRoot") and uid == 0:
        raise CreateError(
            "container has runAsNonRoot and would run as root: set securityContext.runAsUser"
        )
    gid = int(merged("runAsGroup") or 0)
    extra = [int(group) for group in pod.get("supplementalGroups") or ()]
    if pod.get("fsGroup") is not None:
        extra.append(int(pod["fsGroup"]))
    privileged = bool(own.get("privileged"))
    return Credentials(
        uid=uid,
        gid=gid,
        groups=tuple(sorted({gid, *extra})),
        capabilities=(
            frozenset(range(len(NAMES)))
            if privileged
            else capability_set(own.get("capabilities") or {})
        ),
        no_new_privileges=own.get("allowPrivilegeEscalation") is False,
        readonly_root=bool(own.get("readOnlyRootFilesystem")),
        privileged=privileged,
    )
