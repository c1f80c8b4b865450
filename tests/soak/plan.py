"""What the processes of a soak agree on: kinds of traffic, addresses, and what is written down.

There is no redirect on loopback. An application's connection says by its source address,
127.1.0.KIND, which Service it means; a proxy's by its destination, 127.0.0.1KIND or, for the
second replica, 127.0.0.2KIND.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path


class Kind(IntEnum):
    """The Services of a soak, each with an application of its own."""

    HTTP1 = 1
    HTTP2 = 2
    TCP = 3
    TLS = 4
    MAIL = 5


@dataclass(frozen=True)
class Plan:
    """What one pod's proxy has to know. Written to a file, read by its process."""

    bundle: str
    identity: str
    peer: str  # identity of the other pod
    leaves: list[str]  # files; put in force one after the other
    applications: dict[str, int]  # port by name of kind
    inbound: int  # port of the server's proxy, 0 for itself
    renew_seconds: float
    swap_seconds: float

    def write(self, path: Path) -> Path:
        path.write_text(json.dumps(asdict(self)))
        return path

    @staticmethod
    def read(path: Path) -> Plan:
        return Plan(**json.loads(path.read_text()))


@dataclass(frozen=True)
class Sample:
    """One look at a proxy. `at` is seconds of the monotonic clock."""

    at: float
    memory: int  # bytes of its own, without what it shares with other processes
    fds: int
    tasks: int
    clients: int
    tunnels: int
    connections: int  # to endpoints and applications
    errors: int  # bugs that ended a connection
    swaps: int  # configurations put in force
    objects: int  # that the garbage collector knows; 0 where not counted


def source(kind: Kind) -> str:
    """Where an application connects from to mean this Service."""
    return f"127.1.0.{kind.value}"


def replicas(kind: Kind) -> tuple[str, str]:
    """The addresses of a Service's two pods."""
    return f"127.0.0.1{kind.value}", f"127.0.0.2{kind.value}"


def kind_of(address: str) -> Kind:
    """The Service that one of these addresses stands for."""
    return Kind(int(address[-1]))
