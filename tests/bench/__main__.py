"""`python -m tests.bench`: peers and us in one run, interleaved, CPU per unit of work.

The ratio inside a run is the result, not the time: the machine is shared. A row with errors is
void. What is measured of ours is what the wheel has, compiled; `--pure` measures the sources.
`--short` only checks that everything works. Writes a table, a plot and JSON to `results/`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench import peers
from tests.bench.load import Sink, measure_latency, run_bulk, run_h2load, run_wrk
from tests.bench.ours import start_ours
from tests.bench.plot import plot
from tests.bench.processes import Proxy, running
from tests.bench.start import start_times
from tests.bench.trust import Files, make_files
from tests.cluster.cache import BuildError
from tests.support import compiled
from tests.support.authority import TrustChain

RESULTS = Path(__file__).parent / "results"
OURS = "lightmesh"


class Bench:
    """One run: what was started, what was measured."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder = folder
        self.options = options
        chain = TrustChain()
        self.client: Files = make_files(folder, "client", chain)
        self.server: Files = make_files(folder, "web", chain)
        self.rows: list[dict[str, Any]] = []

    def requests(self, case: str, contenders: list[Proxy], connections: int) -> None:
        """Rounds of wrk over all contenders in turn."""

        def once(proxy: Proxy) -> tuple[float, float, int]:
            cost = run_wrk(proxy, connections=connections, seconds=self.options.seconds)
            return cost.cpu, cost.rate, cost.errors

        self._rounds(case, "CPU us/request", contenders, once)

    def calls(self, case: str, contenders: list[Proxy], streams: int) -> None:
        """Rounds of h2load over all contenders in turn."""
        body = self.folder / "message"
        body.write_bytes(bytes(64))

        def once(proxy: Proxy) -> tuple[float, float, int]:
            seconds = self.options.seconds
            cost = run_h2load(proxy, streams=streams, seconds=seconds, body=body)
            return cost.cpu, cost.rate, cost.errors

        self._rounds(case, "CPU us/call", contenders, once)

    def bulk(self, case: str, contenders: list[Proxy], sink: Sink) -> None:
        """Rounds of bulk transfer over all contenders in turn."""

        def once(proxy: Proxy) -> tuple[float, float, int]:
            cost = run_bulk(proxy, sink, streams=2, seconds=self.options.seconds)
            return cost.cpu, cost.rate, cost.errors

        self._rounds(case, "CPU s/GiB", contenders, once)

    def latency(self, case: str, contenders: list[tuple[str, int]]) -> None:
        """Rounds of a steady rate over all contenders in turn."""
        found: dict[str, list[tuple[float, float]]] = {name: [] for name, _ in contenders}
        for _ in range(self.options.rounds):
            for name, port in contenders:
                taken = measure_latency(
                    port, rate=800, connections=16, seconds=self.options.seconds
                )
                found[name].append((taken.p50, taken.p99))
        for name, values in found.items():
            self._row(case, "p50 ms", name, [p50 for p50, _ in values])
            self._row(case, "p99 ms", name, [p99 for _, p99 in values])

    def _rounds(
        self,
        case: str,
        unit: str,
        contenders: list[Proxy],
        once: Callable[[Proxy], tuple[float, float, int]],
    ) -> None:
        found: dict[str, list[tuple[float, float, int]]] = {p.name: [] for p in contenders}
        for _ in range(self.options.rounds + 1):
            for proxy in contenders:
                found[proxy.name].append(once(proxy))
        for name, values in found.items():
            values = values[1:]  # the first round warms up
            errors = sum(v[2] for v in values)
            rate = statistics.median(v[1] for v in values)
            self._row(case, unit, name, [v[0] for v in values], rate=rate, errors=errors)

    def _row(
        self,
        case: str,
        unit: str,
        name: str,
        values: list[float],
        *,
        rate: float | None = None,
        errors: int = 0,
    ) -> None:
        row = {
            "case": case,
            "unit": unit,
            "who": name,
            "median": statistics.median(values),
            "least": min(values),
            "most": max(values),
            "rate": rate,
            "errors": errors,
        }
        self.rows.append(row)
        print(_line(row), flush=True)


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All cases that were asked for."""
    with tempfile.TemporaryDirectory(prefix="lightmesh-bench-") as name:
        folder = Path(name)
        bench = Bench(folder, options)
        backend = peers.start_backend(folder)
        with running(backend):
            if "plain" in options.cases:
                _plain(bench, backend)
            if "pair" in options.cases:
                _pair(bench, backend)
            if "grpc" in options.cases:
                _grpc(bench)
            if "latency" in options.cases:
                _latency(bench, backend)
            if "bulk" in options.cases:
                _bulk(bench)
        if "start" in options.cases:
            for who, values in start_times(folder, options.rounds).items():
                bench._row("start to listening", "ms", who, values)
        if "micro" in options.cases:
            for head, value in _micro(100 if options.short else 2000).items():
                bench._row("request path in memory", "us", head, [value])
        return bench.rows


def _micro(batches: int) -> dict[str, float]:
    """In a process of its own, that imports what the others import."""
    command = [sys.executable, "-m", "tests.bench.micro", "--json", str(batches)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _plain(bench: Bench, backend: Proxy) -> None:
    contenders = [
        peers.start_envoy(bench.folder, backend.port),
        peers.start_nginx(bench.folder, backend.port),
        peers.start_haproxy(bench.folder, backend.port),
        start_ours(bench.folder, backend.port, files=bench.client),
    ]
    with running(*contenders):
        for proxy in contenders:
            bench._row("memory, idle", "MiB", proxy.name, [proxy.memory() / 2**20])
        bench.requests("HTTP/1.1 plaintext, one hop, c32", contenders, 32)
        for proxy in contenders:
            bench._row("memory, loaded", "MiB", proxy.name, [proxy.memory() / 2**20])


def _pairs(bench: Bench, backend: Proxy) -> list[Proxy]:
    folder, port = bench.folder, backend.port
    h1 = peers.start_envoy(folder, port, files=bench.server, h2=False)
    h1.name = "envoy h1"
    return [
        peers.start_envoy(folder, port, files=bench.server),
        h1,
        peers.start_haproxy(folder, port, files=bench.server),
        start_ours(folder, port, files=bench.client, server_files=bench.server),
    ]


def _pair(bench: Bench, backend: Proxy) -> None:
    contenders = _pairs(bench, backend)
    with running(*contenders):
        bench.requests("HTTP/1.1, two proxies, mutual TLS, c32", contenders, 32)
        bench.requests("HTTP/1.1, two proxies, mutual TLS, c1", contenders, 1)
        for proxy in contenders:
            bench._row("memory, pair, loaded", "MiB", proxy.name, [proxy.memory() / 2**20])


def _grpc(bench: Bench) -> None:
    folder = bench.folder
    backend = peers.start_grpc_backend(folder)
    with running(backend):
        contenders = [
            peers.start_envoy(folder, backend.port, grpc=True),
            peers.start_haproxy(folder, backend.port, grpc=True),
            start_ours(folder, backend.port, files=bench.client),
        ]
        with running(*contenders):
            bench.calls("gRPC, one hop, 32 streams", contenders, 32)
            bench.calls("gRPC, one hop, 1 stream", contenders, 1)


def _latency(bench: Bench, backend: Proxy) -> None:
    contenders = _pairs(bench, backend)
    with running(*contenders):
        named = [("direct", backend.port), *((p.name, p.port) for p in contenders)]
        bench.latency("800 requests/s, two proxies, mutual TLS", named)


def _bulk(bench: Bench) -> None:
    sink = Sink()
    contenders = [
        peers.start_envoy(bench.folder, sink.port, tcp=True),
        peers.start_haproxy(bench.folder, sink.port, tcp=True),
        start_ours(bench.folder, sink.port, files=bench.client, opaque=True),
    ]
    with running(*contenders):
        bench.bulk("opaque TCP in bulk, one hop", contenders, sink)
    sink.close()


def _line(row: dict[str, Any]) -> str:
    rate = f"{row['rate']:10.0f}/s" if row["rate"] is not None else " " * 12
    errors = f"  ERRORS {row['errors']}: void" if row["errors"] else ""
    return (
        f"{row['case']:42} {row['who']:12} {row['median']:9.2f} "
        f"({row['least']:.2f}-{row['most']:.2f}) {row['unit']:15}{rate}{errors}"
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: one line a row, with the ratio to each peer of the same case."""
    out = [
        "| case | who | median | min-max | unit | lightmesh / this |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        same = [r for r in rows if (r["case"], r["unit"]) == (row["case"], row["unit"])]
        ours = next((r["median"] for r in same if r["who"] == OURS), None)
        ratio = f"{ours / row['median']:.2f}" if ours and row["who"] != OURS else ""
        void = " void" if row["errors"] else ""
        out.append(
            f"| {row['case']} | {row['who']} | {row['median']:.2f}{void} "
            f"| {row['least']:.2f}-{row['most']:.2f} | {row['unit']} | {ratio} |"
        )
    return "\n".join(out) + "\n"


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": os.getloadavg(),
        "command": "python -m tests.bench " + " ".join(sys.argv[1:]),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def main() -> int:
    """Parse, run, write."""
    every = ["plain", "pair", "grpc", "latency", "bulk", "start", "micro"]
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("cases", nargs="*", default=every, help=f"of {', '.join(every)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of each round")
    parser.add_argument("--short", action="store_true", help="only check that it works")
    parser.add_argument("--pure", action="store_true", help="our sources as they are")
    options = parser.parse_args()
    if options.short:
        options.rounds, options.seconds = 1, 1
    if missing := peers.missing():
        print(f"not installed: {', '.join(missing)}; apt-get install them", file=sys.stderr)
        return 1
    if not options.pure:
        try:
            os.environ |= compiled.environment()
        except BuildError as error:
            print(error, file=sys.stderr)
            return 1
    rows = run(options)
    if failed := [row for row in rows if row["errors"] and row["who"] == OURS]:
        print(f"errors in our own rows: {failed}", file=sys.stderr)
        return 1
    if not options.short:
        RESULTS.mkdir(exist_ok=True)
        found = machine()
        (RESULTS / "latest.json").write_text(json.dumps({"machine": found, "rows": rows}, indent=1))
        head = "\n".join(f"- {key}: {value}" for key, value in found.items())
        (RESULTS / "latest.md").write_text(f"{head}\n\n{table(rows)}")
        (RESULTS / "latest.svg").write_text(plot(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
