"""From the machine to PID 1 of the node: `python -m mesh.local.node.starter CONFIG`.

Run by `mesh local up` as root. CONFIG is JSON: state, ranges, link, ready (fd of a pipe). The
starter unshares, forks PID 1, writes {"pid": N} to the pipe and ends; PID 1 builds the node's
mounts and network, starts the daemon and becomes the reaper. Small and single-threaded: after
unshare(CLONE_NEWPID) a process can start no thread.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from mesh.local.node import links, linux, record
from mesh.local.node.reaper import Reaper

_NAMESPACES = (
    linux.CLONE_NEWNS
    | linux.CLONE_NEWNET
    | linux.CLONE_NEWUTS
    | linux.CLONE_NEWIPC
    | linux.CLONE_NEWPID
)
NODE_NAME = "mesh-local"


def _tell(fd: int, **fields: Any) -> None:
    os.write(fd, json.dumps(fields).encode() + b"\n")


def _mounts(state: str) -> None:
    linux.mount("", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    linux.mount("proc", "/proc", "proc", flags)
    linux.mount("sysfs", "/sys", "sysfs", flags)
    linux.mount("tmpfs", f"{state}/run", "tmpfs", linux.MS_NOSUID, "mode=755")
    _try_overlay(f"{state}/run/try")


def _try_overlay(folder: str) -> None:
    """Fail here, once, where the root file system cannot carry another overlay."""
    for name in ("upper", "work", "merged"):
        os.makedirs(f"{folder}/{name}")
    data = f"lowerdir=/,upperdir={folder}/upper,workdir={folder}/work"
    try:
        linux.mount("overlay", f"{folder}/merged", "overlay", 0, data)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror}: no overlay over / is possible here; inside a container or pod "
            "whose own root is an overlay over an overlay, run it on the machine instead",
        ) from error
    linux.umount(f"{folder}/merged")


def _network(config: dict[str, Any], machine_ns: int) -> None:
    pairs = {name: (value[0], value[1]) for name, value in config["network"].items()}
    plan = links.NodePlan(**pairs)
    links.set_up_node(plan, machine_ns=machine_ns, machine_link=config["link"])


def _start_daemon(config: dict[str, Any], control: socket.socket) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        for fd in (control.fileno(), config["ready"]):
            os.set_inheritable(fd, True)
        os.setsid()
        os.chdir("/")
        command = [sys.executable, "-m", "mesh.local.node.daemon"]
        options = json.dumps({**config, "control": control.fileno()})
        os.environ["PYTHONPATH"] = config["source"]
        os.execv(sys.executable, [*command, options])
    except BaseException as error:
        print(f"cannot start the daemon: {error}", file=sys.stderr, flush=True)
    os._exit(1)


def main() -> int:
    """Returns in the starter and, at the very end, in PID 1."""
    config = json.loads(sys.argv[1])
    ready = int(config["ready"])
    for fd in (ready, int(config["lock"])):
        os.set_inheritable(fd, False)
    os.setsid()
    machine_ns = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        linux.unshare(_NAMESPACES)
    except OSError as error:
        text = f"cannot make namespaces: {error.strerror}: a container needs to be privileged"
        _tell(ready, error=text)
        return 1
    go, begin = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid:
        return _introduce(config, ready, pid, begin)
    os.close(begin)
    if not os.read(go, 1):
        return 1
    os.close(go)
    return _first_process(config, ready, machine_ns)


def _introduce(config: dict[str, Any], ready: int, pid: int, begin: int) -> int:
    """Write down who PID 1 is while /proc here is still the machine's, then let it begin."""
    try:
        record.begun(Path(config["state"]), pid, config["ranges"])
    except OSError as error:
        _tell(ready, error=f"cannot write to {config['state']}: {error.strerror}")
        return 1
    _tell(ready, pid=pid)
    os.write(begin, b"g")
    return 0


def _first_process(config: dict[str, Any], ready: int, machine_ns: int) -> int:
    """Build the node, start the daemon, reap until it ends."""
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _mounts(config["state"])
        socket.sethostname(NODE_NAME)
        _network(config, machine_ns)
        os.close(machine_ns)
    except FileExistsError as error:
        _tell(ready, error=str(error), taken=True)
        return 1
    except OSError as error:
        _tell(ready, error=f"cannot set up the node: {error}")
        return 1
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    daemon = _start_daemon(config, theirs)
    theirs.close()
    os.close(ready)
    return Reaper(ours, daemon).run()


if __name__ == "__main__":
    sys.exit(main())
