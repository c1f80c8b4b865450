"""What clients cost that begin a request and never end it.

`python -m tests.proxy.half_heads inbound|outbound COUNT` prints the bytes of memory that a proxy
takes for so many of them.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import uvloop

from proxy.memory import resident_bytes
from tests.proxy.apps import hello
from tests.proxy.world import World

HOLDER = """
import socket, sys
held = []
for _ in range(int(sys.argv[2])):
    held.append(socket.create_connection(("127.0.0.1", int(sys.argv[1]))))
    held[-1].sendall(b"GET / HTTP/1.1\\r\\nHost: web\\r\\nUser-Agent: slow\\r\\n")
sys.stdin.read()
"""


async def main(side: str, count: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with World(Path(folder)) as world:
            await world.serve(hello)
            world.route()
            pod = world.server if side == "inbound" else world.client
            clients = pod.server.keeper.clients
            before = resident_bytes()
            holder = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", HOLDER, str(getattr(pod, side)), count),
                stdin=asyncio.subprocess.PIPE,
            )
            while len(clients) < int(count):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            print(resident_bytes() - before)
            await holder.communicate(b"\n")


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(*sys.argv[1:]))
