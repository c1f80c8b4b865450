"""Memory that a peak leaves behind goes back to the system."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from proxy.datapath import GIVE_BACK_INTERVAL
from proxy.memory import resident_bytes
from tests.proxy.world import World, on_loop

MIB = 1 << 20
BLOCK = 4096


def leave_a_peak(blocks: int = 20_000) -> list[bytearray]:
    """Take 80 MiB of the C heap; what is given keeps one block of a hundred."""
    taken = [bytearray(BLOCK) for _ in range(blocks)]
    return taken[::100]


def test_free_pages_between_blocks_that_stay_are_given_back() -> None:
    code = """
from proxy.memory import give_back, resident_bytes
from tests.proxy.test_memory import leave_a_peak
kept = leave_a_peak()
before = resident_bytes()
give_back()
print(before - resident_bytes())
"""
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert int(said.stdout) > 60 * MIB


@on_loop
async def test_a_proxy_gives_back_once_in_an_interval(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        path = world.client.server.path
        later = 1e9
        path.tick(later)
        kept = leave_a_peak()
        before = resident_bytes()
        path.tick(later + GIVE_BACK_INTERVAL - 1.0)
        early = resident_bytes()
        path.tick(later + GIVE_BACK_INTERVAL)
        after = resident_bytes()

    assert len(kept) == 200
    assert before - early < 10 * MIB
    assert early - after > 60 * MIB
