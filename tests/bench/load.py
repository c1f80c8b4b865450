"""Load and what it cost: wrk for requests, a pair of sockets for bulk, a clock for latency."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import statistics
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import uvloop

from tests.bench.peers import find
from tests.bench.processes import Proxy


@dataclass(frozen=True)
class Cost:
    """What one round of load gave. `cpu` is microseconds a request, or seconds a GiB."""

    cpu: float
    rate: float  # requests or MiB a second
    errors: int = 0


def run_wrk(proxy: Proxy, *, connections: int, seconds: int) -> Cost:
    """Keep-alive GETs as fast as they go."""
    before = proxy.cpu_seconds()
    output = subprocess.run(
        [
            str(find("wrk")),
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            f"http://127.0.0.1:{proxy.port}/",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    spent = proxy.cpu_seconds() - before
    found = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m)", output)
    if found is None:
        raise RuntimeError(f"wrk said: {output}")
    requests = int(found[1])
    unit = {"ms": 0.001, "s": 1.0, "m": 60.0}[found[3]]
    errors = sum(int(n) for n in re.findall(r"Non-2xx or 3xx responses: (\d+)", output))
    errors += sum(int(n) for n in re.findall(r"(?:connect|read|write|timeout) (\d+)", output))
    return Cost(spent / max(requests, 1) * 1e6, requests / (float(found[2]) * unit), errors)


def run_h2load(proxy: Proxy, *, streams: int, seconds: int, body: Path) -> Cost:
    """Calls on one HTTP/2 connection, so many at a time, as fast as they go."""
    before = proxy.cpu_seconds()
    output = subprocess.run(
        [
            *(str(find("h2load")), "-c1", f"-m{streams}", f"-D{seconds}", "-d", str(body)),
            f"http://127.0.0.1:{proxy.port}/call",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    spent = proxy.cpu_seconds() - before
    found = re.search(r"(\d+) succeeded, (\d+) failed", output)
    statuses = re.search(r"(\d+) 2xx", output)
    if found is None or statuses is None:
        raise RuntimeError(f"h2load said: {output}")
    calls = int(statuses[1])
    return Cost(spent / max(calls, 1) * 1e6, calls / seconds, int(found[1]) - calls)


class Sink:
    """Takes bytes and throws them away."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self.taken = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._take, args=(connection,), daemon=True).start()

    def _take(self, connection: socket.socket) -> None:
        buffer = bytearray(1 << 20)
        with connection, contextlib.suppress(OSError):
            while size := connection.recv_into(buffer):
                self.taken += size


def run_bulk(proxy: Proxy, sink: Sink, *, streams: int, seconds: float) -> Cost:
    """Send zeros through a proxy into a sink on several connections."""
    block = bytes(1 << 18)
    stop = time.monotonic() + seconds
    connections = [socket.create_connection(("127.0.0.1", proxy.port)) for _ in range(streams)]
    for connection in connections:
        connection.sendall(b"\x00" * 1024)
    time.sleep(0.2)
    taken, before, began = sink.taken, proxy.cpu_seconds(), time.monotonic()

    def send(connection: socket.socket) -> None:
        while time.monotonic() < stop:
            connection.sendall(block)

    senders = [threading.Thread(target=send, args=(c,)) for c in connections]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    elapsed = time.monotonic() - began
    moved = sink.taken - taken
    spent = proxy.cpu_seconds() - before
    for connection in connections:
        connection.close()
    return Cost(spent / max(moved, 1) * 2**30, moved / 2**20 / elapsed)


@dataclass(frozen=True)
class Latency:
    """Milliseconds."""

    p50: float
    p99: float


def measure_latency(port: int, *, rate: int, connections: int, seconds: float) -> Latency:
    """GETs at a steady rate; each is timed from when it was due, so queueing counts."""

    async def one(loop: asyncio.AbstractEventLoop, first: float, gap: float) -> list[float]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        taken = []
        due = first
        while due < first + seconds:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            began = time.monotonic()
            writer.write(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(size)
            taken.append(time.monotonic() - began)
            due = max(due + gap, began)
        writer.close()
        return taken

    async def all_of_them() -> list[float]:
        loop = asyncio.get_running_loop()
        gap = connections / rate
        now = time.monotonic() + 0.1
        parts = await asyncio.gather(
            *(one(loop, now + gap * i / connections, gap) for i in range(connections))
        )
        return [value for part in parts for value in part[len(part) // 10 :]]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        taken = sorted(runner.run(all_of_them()))
    quantiles = statistics.quantiles(taken, n=100)
    return Latency(quantiles[49] * 1000, quantiles[98] * 1000)


def cores() -> int:
    return os.cpu_count() or 1
