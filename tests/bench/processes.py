"""Child processes of a benchmark: free ports, start, wait for listening, CPU and memory."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    """A port of loopback on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@dataclass
class Proxy:
    """One contender: its processes, and where a client connects."""

    name: str
    port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def cpu_seconds(self) -> float:
        """User and system time of all its processes, children included."""
        return sum(_cpu(pid) for pid in self.pids())

    def memory(self) -> int:
        """Resident bytes of all its processes."""
        return sum(_resident(pid) for pid in self.pids())

    def pids(self) -> list[int]:
        found = []
        for process in self.processes:
            found += [process.pid, *_children(process.pid)]
        return found

    def stop(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def start(command: Sequence[str | Path], folder: Path, **more: str) -> subprocess.Popen[bytes]:
    """Start a child whose output goes to a file in `folder`."""
    name = Path(command[0]).name
    with (folder / f"{name}-{time.monotonic_ns()}.log").open("wb") as log:
        return subprocess.Popen(
            [str(word) for word in command],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **more},
        )


def wait_for(port: int, process: subprocess.Popen[bytes], seconds: float = 20.0) -> float:
    """Wait until somebody listens on `port`; gives the seconds that took."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            time.sleep(0.002)
        else:
            return time.monotonic() - began
    raise RuntimeError(f"{process.args!r} does not listen on {port} after {seconds} s")


@contextlib.contextmanager
def running(*proxies: Proxy) -> Iterator[None]:
    """Stop all of them at the end, whatever happens."""
    try:
        yield
    finally:
        for proxy in proxies:
            proxy.stop()


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICK


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]
