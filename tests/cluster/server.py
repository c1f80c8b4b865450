"""etcd and kube-apiserver as child processes: an API that is real, with no node behind it.

No controllers run: a namespace has no default service account until a test makes one, pods stay
Pending, and a deleted namespace stays Terminating. All state is one folder; processes end with
the one that started them, also when that one is killed.
"""

from __future__ import annotations

import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.error import URLError

from tests.cluster.build import built_components
from tests.cluster.certificates import Authority, signing_pair
from tests.cluster.kubeconfig import kubeconfig

READY_SECONDS: Final = 120.0
SERVICE_RANGE: Final = "10.96.0.0/16"
ISSUER: Final = "https://kubernetes.default.svc.cluster.local"
ADMIN: Final = "admin"
ETCD_SOCKET: Final = "client.sock:0"  # etcd wants a port, and makes it part of the name
# what every kube-apiserver of ours is told; paths are relative to its working folder
SHARED_FLAGS: Final = {
    "tls-cert-file": "serving.crt",
    "tls-private-key-file": "serving.key",
    "client-ca-file": "users-ca.crt",
    "requestheader-client-ca-file": "front-ca.crt",
    "requestheader-allowed-names": "front-proxy",
    "requestheader-extra-headers-prefix": "X-Remote-Extra-",
    "requestheader-group-headers": "X-Remote-Group",
    "requestheader-username-headers": "X-Remote-User",
    "proxy-client-cert-file": "front.crt",
    "proxy-client-key-file": "front.key",
    "service-account-issuer": ISSUER,
    "service-account-key-file": "tokens.pub",
    "service-account-signing-key-file": "tokens.key",
    "authorization-mode": "Node,RBAC",
    "enable-admission-plugins": "NodeRestriction",
    "allow-privileged": "true",
    "profiling": "false",
}


class ServerError(Exception):
    """The server did not come up. The text ends with the end of its log."""


@dataclass
class ApiServer:
    """A running API server. Kubeconfigs are files in `folder`."""

    folder: Path
    port: int
    users: Authority
    anchor: bytes
    _made: dict[str, Path] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def etcd(self) -> Path:
        """The socket of its store."""
        return self.folder / ETCD_SOCKET

    @property
    def admin(self) -> Path:
        """The kubeconfig of a user who may do everything, and impersonate everyone."""
        return self.kubeconfig(ADMIN, ["system:masters"])

    def kubeconfig(
        self, user: str, groups: Sequence[str] = (), *, namespace: str = "default"
    ) -> Path:
        """A kubeconfig, with all it needs inside, for a user with these groups."""
        name = "-".join([user, *groups, namespace]).replace(":", "_").replace("/", "_")
        if name not in self._made:
            pair = self.users.client(user, groups)
            text = kubeconfig(self.url, self.anchor, user, pair, namespace=namespace)
            path = self.folder / f"{name}.kubeconfig"
            path.write_text(text)
            self._made[name] = path
        return self._made[name]


@contextmanager
def running_api_server(folder: Path, **flags: str) -> Iterator[ApiServer]:
    """Build if needed, start, wait until ready, yield; end both processes.

    `flags` are more flags of kube-apiserver, with underscores. Raises BuildError or ServerError.
    """
    (folder / "bin").mkdir(parents=True)
    binary = folder / "bin" / "kube-apiserver"
    binary.symlink_to(built_components())
    users, front, serving = Authority("users"), Authority("front proxy"), Authority("serving")
    _write_files(folder, users, front, serving)
    with ExitStack() as stack:
        etcd = stack.enter_context(_child(folder, "etcd", _etcd_command()))
        held = stack.enter_context(_held_port())
        port = int(held.getsockname()[1])
        server = stack.enter_context(
            _child(folder, "kube-apiserver", [str(binary), *api_server_flags(port, flags)])
        )
        made = ApiServer(folder, port, users, serving.certificate)
        _await_ready(made, {"etcd": etcd, "kube-apiserver": server})
        held.close()
        yield made


def api_server_flags(port: int, more: Mapping[str, str]) -> list[str]:
    """The flags of kube-apiserver; paths are relative to its working folder."""
    flags = SHARED_FLAGS | {
        "etcd-servers": f"unix://{ETCD_SOCKET}",
        "bind-address": "127.0.0.1",
        "secure-port": str(port),
        "permit-port-sharing": "true",  # the port is held for it until it is ready
        "endpoint-reconciler-type": "none",  # loopback is no endpoint
        "service-cluster-ip-range": SERVICE_RANGE,
    }
    flags |= {name.replace("_", "-"): value for name, value in more.items()}
    return [f"--{name}={value}" for name, value in flags.items()]


def _etcd_command() -> list[str]:
    path = shutil.which("etcd")
    if path is None:
        raise ServerError("etcd is not there: install the package etcd-server")
    client, peer = f"unix://{ETCD_SOCKET}", "unix://peer.sock:0"
    return [
        path,
        *("--data-dir", "etcd"),
        *("--listen-client-urls", client, "--advertise-client-urls", client),
        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
        *("--initial-cluster", f"default={peer}", "--unsafe-no-fsync"),
    ]


@contextmanager
def _child(folder: Path, name: str, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process in `folder` with its log there, that dies with us."""
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *command],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)  # its state is thrown away
        process.wait()


@contextmanager
def _held_port() -> Iterator[socket.socket]:
    """A free port on loopback that others cannot take, but a server that shares ports can."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        yield held


def _await_ready(server: ApiServer, processes: dict[str, subprocess.Popen[bytes]]) -> None:
    context = ssl.create_default_context(cadata=server.anchor.decode())
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        for name, process in processes.items():
            if process.poll() is not None:
                raise ServerError(f"{name} ended with {process.returncode}: {_tail(server, name)}")
        try:
            with urllib.request.urlopen(f"{server.url}/readyz", context=context, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.1)  # polling a process that has no other way to say it is ready
    raise ServerError(
        f"kube-apiserver was not ready in {READY_SECONDS:g} s: {_tail(server, 'kube-apiserver')}"
    )


def _tail(server: ApiServer, name: str) -> str:
    lines = (server.folder / f"{name}.log").read_text(errors="replace").splitlines()
    return "\n".join(lines[-15:])


def _write_files(folder: Path, users: Authority, front: Authority, serving: Authority) -> None:
    for name, content in server_files(["127.0.0.1", "localhost"], users, front, serving).items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_bytes(content)


def server_files(
    names: Sequence[str], users: Authority, front: Authority, serving: Authority
) -> dict[str, bytes]:
    """The files that SHARED_FLAGS name, by name; the server is called by `names`."""
    leaf, proxy, tokens = serving.server(names), front.client("front-proxy"), signing_pair()
    return {
        "users-ca.crt": users.certificate,
        "front-ca.crt": front.certificate,
        "serving.crt": leaf.certificate,
        "serving.key": leaf.key,
        "front.crt": proxy.certificate,
        "front.key": proxy.key,
        "tokens.pub": tokens.certificate,
        "tokens.key": tokens.key,
    }
