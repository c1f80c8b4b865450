"""The life of a process: order of start and end, failures, signals."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from mesh.core.errors import ConfigError
from mesh.runtime.lifecycle import Lifecycle, Step, run_role

pytestmark = pytest.mark.anyio


def step(record: list[str], word: str) -> Step:
    async def act() -> None:
        record.append(word)

    return act


async def test_parts_start_in_order_and_end_in_reverse() -> None:
    record: list[str] = []
    life = Lifecycle()
    for name in ("a", "b"):
        life.add(
            name,
            start=step(record, f"start {name}"),
            drain=step(record, f"drain {name}"),
            stop=step(record, f"stop {name}"),
        )
    life.add("end", start=step(record, "up"))
    life.require("up", lambda: "up" in record)

    async def end_when_ready() -> None:
        assert life.waiting_for() == ["start"]
        asyncio.get_running_loop().call_soon(life.end)

    life.add("last", start=end_when_ready)

    assert await life.run() == 0
    assert record == ["start a", "start b", "up", "drain b", "drain a", "stop b", "stop a"]
    assert life.waiting_for() == ["stopping"]


async def test_a_failed_start_stops_what_had_begun_and_exits_1() -> None:
    record: list[str] = []
    life = Lifecycle()

    async def fail() -> None:
        raise ConfigError("port 1: taken")

    life.add("a", stop=step(record, "stop a"))
    life.add("b", start=fail, stop=step(record, "stop b"))
    life.add("c", start=step(record, "start c"))

    assert await life.run() == 1
    assert record == ["stop b", "stop a"]


async def test_a_part_that_ends_by_itself_ends_the_process_with_1() -> None:
    life = Lifecycle()

    async def broken() -> None:
        raise RuntimeError("bug")

    life.add("a", run=broken)

    assert await life.run() == 1


async def test_sigterm_drains_and_exits_0() -> None:
    record: list[str] = []
    life = Lifecycle()

    async def forever() -> None:
        await asyncio.Event().wait()

    async def kill() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    life.add("a", run=forever, drain=step(record, "drained"))
    life.add("b", start=kill)

    assert await life.run() == 0
    assert record == ["drained"]


async def test_a_drain_that_hangs_is_cut_at_its_deadline() -> None:
    record: list[str] = []
    life = Lifecycle(drain_seconds=0.01)

    async def hang() -> None:
        await asyncio.Event().wait()

    life.add("a", drain=hang, stop=step(record, "stopped"))
    life.end()

    assert await life.run() == 0
    assert record == ["stopped"]


def test_wrong_settings_are_printed_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> int:
        raise ConfigError(["A: expected x", "B: expected y"])

    assert run_role(main) == 1
    assert capsys.readouterr().err == "A: expected x\nB: expected y\n"
    assert "mesh.runtime.lifecycle" in sys.modules
