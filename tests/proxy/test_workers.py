"""Several processes that look like one proxy: to applications, to people and to destination."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from mesh.core.report import Counts, Series, SeriesKey
from proxy.merging import merge_answers, merge_metrics, merge_series, without_gauges
from proxy.worker import LEAF
from tests.proxy.apps import Reader, Writer, hello, read_head
from tests.proxy.world import World, free_port, on_loop, read_response
from tests.support.authority import workload

GET = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
MIB = 1024 * 1024


class Workered:
    """The processes of one proxy, whose parent is `process`."""

    def __init__(self, process: asyncio.subprocess.Process, ports: tuple[int, int, int]) -> None:
        self.process = process
        self.outbound, self.admin, self.control = ports

    def children(self) -> list[int]:
        """Pids of the first child and the workers, in the order of their birth."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(word) for word in path.read_text().split()]

    async def get(self, path: str) -> tuple[int, str]:
        """What the admin port answers."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.admin)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        status, _, body = await read_response(reader)
        writer.close()
        return status, body.decode()

    async def tell(self, what: str, **query: str) -> Any:
        """What a person's question is answered."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.control)
        writer.write(f"{what} {json.dumps(query)}\n".encode())
        answer = await reader.read()
        writer.close()
        return json.loads(answer)

    async def requests(self) -> float:
        """Requests in /metrics, all series together."""
        _, text = await self.get("/metrics")
        families = text_string_to_metric_families(text)
        samples = [sample for family in families for sample in family.samples]
        return sum(sample.value for sample in samples if sample.name == "request_total")

    async def ask(self, path: str = "/") -> int:
        """One request on a connection of its own; 0 where that was cut."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.outbound)
            writer.write(GET.replace(b"/", path.encode(), 1))
            status, _, _ = await read_response(reader)
            writer.close()
        except (ConnectionError, asyncio.IncompleteReadError):
            return 0
        return status


@contextlib.asynccontextmanager
async def workered(folder: Path, world: World, count: int) -> AsyncIterator[Workered]:
    """A client's proxy with workers before the server's pod of a world."""
    whose = workload("client")
    shutil.copy(world.chain.leaf_file(folder, whose), folder / LEAF)
    (folder / "bundle.pem").write_text(world.chain.bundle)
    outbound, admin, control = free_port(), free_port(), free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.proxy.workered", str(count), str(folder), whose.dns()),
        *(str(folder / "bundle.pem"), world.server.credentials.identity),
        *map(str, (world.server.inbound, admin, control, outbound)),
    )
    proxy = Workered(process, (outbound, admin, control))
    try:
        await until_ready(proxy)
        yield proxy
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 10)


async def until_ready(proxy: Workered) -> None:
    """All workers are there; the test's timeout bounds it."""
    while True:
        with contextlib.suppress(OSError):
            if (await proxy.get("/ready"))[0] == 200 and await proxy.ask() == 200:
                return
        await asyncio.sleep(0.02)


@on_loop
async def test_several_processes_look_like_one(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(hello)
        async with workered(tmp_path, world, 2) as proxy:
            before = await proxy.requests()
            codes = Counter([await proxy.ask() for _ in range(40)])

            assert codes == {200: 40}
            assert await proxy.requests() == before + 40
            assert len(proxy.children()) == 3
            told = await proxy.tell("endpoints")
            (backend,) = told["backends"].values()
            assert backend["endpoints"][0]["connections"] == 2  # one of each worker
            view = await proxy.tell("view")
            assert "10.96.0.10:80" in view["targets"]
            _, text = await proxy.get("/metrics")
            assert "\nmesh_workers 2\n" in text
            assert text.count("\nproxy_build_info") == 1


@on_loop
async def test_a_failed_request_is_found_whichever_worker_had_it(tmp_path: Path) -> None:
    async def fails(reader: Reader, writer: Writer) -> None:
        while b"X-Request-Id: my-" not in await read_head(reader):
            writer.write(OK)
        writer.write(b"HTTP/1.1 503 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with World(tmp_path) as world:
        await world.serve(fails)
        async with workered(tmp_path, world, 2) as proxy:
            for number in range(8):
                reader, writer = await asyncio.open_connection("127.0.0.1", proxy.outbound)
                writer.write(GET[:-2] + b"X-Request-Id: my-%d\r\n\r\n" % number)
                await read_response(reader)
                writer.close()
            found = [await proxy.tell("request", id=f"my-{number}") for number in range(8)]
            gone = await proxy.tell("request", id="nobody")

    assert [one["request"]["status"] for one in found] == [503] * 8
    assert gone == {"request": None}


@on_loop
async def test_a_killed_worker_is_replaced_and_no_counter_goes_back(tmp_path: Path) -> None:
    """Connections that come meanwhile wait for the new one."""
    async with World(tmp_path) as world:
        await world.serve(hello)
        async with workered(tmp_path, world, 2) as proxy:
            assert [await proxy.ask() for _ in range(20)] == [200] * 20
            counted = await proxy.requests()
            before = proxy.children()

            os.kill(before[-1], signal.SIGKILL)
            codes = [await proxy.ask() for _ in range(20)]
            while len(proxy.children()) != 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

            assert codes.count(200) >= 19  # the first may have met the dying one
            assert set(proxy.children()) != set(before)
            assert await proxy.requests() >= counted
            assert await proxy.ask() == 200


@on_loop
async def test_workers_finish_what_they_have_in_hand(tmp_path: Path) -> None:
    begun, released = asyncio.Event(), asyncio.Event()

    async def slow(reader: Reader, writer: Writer) -> None:
        while b"/slow" not in await read_head(reader):
            writer.write(OK)
        begun.set()
        await released.wait()
        writer.write(OK)

    async with World(tmp_path) as world:
        await world.serve(slow)
        async with workered(tmp_path, world, 2) as proxy:
            asking = asyncio.ensure_future(proxy.ask("/slow"))
            await begun.wait()
            proxy.process.terminate()
            while (await proxy.get("/ready"))[0] == 200:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            released.set()

            assert await asking == 200
            assert await proxy.process.wait() == 0


@on_loop
async def test_a_change_reaches_all_workers_and_their_counts_destination(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(hello)
        async with workered(tmp_path, world, 2) as proxy:
            version = (await proxy.tell("view"))["version"]
            await proxy.tell("update")

            assert (await proxy.tell("view"))["version"] == version + 1
            while not await proxy.tell("reports"):  # noqa: ASYNC110  told every five seconds
                await asyncio.sleep(0.1)


@on_loop
async def test_a_further_worker_costs_little_memory(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(hello)
        async with workered(tmp_path, world, 3) as proxy:
            assert [await proxy.ask() for _ in range(60)] == [200] * 60
            shares = [proportional_memory(pid) for pid in proxy.children()[1:]]

    print("PSS of each worker in MiB:", [round(share / MIB, 1) for share in shares])
    assert max(shares) <= 12 * 1000 * 1000  # about 10.4 seen, compiled 9.9


def proportional_memory(pid: int) -> int:
    """Bytes in RAM, what is shared divided by those who share it."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("Pss:"))
    return int(line.split()[1]) * 1024


def test_one_process_imports_nothing_of_all_this() -> None:
    program = (
        "import sys, proxy.__main__, proxy.server\n"
        "parts = ('workers', 'worker', 'first', 'merging')\n"
        "print([part for part in parts if 'proxy.' + part in sys.modules])"
    )

    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert said.stdout == "[]\n"


def test_counters_of_the_same_series_are_added() -> None:
    one = '# HELP a_total A.\n# TYPE a_total counter\na_total{x="1"} 2\na_total{x="2"} 1\n'
    two = '# HELP a_total A.\n# TYPE a_total counter\na_total{x="1"} 3\n# TYPE b gauge\nb 0.5\n'

    merged = merge_metrics([one, two])

    assert merged.splitlines() == [
        "# HELP a_total A.",
        "# TYPE a_total counter",
        'a_total{x="1"} 5',
        'a_total{x="2"} 1',
        "# TYPE b gauge",
        "b 0.5",
    ]


def test_a_worker_that_died_holds_no_connection() -> None:
    text = "# TYPE tcp_open_connections gauge\ntcp_open_connections 3\ntcp_open_total 5\n"

    assert without_gauges(text) == "tcp_open_total 5\n"


def test_reports_of_workers_are_one_report() -> None:
    key = SeriesKey(direction="outbound", kind="http", apex="web")

    (series,) = merge_series([Series(key, Counts(requests=2)), Series(key, Counts(requests=3))])

    assert series.counts.requests == 5


def test_a_request_is_told_by_the_worker_that_had_it() -> None:
    answers = ['{"request": null}', '{"request": {"id": "a"}}']

    assert json.loads(merge_answers("request", answers)) == {"request": {"id": "a"}}
