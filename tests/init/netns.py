"""A pod and its peer: two network namespaces joined by a veth pair, and sockets inside them.

Sockets are made by this process: its thread steps into a namespace, opens the socket, steps
back. The owner match looks at the uid that opened a socket, which is why `uid` is a parameter.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from init.plan import Family
from init.prove import original_destination
from mesh.core.labels import INBOUND_PORT, OUTBOUND_PORT

ROOT = Path(__file__).resolve().parents[2]
CLONE_NEWNET = 0x40000000
SECONDS = 5.0
POD = {Family.V4: "10.77.0.2", Family.V6: "fd77::2"}
PEER = {Family.V4: "10.77.0.1", Family.V6: "fd77::1"}
LOOPBACK = {Family.V4: "127.0.0.1", Family.V6: "::1"}
AF = {Family.V4: socket.AF_INET, Family.V6: socket.AF_INET6}
ANY = {Family.V4: "0.0.0.0", Family.V6: "::"}

needs_root = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)


@dataclass
class Namespace:
    """One network namespace, by name."""

    name: str
    _descriptor: int = field(init=False)

    def __post_init__(self) -> None:
        self._descriptor = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._descriptor)
        _ip("netns", "del", self.name)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, inside the namespace."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.setns(self._descriptor, CLONE_NEWNET))
            yield
        finally:
            _check(_libc.setns(home, CLONE_NEWNET))
            os.close(home)

    def run(self, *command: str, env: Mapping[str, str] | None = None) -> str:
        """The output of a command inside; stderr and exit code in the error."""
        return subprocess.run(
            [*self.enter(), *command], check=True, capture_output=True, text=True, env=env
        ).stdout

    def enter(self) -> list[str]:
        """What to put before a command to run it inside."""
        return ["nsenter", f"--net=/run/netns/{self.name}", "--"]

    def open_socket(
        self, family: Family, kind: int = socket.SOCK_STREAM, *, uid: int = 0
    ) -> socket.socket:
        """A socket of this namespace, opened by `uid`."""
        with self.entered():
            _libc.setfsuid(uid)
            try:
                made = socket.socket(AF[family], kind)
            finally:
                _libc.setfsuid(0)
        made.settimeout(SECONDS)
        return made

    def listen(self, family: Family, port: int) -> socket.socket:
        """A listener on all addresses of the namespace in one family."""
        made = self.open_socket(family)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is Family.V6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((ANY[family], port))
        made.listen(16)
        return made


@dataclass
class Pod:
    """The namespace of a pod, its peer, and `python -m init` inside."""

    namespace: Namespace
    peer: Namespace
    families: tuple[Family, ...]

    def command(self, *arguments: str) -> list[str]:
        """The command line of init inside the pod."""
        return [*self.namespace.enter(), sys.executable, "-m", "init", *arguments]

    def environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        """The environment of init: the settings without their prefix, in lower case or not."""
        kept = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        return kept | {f"MESH_INIT_{name.upper()}": value for name, value in settings.items()}

    def init(
        self, *arguments: str, path: str = "", **settings: str
    ) -> subprocess.CompletedProcess[str]:
        """Run init to its end; `path` goes before PATH."""
        env = self.environment(settings)
        if path:
            env["PATH"] = f"{path}:{env['PATH']}"
        return subprocess.run(
            self.command(*arguments), env=env, cwd=ROOT, capture_output=True, text=True, timeout=30
        )

    def saved(self, backend: str, family: Family) -> str:
        """The nat table without comments and counters, as the backend's tool prints it."""
        with self.namespace.entered(), suppress(OSError):
            names = Path(
                f"/proc/thread-self/net/{'ip' if family is Family.V4 else 'ip6'}_tables_names"
            )
            if backend == "legacy" and "nat" not in names.read_text().split():
                return ""
        text = self.namespace.run(f"{family.tools}-{backend}-save", "-t", "nat")
        lines = [line.split(" [")[0] for line in text.splitlines() if not line.startswith("#")]
        return "\n".join(lines)


@contextmanager
def make_pod(families: tuple[Family, ...]) -> Iterator[Pod]:
    """A pod that has addresses and a default route in exactly these families."""
    stem = f"mi{os.getpid()}-{next(_numbers)}"
    names = [f"{stem}p", f"{stem}q"]
    made: list[Namespace] = []
    try:
        for name in names:
            _ip("netns", "add", name)
            made.append(Namespace(name))
        _ip(
            "-n", names[0], "link", "add", "eth0", "type", "veth", "peer", "eth0", "netns", names[1]
        )
        for name, own in zip(names, (POD, PEER), strict=True):
            lines = ["link set lo up", "link set eth0 up"]
            for family in families:
                length = "24" if family is Family.V4 else "64 nodad"
                lines.append(f"addr add {own[family]}/{length} dev eth0")
            _batch(name, lines)
        if Family.V6 not in families:
            with made[0].entered():
                Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
        _batch(names[0], [f"route add default via {PEER[family]}" for family in families])
        yield Pod(made[0], made[1], families)
    finally:
        for namespace in made:
            namespace.close()


@contextmanager
def connected(
    client: Namespace, family: Family, address: str, port: int, *, uid: int = 0
) -> Iterator[socket.socket]:
    """A TCP connection from a namespace."""
    with client.open_socket(family, uid=uid) as opened:
        opened.connect((address, port))
        yield opened


def where_it_lands(
    pod: Pod,
    family: Family,
    *,
    sender: Namespace,
    address: str,
    port: int,
    uid: int = 0,
) -> tuple[str, tuple[str, int] | None]:
    """Connect and tell who accepted: `proxy-out`, `proxy-in`, `pod` or `peer`, and for the
    proxy the original destination. Listeners stand at all four places."""
    places = {
        "proxy-out": pod.namespace.listen(family, OUTBOUND_PORT),
        "proxy-in": pod.namespace.listen(family, INBOUND_PORT),
        "pod": pod.namespace.listen(family, port),
        "peer": pod.peer.listen(family, port),
    }
    try:
        with connected(sender, family, address, port, uid=uid) as client:
            for name, listener in places.items():
                listener.setblocking(False)
                try:
                    accepted, peer = listener.accept()
                except BlockingIOError:
                    continue
                with accepted:
                    assert peer[:2] == client.getsockname()[:2]
                    if name.startswith("proxy"):
                        return name, original_destination(accepted, family)
                    return name, None
        raise AssertionError("connected, but to none of the four listeners")
    finally:
        for listener in places.values():
            listener.close()


def _batch(name: str, lines: list[str]) -> None:
    subprocess.run(
        ["ip", "-n", name, "-batch", "-"],
        input="\n".join(lines),
        check=True,
        text=True,
        capture_output=True,
    )


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
