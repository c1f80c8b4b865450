"""One container: from a fork of the node's PID 1 to the exec of the application.

`enter` runs in a single-threaded child and never returns. It carries out a plan made elsewhere
(`rootfs.py`): overlay over the machine's `/`, mounts, credentials, exec. What goes wrong is told
on the report socket as one JSON packet; end of file there means that the exec has happened.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from typing import Any

from mesh.local.node import linux

_OLD_ROOT = "/.mesh-old-root"
_DEVICES = (("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9))
_NAMESPACES = linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC


def report(channel: socket.socket, **fields: Any) -> None:
    """One packet to the daemon; a daemon that is gone is not our trouble."""
    with contextlib.suppress(OSError):
        channel.send(json.dumps(fields).encode())


def _prepare_target(path: str, *, directory: bool) -> None:
    """Make the place for a mount; a link to nowhere (resolv.conf into /run) gives way."""
    if os.path.exists(path):
        return
    if os.path.islink(path):
        os.unlink(path)
    if directory:
        os.makedirs(path, exist_ok=True)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "ab"):
        pass


def _bind(source: str, target: str, *, readonly: bool) -> None:
    _prepare_target(target, directory=os.path.isdir(source))
    linux.mount(source, target, flags=linux.MS_BIND | linux.MS_REC)
    if readonly:
        flags = linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY
        linux.mount("", target, flags=flags | _kept_flags(target))


def _kept_flags(path: str) -> int:
    """nosuid, nodev and noexec of the mount below `path`, which a remount must repeat."""
    found = os.statvfs(path).f_flag
    return found & (linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)


def _devices() -> None:
    os.makedirs("/dev", exist_ok=True)
    linux.mount("tmpfs", "/dev", "tmpfs", linux.MS_NOSUID, "mode=755,size=64k")
    for name, minor in (*_DEVICES, ("tty", 0)):
        major = 5 if name == "tty" else 1
        path = f"/dev/{name}"
        try:
            os.mknod(path, 0o20666, os.makedev(major, minor))
            os.chmod(path, 0o666)
        except PermissionError:
            _bind(f"{_OLD_ROOT}/dev/{name}", path, readonly=False)
    for name, target in (
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ):
        os.symlink(target, f"/dev/{name}")
    os.mkdir("/dev/pts")
    linux.mount(
        "devpts",
        "/dev/pts",
        "devpts",
        linux.MS_NOSUID | linux.MS_NOEXEC,
        "newinstance,ptmxmode=0666,mode=0620",
    )
    os.mkdir("/dev/shm")
    shm_flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    linux.mount("shm", "/dev/shm", "tmpfs", shm_flags, "mode=1777,size=64m")


def _kernel_mounts(*, privileged: bool) -> None:
    flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    os.makedirs("/proc", exist_ok=True)
    linux.mount("proc", "/proc", "proc", flags)
    if not privileged:
        linux.mount("/proc/sys", "/proc/sys", flags=linux.MS_BIND)
        readonly = linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY
        linux.mount("", "/proc/sys", flags=readonly | flags)
    os.makedirs("/sys", exist_ok=True)
    linux.mount("sysfs", "/sys", "sysfs", flags | linux.MS_RDONLY)
    _devices()


def _make_reachable(path: str) -> None:
    """Let everyone pass through `path` and its ancestors, in this pod's overlay only."""
    step = ""
    for part in path.strip("/").split("/"):
        step += "/" + part
        if os.path.islink(step) or not os.path.isdir(step):
            return
        mode = os.stat(step).st_mode & 0o7777
        if mode & 0o011 != 0o011:  # the group as well: runAsUser alone leaves group 0
            os.chmod(step, mode | 0o011)


def build_root(plan: dict[str, Any]) -> None:
    """Carry out the mounts of a plan; afterwards `/` is the container's own.

    Keys: base (an empty folder on a tmpfs), binds (list of [source, target, readonly], in
    order), tmpfs (list of [target, data]), reachable (paths), readonly, privileged.
    """
    base = plan["base"]
    upper, work, merged = (f"{base}/{name}" for name in ("upper", "work", "merged"))
    for path in (upper, work, merged):
        os.makedirs(path, exist_ok=True)
    data = f"lowerdir=/,upperdir={upper},workdir={work}"
    linux.mount("overlay", merged, "overlay", 0, data)
    os.mkdir(merged + _OLD_ROOT)
    linux.pivot_root_to(merged, _OLD_ROOT)
    _kernel_mounts(privileged=plan["privileged"])
    for target, options in plan["tmpfs"]:
        os.makedirs(target, exist_ok=True)
        linux.mount("tmpfs", target, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, options)
    for path in plan["reachable"]:
        _make_reachable(path)
    for source, target, readonly in plan["binds"]:
        _bind(_OLD_ROOT + source, target, readonly=readonly)
    for path in plan["reachable"]:
        with contextlib.suppress(OSError):
            _make_reachable(path)
    linux.umount(_OLD_ROOT, linux.MNT_DETACH)
    os.rmdir(_OLD_ROOT)
    if plan["readonly"]:
        flags = linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY
        for target in ("/", *(entry[0] for entry in plan["tmpfs"])):
            linux.mount("", target, flags=flags | _kept_flags(target))


def _become(plan: dict[str, Any]) -> None:
    """Credentials, in the one order that works: groups, bounding set, gid, uid."""
    os.setgroups(plan["groups"])
    linux.limit_capabilities(plan["capabilities"])
    os.setresgid(plan["gid"], plan["gid"], plan["gid"])
    os.setresuid(plan["uid"], plan["uid"], plan["uid"])
    if plan["no_new_privileges"]:
        linux.no_new_privileges()


def _exec(
    plan: dict[str, Any], channel: socket.socket, output: tuple[int, int], given: int = -1
) -> None:
    for number, fd in ((1, output[0]), (2, output[1])):
        with contextlib.suppress(OSError):
            os.fchown(fd, plan["uid"], plan["gid"])
        os.dup2(fd, number)
    os.dup2(given if given >= 0 else os.open("/dev/null", os.O_RDONLY), 0)
    with contextlib.suppress(OSError):
        os.makedirs(plan["cwd"], exist_ok=True)
    _become(plan)
    os.chdir(plan["cwd"])
    argv, env = plan["argv"], plan["env"]
    try:
        os.execvpe(argv[0], argv, env)
    except OSError as error:
        text = f'exec: "{argv[0]}": {error.strerror}'
        report(channel, error=text, stage="exec")
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o022)


def start(
    plan: dict[str, Any], channel: socket.socket, output: tuple[int, int], network: int
) -> None:
    """Run in a child of PID 1: new namespaces, then PID 1 of the container in a second fork.

    Reports {"pid": N} in the node's numbering; returns in the first child only.
    """
    linux.setns(network, linux.CLONE_NEWNET)
    linux.unshare(_NAMESPACES)
    pid = os.fork()
    if pid:
        report(channel, pid=pid)
        return
    try:
        _reset_signals()
        os.setsid()
        socket.sethostname(plan["hostname"])
        build_root(plan)
        _exec(plan, channel, output)
    except BaseException as error:
        report(channel, error=f"{type(error).__name__}: {error}", stage="setup")
    os._exit(128)


def execute(
    plan: dict[str, Any],
    channel: socket.socket,
    output: tuple[int, int],
    target: int,
    given: int = -1,
) -> None:
    """Run a further command inside the container whose PID 1 is `target`; as `start`."""
    kinds = ("pid", "uts", "ipc", "net", "mnt")
    handles = [os.open(f"/proc/{target}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in kinds]
    for handle in handles:
        linux.setns(handle)
    pid = os.fork()
    if pid:
        report(channel, pid=pid)
        return
    try:
        _reset_signals()
        os.setsid()
        _exec(plan, channel, output, given)
    except BaseException as error:
        report(channel, error=f"{type(error).__name__}: {error}", stage="setup")
    sys.stderr.flush()
    os._exit(128)
