"""`mesh local up|down|status|kubeconfig`: the life of the embedded cluster, seen from the machine.

One state folder is one cluster: a lock on it is held by PID 1 of the node for as long as
anything of the cluster lives, so whoever gets the lock knows that nothing is left. Everything
else (namespaces, links, mounts, rules) ends with PID 1.
"""

from __future__ import annotations

import compileall
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import mesh
from mesh.core.errors import MeshError
from mesh.local.node import ranges as ranges_
from mesh.local.node import record
from mesh.local.node.netlink import Netlink
from mesh.local.node.ranges import API_PORT, Ranges
from mesh.local.node.rootfs import link_folders

_STARTED_WITHIN = 30.0  # seconds
_STOPPED_WITHIN = 15.0
_TRIES = 8  # at finding ranges that nobody takes at the same moment
_ROLES = ("mesh", "init", "proxy", "identity", "destination")
_TOOLS = {"nft": "nftables"}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster: where its kubeconfig lies, its ranges, PID 1 as the machine sees it."""

    state: Path
    kubeconfig: Path
    ranges: Ranges
    pid: int

    @property
    def url(self) -> str:
        """Where the API server listens."""
        return f"https://{self.ranges.node}:{API_PORT}"

    def __str__(self) -> str:
        return (
            f"{self.url} pid={self.pid} pods={self.ranges.pods} "
            f"services={self.ranges.services} state={self.state}"
        )


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may choose at `up`. Empty ranges are picked free."""

    pod_cidr: str = ""
    service_cidr: str = ""
    ipv6: bool = True
    images: Mapping[str, Path] = field(default_factory=dict)
    """Image name -> folder of packages that its containers run instead of ours."""


def default_state() -> Path:
    """$XDG_STATE_HOME/mesh-local, or /var/lib/mesh-local."""
    home = os.environ.get("XDG_STATE_HOME")
    return Path(home, "mesh-local") if home else Path("/var/lib/mesh-local")


def _folder(state: Path | None) -> Path:
    return Path(os.path.realpath(state or default_state()))


def _need_root() -> None:
    if os.geteuid() != 0:
        raise MeshError("mesh local needs root for namespaces and mounts: run it with sudo")


# -- lock and record --------------------------------------------------------------------------


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[int | None]:
    """The lock's descriptor while nothing of the cluster lives and nobody starts it, else None."""
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield fd
    finally:
        os.close(fd)


def _held(folder: Path) -> bool:
    if not (folder / "lock").exists():
        return False
    with _lock(folder) as fd:
        return fd is None


def _wait_free(folder: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while _held(folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _cluster(folder: Path, note: dict[str, Any]) -> Cluster:
    ranges = Ranges(**note["ranges"])
    return Cluster(folder, folder / "kubeconfig", ranges, int(note["pid"]))


# -- up ---------------------------------------------------------------------------------------


def up(state: Path | None = None, options: Options | None = None) -> Cluster:
    """Start the cluster of a state folder, or find it running.

    Raises MeshError with what to do about it; nothing is left half-started then.
    """
    _need_root()
    _need_tools()
    options = options or Options()
    images = _images(options)
    folder = _folder(state)
    _make_folder(folder)
    with _lock(folder) as lock:
        if lock is None:
            return _join(folder, options)
        _clean(folder)
        for attempt in range(_TRIES):
            config = _config(folder, _ranges(folder, options), lock) | {"images": images}
            cluster = _start(folder, config, lock, retry=attempt < _TRIES - 1)
            if cluster is not None:
                return cluster
    raise MeshError("no address ranges stayed free: other clusters start at the same time")


def _need_tools() -> None:
    for tool, package in _TOOLS.items():
        if shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
            raise MeshError(f"mesh local needs {tool}: apt-get install {package}")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in ("run", "logs"):
            (folder / name).mkdir(exist_ok=True, mode=0o755)
    except OSError as error:
        raise MeshError(
            f"{folder}: cannot hold the cluster's state: {error.strerror}; "
            "name another folder with --state"
        ) from error


def _join(folder: Path, options: Options | None) -> Cluster:
    """Another `up` runs or ran: wait for it to be ready, or start what has just ended."""
    deadline = time.monotonic() + _STARTED_WITHIN
    while time.monotonic() < deadline:
        found = status(folder)
        if found is not None and _answers(found) and not record.is_ending(found.pid):
            return found
        if not _held(folder):
            return up(folder, options)
        time.sleep(0.05)
    raise MeshError(
        f"{folder}: is held by a process that does not answer: "
        f"mesh local down --state {folder}, then try again"
    )


def _answers(found: Cluster) -> bool:
    """Whether the API server proves to be this cluster's; one that is being killed does not."""
    try:
        context = ssl.create_default_context(cafile=str(found.state / "certificates" / "ca.crt"))
        where = (found.ranges.node, API_PORT)
        with (
            socket.create_connection(where, timeout=1.0) as plain,
            context.wrap_socket(plain, server_hostname=found.ranges.node),
        ):
            return True
    except OSError:
        return False


def _clean(folder: Path) -> None:
    """Remove what a run that has ended may have left: files, and perhaps its link."""
    _sweep(folder)
    for entry in (folder / "run").iterdir():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink()


def _ranges(folder: Path, options: Options) -> Ranges:
    """The ranges of this state's last run where they are free and wanted, else fresh ones."""
    taken = ranges_.taken_on_machine()
    ipv6 = options.ipv6 and ranges_.machine_has_ipv6()
    try:
        kept = Ranges(**json.loads((folder / "ranges.json").read_text()))
    except (OSError, ValueError, TypeError):
        kept = None
    if kept is not None and ranges_.are_free(kept, taken):
        wanted = (options.pod_cidr or kept.pods, options.service_cidr or kept.services, ipv6)
        if wanted == (kept.pods, kept.services, bool(kept.pods6)):
            return kept
    return ranges_.pick(taken, ipv6=ipv6, pods=options.pod_cidr, services=options.service_cidr)


def _link(folder: Path) -> str:
    """The name of the machine's end of the veth: the same for the same state folder."""
    return f"mesh-{zlib.crc32(str(folder).encode()):08x}"


def _sweep(folder: Path) -> None:
    """Wait until a dying node is dead, then end its link and forget it. Needs the lock.

    PID 1 lets go of the lock a moment before it has ended everybody else. The link's routes go
    along with it. The kernel would remove it by itself once nothing needs the node's network any
    more, which can take a minute: a connection whose other end was killed too waits that long.
    """
    deadline = time.monotonic() + _STOPPED_WITHIN
    while record.living_pid(folder) is not None and time.monotonic() < deadline:
        time.sleep(0.005)
    _remove_link(folder)
    record.forget(folder)


def _remove_link(folder: Path) -> None:
    with contextlib.suppress(OSError), Netlink() as netlink:
        netlink.delete_link(_link(folder))


def _python() -> dict[str, Any]:
    source = Path(os.path.realpath(mesh.__file__)).parent.parent
    return {
        "prefix": os.path.realpath(sys.prefix),
        "base_prefix": os.path.realpath(sys.base_prefix),
        "source": str(source),
        "links": link_folders(os.path.join(sys.prefix, "bin", "python")),
    }


def _images(options: Options) -> dict[str, str]:
    """Raises MeshError for a folder that holds no packages of ours."""
    for name, folder in options.images.items():
        if not (folder / "mesh" / "__init__.py").exists():
            raise MeshError(
                f"--image {name}: expected a folder with the packages of a lightmesh, made by "
                f"pip install --no-deps --target {folder} WHEEL"
            )
    return {name: os.path.realpath(folder) for name, folder in options.images.items()}


def _config(folder: Path, ranges: Ranges, lock: int) -> dict[str, Any]:
    python = _python()
    return {
        "state": str(folder),
        "ranges": asdict(ranges),
        "link": _link(folder),
        "lock": lock,
        "python": python,
        "source": python["source"],
        "mountinfo": Path("/proc/self/mountinfo").read_text(),
        "network": {
            "pods": (ranges.pods, ranges.pods6),
            "services": (ranges.services, ranges.services6),
            "node": (ranges.node, ranges.node6),
            "machine": (ranges.machine, ranges.machine6),
            "dns": (ranges.dns, ranges.dns6),
        },
    }


def _start(folder: Path, config: dict[str, Any], lock: int, *, retry: bool) -> Cluster | None:
    """Start the node; None when a range was taken in the meantime and `retry` is set."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    starter = _spawn_starter(folder, config | {"ready": writing}, (writing, lock))
    os.close(writing)
    pid = 0
    try:
        with os.fdopen(reading, encoding="utf-8") as reports:
            for line in reports:
                fields = json.loads(line)
                if "pid" in fields:
                    pid = int(fields["pid"])
                    _compile(Path(config["source"]))
                elif "ready" in fields:
                    return _cluster(folder, record.read(folder) or {})
                elif fields.get("taken") and retry:
                    _end(folder, pid)
                    return None
                else:
                    raise MeshError(f"mesh local up: {fields['error']}")
        raise MeshError(f"mesh local up: the daemon died at its start: {_last_words(folder)}")
    except BaseException:
        _end(folder, pid or record.living_pid(folder) or 0)
        raise
    finally:
        starter.wait()


def _end(folder: Path, pid: int) -> None:
    """Kill PID 1 of a node that did not come up, and wait until all of it is gone."""
    started = record.started_at(pid) if pid else ""
    deadline = time.monotonic() + _STOPPED_WITHIN
    while started and record.started_at(pid) == started and time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
    _remove_link(folder)


def _spawn_starter(
    folder: Path, config: dict[str, Any], fds: tuple[int, int]
) -> subprocess.Popen[bytes]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    log = os.open(folder / "starter.log", flags, 0o600)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "mesh.local.node.starter", json.dumps(config)],
            cwd="/",
            env={**os.environ, "PYTHONPATH": config["source"]},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=fds,
        )
    finally:
        os.close(log)


def _compile(source: Path) -> None:
    """Byte-compile the roles while the daemon starts: pods see the source tree read-only."""
    for name in _ROLES:
        with contextlib.suppress(OSError):
            compileall.compile_dir(str(source / name), quiet=2)


def _last_words(folder: Path) -> str:
    for name in ("daemon.log", "starter.log"):
        with contextlib.suppress(OSError):
            lines = (folder / name).read_text(errors="replace").strip().splitlines()
            if lines:
                return f"{lines[-1]} (more in {folder / name})"
    return f"nothing was logged in {folder}"


# -- down, status, kubeconfig --------------------------------------------------------------------


def down(state: Path | None = None) -> bool:
    """Stop the cluster; True when there was one. Its state stays for the next `up`."""
    _need_root()
    folder = _folder(state)
    was = _held(folder)
    if was:
        _stop(folder)
    if (folder / "lock").exists():
        with _lock(folder) as lock:
            if lock is not None:  # else somebody starts it again already
                _sweep(folder)
    return was


def _stop(folder: Path) -> None:
    """End PID 1, and with it everything. Raises MeshError when something does not end."""
    pid = record.living_pid(folder)
    for number, seconds in ((signal.SIGTERM, _STOPPED_WITHIN), (signal.SIGKILL, _STOPPED_WITHIN)):
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if _wait_free(folder, seconds):
            return
    raise MeshError(
        f"{folder}: something still holds {folder / 'lock'}: "
        f"end the process that `fuser {folder / 'lock'}` names"
    )


def status(state: Path | None = None) -> Cluster | None:
    """The running cluster of a state folder, or None."""
    folder = _folder(state)
    found = record.read(folder)
    if found is None or not found.get("ready") or record.living_pid(folder) is None:
        return None
    return _cluster(folder, found)


def kubeconfig(state: Path | None = None) -> Path:
    """The kubeconfig of a running cluster. Raises MeshError."""
    found = status(state)
    if found is None:
        option = f" --state {state}" if state else ""
        raise MeshError(
            f"no cluster runs in {_folder(state)}: start it with  mesh local up{option}"
        )
    return found.kubeconfig
