"""System calls that Python 3.11 lacks, through libc: namespaces, mounts, capabilities.

`os.unshare` and `os.setns` exist from Python 3.12 only. Each function raises OSError with the
errno of the call. Imports stay small: every container start passes through this module.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterable

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags` for new ones."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(fd: int, kind: int = 0) -> None:
    """Join the namespace behind `fd`; `kind` is its CLONE_* flag, 0 for any."""
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)), "setns")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2). Empty `kind` and `data` are passed as NULL, as binds and remounts want it."""
    result = _libc.mount(
        source.encode() or b"none",
        target.encode(),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        data.encode() or None,
    )
    _check(result, f"mount {kind or 'bind'} on {target}")


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(target.encode(), ctypes.c_int(flags)), f"umount {target}")


def pivot_root_to(new_root: str, put_old: str) -> None:
    """Make `new_root` the root of this mount namespace; the old one appears at `put_old`.

    `put_old` is a folder named as seen from the new root. pivot_root(2).
    """
    number = _PIVOT_ROOT.get(platform.machine())
    if number is None:
        raise OSError(38, f"pivot_root: no system call number known for {platform.machine()}")
    os.chdir(new_root)
    old = (new_root + put_old).encode()
    _check(_libc.syscall(ctypes.c_long(number), b".", old), f"pivot_root {new_root}")
    os.chdir("/")


def no_new_privileges() -> None:
    """No exec after this gives more than the caller has."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0), "prctl no_new_privs")


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def last_capability() -> int:
    """The highest capability number that the kernel knows."""
    try:
        with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 40


def limit_capabilities(keep: Iterable[int]) -> None:
    """Drop all but `keep` from the bounding set, and empty the inheritable and ambient sets.

    What a process can have after its next exec is then at most `keep`: capabilities(7). The
    effective set stays, so that the caller can still change its user before that exec.
    """
    kept = set(keep)
    for number in range(last_capability() + 1):
        if number not in kept:
            _check(
                _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0),
                f"prctl capbset_drop {number}",
            )
    _libc.prctl(_PR_CAP_AMBIENT, ctypes.c_ulong(_PR_CAP_AMBIENT_CLEAR_ALL), 0, 0, 0)
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    data = (_CapData * 2)()
    _check(_libc.capget(ctypes.byref(header), ctypes.byref(data)), "capget")
    data[0].inheritable = data[1].inheritable = 0
    _check(_libc.capset(ctypes.byref(header), ctypes.byref(data)), "capset")
