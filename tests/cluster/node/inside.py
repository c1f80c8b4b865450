"""PID 1 of the node: makes its mounts, starts its parts, starts again what ends.

Started in new namespaces by `tests.cluster.node.lifecycle`, with the node's folder as only
argument; it waits for a line on stdin, by when the network is there. Ending this process ends
every other one of the node, with the mounts. After the root has changed nothing can be imported
any more, so all imports stand above.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

# folders of the node's, on a real disk, and where they are seen inside
BOUND: Final = {
    "containerd": "/var/lib/containerd",
    "etcd": "/var/lib/etcd",
    "kubelet": "/var/lib/kubelet",
    "log": "/var/log/node",
}
DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty", "kmsg")
# The kubelet sets these for the whole machine unless it finds them so: it is shown files.
SHOWN: Final = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}
COMPONENTS: Final = "/opt/components"  # the one binary as .all, and a link for each name
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
AGAIN_SECONDS: Final = 1.0


def mount_commands(
    root: str, folder: str, lower: str, components: str, *, keys: Sequence[str] = tuple(SHOWN)
) -> list[list[str]]:
    """What builds the node's tree at `root`, before it becomes the root. Pure."""
    layers = f"lowerdir={lower},upperdir={folder}/root/upper,workdir={folder}/root/work"
    devices = [["mount", "--bind", f"/dev/{name}", f"{root}/dev/{name}"] for name in DEVICES]
    shown = [["mount", "--bind", f"{folder}/shown/{key}", f"{root}/proc/sys/{key}"] for key in keys]
    kept = [["mount", "--bind", f"{folder}/{name}", f"{root}{at}"] for name, at in BOUND.items()]
    return [
        ["mount", "-t", "overlay", "overlay", "-o", layers, root],
        ["mount", "-t", "proc", "proc", f"{root}/proc"],
        ["mount", "-t", "sysfs", "sysfs", f"{root}/sys"],
        ["mount", "--rbind", "/sys/fs/cgroup", f"{root}/sys/fs/cgroup"],
        ["mount", "-t", "tmpfs", "-o", "mode=755", "dev", f"{root}/dev"],
        ["mkdir", f"{root}/dev/pts", f"{root}/dev/shm", f"{root}/dev/mqueue"],
        ["touch", *(f"{root}/dev/{name}" for name in DEVICES)],
        *devices,
        ["mount", "-t", "devpts", "-o", "newinstance,ptmxmode=0666", "devpts", f"{root}/dev/pts"],
        ["ln", "-s", "pts/ptmx", f"{root}/dev/ptmx"],
        ["ln", "-s", "/proc/self/fd", f"{root}/dev/fd"],
        ["mount", "-t", "tmpfs", "tmpfs", f"{root}/dev/shm"],
        ["mount", "-t", "tmpfs", "-o", "mode=755", "run", f"{root}/run"],
        ["mount", "-t", "tmpfs", "-o", "mode=1777", "tmp", f"{root}/tmp"],
        *shown,
        *kept,
        ["mount", "--bind", components, f"{root}{COMPONENTS}/.all"],
    ]


def main() -> None:
    """Never returns but by the end of the node."""
    folder = Path(sys.argv[1])
    plan: Mapping[str, str] = json.loads((folder / "inside.json").read_text())
    commands: Mapping[str, Sequence[str]] = json.loads((folder / "commands.json").read_text())
    _write_whole(folder / "pid", os.readlink("/proc/self"))  # as the machine sees it
    if not sys.stdin.readline():
        sys.exit("whoever started the node is gone")
    socket.sethostname(plan["name"])
    _change_root(folder, plan)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    _supervise(commands)


def _write_whole(path: Path, text: str) -> None:
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").rename(path)


def _change_root(folder: Path, plan: Mapping[str, str]) -> None:
    root = str(folder / "root" / "merged")
    keys = [key for key in SHOWN if os.path.exists(f"/proc/sys/{key}")]
    for command in mount_commands(root, str(folder), plan["root"], plan["components"], keys=keys):
        subprocess.run(command, check=True)
    os.chdir(root)
    subprocess.run(["pivot_root", ".", "mnt"], check=True)
    os.chdir("/")
    subprocess.run(["umount", "-l", "/mnt"], check=True, env={"PATH": PATH})
    subprocess.run(["mount", "--make-rshared", "/"], check=True, env={"PATH": PATH})


def _supervise(commands: Mapping[str, Sequence[str]]) -> None:
    """Start each part, and again a second after it ended; reap what is left to PID 1."""
    running = {_start(name, command): name for name, command in commands.items()}
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        pid, status = os.wait()
        name = running.pop(pid, "")
        if name:
            print(f"{name} ended status={os.waitstatus_to_exitcode(status)}", flush=True)
            time.sleep(AGAIN_SECONDS)
            running[_start(name, commands[name])] = name


def _start(name: str, command: Sequence[str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        log = os.open(f"/var/log/node/{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.setsid()
        os.chdir("/etc/kubernetes")
        os.execve(command[0], list(command), {"PATH": PATH, "HOME": "/root"})
    except OSError as error:
        print(f"{name} did not start: {error}", flush=True)
    finally:
        os._exit(127)


if __name__ == "__main__":
    main()
