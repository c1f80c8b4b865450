"""A proxy in a memory cgroup that fills up, and then does not: what do clients see?

`python -m tests.proxy.pressure FOLDER`: FOLDER is a cgroup with a limit, of version 1 or 2. Prints
what a request was answered before, while memory is short and after, and the seconds until then.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from proxy.memory import memory_limit, resident_bytes
from proxy.pace import SHED_AT
from tests.proxy.apps import hello
from tests.proxy.world import World, request

GET = b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"
STEP = 1024 * 1024


def enter(folder: Path) -> None:
    """Start this program anew inside the cgroup, where it looks like the only one."""
    (folder / "cgroup.procs").write_text(str(os.getpid()))
    top = Path("/sys/fs/cgroup")
    seen = top / "memory" if (top / "memory").is_dir() else top
    script = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
    again = [sys.executable, "-m", "tests.proxy.pressure"]
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(folder), str(seen), *again]
    sys.exit(subprocess.run(command).returncode)


async def until(world: World, wanted: int) -> float:
    """Seconds until a request is answered so."""
    began = time.monotonic()
    while (await request(world.client, GET))[0] != wanted:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    return time.monotonic() - began


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with World(Path(folder)) as world:
            await world.serve(hello)
            world.route()
            before, _, _ = await request(world.client, GET)
            ballast = []
            while resident_bytes() < memory_limit() * (SHED_AT + 0.02):
                ballast.append(b"x" * STEP)
            shed = await until(world, 503)
            _, headers, _ = await request(world.client, GET)
            ballast.clear()
            print(before, headers["mesh-reason"], f"{shed:.2f} {await until(world, 200):.2f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        enter(Path(sys.argv[1]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
