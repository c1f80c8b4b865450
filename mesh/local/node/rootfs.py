"""What a container's file system is made of: decided here as data, done by `container.py`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

MESH = "/opt/mesh"  # where the virtual environment appears in every container

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/etc", "/nix")
_HIDDEN = ("/tmp", "/run", "/proc", "/sys", "/dev")
_KERNEL = frozenset(
    [
        "proc",
        "sysfs",
        "devtmpfs",
        "devpts",
        "cgroup",
        "cgroup2",
        "securityfs",
        "debugfs",
        "tracefs",
        "bpf",
        "mqueue",
        "hugetlbfs",
        "configfs",
        "fusectl",
        "pstore",
        "efivarfs",
        "autofs",
        "binfmt_misc",
        "rpc_pipefs",
        "nsfs",
    ]
)


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo."""

    target: str
    kind: str


@dataclass(frozen=True, slots=True)
class Python:
    """Where the interpreter and the project are on the machine; all real paths.

    `links` are folders through which the environment's `python` leads to the real one.
    """

    prefix: str
    base_prefix: str
    source: str
    links: tuple[str, ...] = ()


def link_folders(executable: str) -> tuple[str, ...]:
    """The folders of every symbolic link that `executable` is resolved through, but its own."""
    found = []
    for _ in range(40):  # as the kernel does: path_resolution(7)
        if not os.path.islink(executable):
            break
        folder = os.path.dirname(executable)
        executable = os.path.normpath(os.path.join(folder, os.readlink(executable)))
        found.append(os.path.dirname(executable))
    return tuple(dict.fromkeys(found))


def parse_mountinfo(text: str) -> list[Mount]:
    """The mounts in /proc/self/mountinfo: proc_pid_mountinfo(5)."""
    found = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        if len(fields) < 5 or not right:
            continue
        target = fields[4].encode().decode("unicode_escape")
        found.append(Mount(target, right.split()[0]))
    return found


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _mount_of(path: str, mounts: Iterable[Mount]) -> str:
    best = "/"
    for mount in mounts:
        if _below(path, mount.target) and len(mount.target) > len(best):
            best = mount.target
    return best


def system_binds(python: Python, mounts: Iterable[Mount]) -> list[tuple[str, str, bool]]:
    """(source, target, read-only) of what an overlay over `/` alone would lack.

    An overlay shows no submounts, and files that change below it are undefined: so what lies on
    other mounts is bound, and so are the virtual environment and the source tree, always.
    """
    known = [mount for mount in mounts if mount.kind not in _KERNEL]
    binds: list[tuple[str, str, bool]] = []
    for mount in known:
        if any(_below(mount.target, folder) for folder in _SYSTEM) and os.path.isdir(mount.target):
            binds.append((mount.target, mount.target, True))
    for path in (python.base_prefix, *python.links):
        if _mount_of(path, known) != "/" or any(_below(path, folder) for folder in _HIDDEN):
            binds.append((path, path, True))
    binds.append((python.source, python.source, True))
    if not _below(python.prefix, python.source):
        binds.append((python.prefix, python.prefix, True))
    binds.append((python.prefix, MESH, True))
    return list(dict.fromkeys(binds))


def reachable(python: Python) -> list[str]:
    """Folders that every user of a container must be able to pass."""
    return [python.base_prefix, python.prefix, python.source, *python.links]
