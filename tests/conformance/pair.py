"""Two proxies with mutual TLS in a process of their own, before an HTTP/2 application.

`python -m tests.conformance.pair PORT` prints the ports of the outbound and the inbound side,
then serves until it is ended. `running(PORT)` does both for a test.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvloop

from mesh.core.model import Inbound, InboundPort, Protocol
from tests.proxy.world import World


@dataclass(frozen=True)
class Ports:
    """Where an application of the client's pod connects, and an unmeshed client of the server's."""

    outbound: int
    inbound: int


@contextlib.contextmanager
def started(*command: str) -> Iterator[str]:
    """A process, with the first line it prints; ended afterwards."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, f"{command[0]} ended with {process.wait()}"
        yield line
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def running(port: int, protocol: Protocol = Protocol.HTTP2) -> Iterator[Ports]:
    """Two proxies before the application at `port`, whose Service declares `protocol`."""
    command = (sys.executable, "-m", "tests.conformance.pair", str(port), protocol.value)
    with started(*command) as line:
        yield Ports(*map(int, line.split()))


async def _serve(port: int, protocol: Protocol) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    with tempfile.TemporaryDirectory() as folder:
        async with World(Path(folder)) as world:
            world.server.application = ("127.0.0.1", port)
            world.route(protocol=protocol)
            declared = Inbound(ports=(InboundPort(port, protocol),))
            world.server.discovery.update(inbound=declared)
            print(world.client.outbound, world.server.inbound, flush=True)
            await ended.wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1]), Protocol(sys.argv[2])))
