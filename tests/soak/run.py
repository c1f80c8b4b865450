"""A soak from start to end: two proxies, applications, load; then rest, and what is left."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mesh.runtime import tls
from tests.soak.apps import Applications
from tests.soak.figures import Verdict, judge
from tests.soak.load import Load
from tests.soak.plan import Plan, Sample
from tests.support.authority import TrustChain, workload

LEAVES: Final = 4
REST_SECONDS: Final = 90.0  # our own inbound keeps idle connections for 60
LONG: Final = 600.0  # seconds: then memory is judged, and idle connections have to end
READ_LIMIT: Final = 1 << 20


@dataclass(frozen=True)
class Options:
    """How long and how hard."""

    seconds: float
    workers: int = 4  # of each action
    pause: float = 0.3  # mean seconds between two actions of a worker
    renew_seconds: float = 20.0
    swap_seconds: float = 0.2


@dataclass(frozen=True)
class Result:
    """What came of it. `words` are the clients' outcomes."""

    words: Counter[str]
    verdicts: dict[str, Verdict]

    @property
    def problems(self) -> list[str]:
        found = [f"{word[1:]}: {n}" for word, n in self.words.items() if word.startswith("!")]
        for side, verdict in self.verdicts.items():
            found += [f"{side}: {problem}" for problem in verdict.problems]
        return found


@dataclass
class Watched:
    """A proxy's process and its samples."""

    process: asyncio.subprocess.Process
    ports: tuple[int, int, int]
    samples: list[Sample] = field(default_factory=list)

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.samples.append(Sample(**json.loads(line)))

    async def wait_for_rest(self, *, is_long: bool) -> Sample:
        """The first sample without a tunnel, and after a long soak without any connection; else
        the last one in time."""
        async with asyncio.timeout(REST_SECONDS + 10.0):
            count = len(self.samples)
            began = self.samples[-1].at
            while True:
                await asyncio.sleep(0.1)
                if len(self.samples) == count:
                    continue
                count, last = len(self.samples), self.samples[-1]
                kept = last.clients + last.connections if is_long else 0
                if not (kept or last.tunnels) or last.at - began > REST_SECONDS:
                    return last


async def soak(options: Options) -> Result:
    """Run it all; raises when a proxy does not start."""
    with tempfile.TemporaryDirectory() as folder:
        return await _soak(options, Path(folder))


async def _soak(options: Options, folder: Path) -> Result:
    chain = TrustChain()
    own = chain.leaf_file(folder, workload("own"))
    applications = Applications(tls.server_context(chain.bundle, own, require_client=False))
    await applications.start()
    server = await _start("server", _plan(options, chain, folder, applications, 0), folder)
    client = await _start(
        "client", _plan(options, chain, folder, applications, server.ports[1]), folder
    )
    sides = {"client": client, "server": server}
    readers = [asyncio.ensure_future(side.read()) for side in sides.values()]
    load = Load(
        client.ports[0],
        tls.client_context(chain.bundle, None),
        workers=options.workers,
        pause=options.pause,
    )
    try:
        await asyncio.sleep(2.0)  # the first samples are of proxies at rest
        load.start()
        await asyncio.sleep(options.seconds)
        under_load = {name: list(side.samples) for name, side in sides.items()}
        await load.stop()
        is_long = options.seconds >= LONG
        rest = {name: await side.wait_for_rest(is_long=is_long) for name, side in sides.items()}
    finally:
        await load.stop()
        for side in sides.values():
            side.process.send_signal(signal.SIGTERM)
            await side.process.wait()
        for reader in readers:
            reader.cancel()
        applications.close()
    verdicts = {name: judge(under_load[name], rest[name], is_long=is_long) for name in sides}
    return Result(load.words, verdicts)


def _plan(
    options: Options, chain: TrustChain, folder: Path, applications: Applications, inbound: int
) -> Plan:
    account = "client" if inbound else "web"
    whose = workload(account)
    return Plan(
        bundle=chain.bundle,
        identity=whose.dns(),
        peer=workload("web").dns(),
        leaves=[str(chain.leaf_file(folder, whose)) for _ in range(LEAVES)],
        applications=applications.ports,
        inbound=inbound,
        renew_seconds=options.renew_seconds,
        swap_seconds=options.swap_seconds,
    )


async def _start(side: str, plan: Plan, folder: Path) -> Watched:
    path = plan.write(folder / f"{side}.json")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.soak.pod", side, str(path)),
        stdin=asyncio.subprocess.PIPE,  # its end tells that we are gone
        stdout=asyncio.subprocess.PIPE,
        limit=READ_LIMIT,
    )
    assert process.stdout is not None
    line = await process.stdout.readline()
    assert line, f"{side} ended with {await process.wait()}"
    first, second, third = json.loads(line)
    return Watched(process, (first, second, third))
