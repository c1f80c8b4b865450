"""One proxy of a soak in a process of its own, told by hand what destination would tell it.

`python -m tests.soak.pod client|server PLAN` prints its ports, then a sample each second. The
client's proxy gets a new configuration several times a second; both get new leaves.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import resource
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import uvloop

from mesh.core.model import (
    Backend,
    BackendPolicy,
    Balancing,
    Breaker,
    Endpoint,
    Filters,
    HeaderEdit,
    Policy,
    Retry,
    Rule,
    Service,
    Source,
    Target,
)
from mesh.core.report import Report
from proxy.server import Server
from tests.proxy.fakes import FakeDiscovery, StaticCredentials, settings
from tests.soak.plan import Kind, Plan, Sample, kind_of, replicas

NOBODY: Final = "127.0.0.1"  # at port 1
SAMPLE_SECONDS: Final = 1.0
CONNECT: Final = 10.0  # seconds: on a busy machine a handshake may take one
FAR_END: Final = 4e9  # unix seconds: of leaves' ends, as the fake credentials tell it


class Discovery(FakeDiscovery):
    """Remembers nothing of what it is told."""

    def send_report(self, report: Report) -> None:
        """Counts are cumulative: nothing to keep."""

    def connect_failed(self, address: str, authority: str, reason: str) -> None:
        """A refused endpoint is part of the load."""


class Configurations:
    """Rules, policies, filters and endpoints, drawn anew each time; each serves all requests."""

    def __init__(self, plan: Plan, discovery: Discovery) -> None:
        self._plan = plan
        self._discovery = discovery
        self._dice = random.Random(1)
        self.count = 0

    def swap(self) -> None:
        """Put another configuration in force for one Service."""
        kinds = list(Kind) if not self.count else [self._dice.choice(list(Kind))]
        for kind in kinds:
            self._discovery.update(self._target(kind), services=self._services(kind))
        self.count += 1

    def _target(self, kind: Kind) -> Target:
        dice = self._dice
        policy = Policy(
            request=dice.choice((None, 20.0)),
            idle=dice.choice((None, 15.0)),
            retry=dice.choice((None, Retry(limit=1, on_reset=True, statuses=((503, 503),)))),
        )
        edit = HeaderEdit(set=(("x-swap", str(self.count)),), remove=("x-drop",))
        filters = Filters(request=edit, response=edit) if dice.random() < 0.5 else None
        weights = dice.choice(((1, 1), (9, 1), (1, 0)))
        backends = tuple(
            Backend(authority(kind, version), weight)
            for version, weight in zip(("v1", "v2"), weights, strict=True)
        )
        is_http = kind in (Kind.HTTP1, Kind.HTTP2)
        rule = Rule(
            backends,
            source=Source("HTTPRoute", "shop", kind.name.lower()),
            policy=policy if is_http else None,
            filters=filters if is_http else None,
        )
        return Target(f"10.96.0.{kind.value}:80", authority=authority(kind, "v1"), rules=(rule,))

    def _services(self, kind: Kind) -> list[Service]:
        dice = self._dice
        found = []
        for version in ("v1", "v2"):
            chosen = dice.choice((replicas(kind)[:1], replicas(kind)[1:], replicas(kind)))
            endpoints = [
                Endpoint(
                    address,
                    self._plan.inbound,
                    identity=self._plan.peer,
                    pod=f"{kind.name.lower()}-{address[-2]}",
                    namespace="shop",
                    workload=f"deployment/{kind.name.lower()}",
                )
                for address in chosen
            ]
            if kind is Kind.HTTP1 and dice.random() < 0.3:
                endpoints.append(Endpoint(NOBODY, 1, pod="gone"))
            breaker = dice.choice((None, Breaker(50, 0.1, 0.5)))
            use = BackendPolicy(dice.choice((Balancing.EWMA, Balancing.ROUND_ROBIN)), None, breaker)
            name = f"{kind.name.lower()}-{version}"
            service = Service(authority(kind, version), "shop", name, 80, tuple(endpoints))
            found.append(service if dice.random() < 0.5 else _with(service, use))
        return found


def authority(kind: Kind, version: str) -> str:
    return f"{kind.name.lower()}-{version}.shop.svc.cluster.local:80"


def _with(service: Service, use: BackendPolicy) -> Service:
    return Service(
        service.authority, service.namespace, service.name, 80, service.endpoints, policy=use
    )


class Pod:
    """The proxy of one side, and what happens to it meanwhile."""

    def __init__(self, side: str, plan: Plan) -> None:
        self._plan = plan
        self._side = side
        self._discovery = Discovery()
        self._credentials = StaticCredentials(
            plan.identity, plan.bundle, Path(plan.leaves[0]), FAR_END
        )
        self._configurations = Configurations(plan, self._discovery)
        self.server = Server(
            settings(service_account=side, drain_timeout=5.0, connect_timeout=CONNECT),
            discovery=self._discovery,
            credentials=self._credentials,
            find_original=self._find_original,
        )

    def _find_original(self, sock: Any) -> tuple[str, int]:
        if self._side == "client":
            return f"10.96.0.{kind_of(sock.getpeername()[0]).value}", 80
        return "127.0.0.1", self._plan.applications[kind_of(sock.getsockname()[0]).name]

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.server.end)
        loop.add_reader(sys.stdin, self._orphaned)
        if self._side == "client":
            self._configurations.swap()
        await self.server.start()
        print(json.dumps(self.server.ports()), flush=True)
        timers = [loop.create_task(self._sample()), loop.create_task(self._renew())]
        if self._side == "client":
            timers.append(loop.create_task(self._swap()))
        await self.server.run()
        for timer in timers:
            timer.cancel()

    def _orphaned(self) -> None:
        """The end of what comes from the parent, which sends nothing: it is gone."""
        asyncio.get_running_loop().remove_reader(sys.stdin)
        self.server.end()

    async def _swap(self) -> None:
        while True:
            await asyncio.sleep(self._plan.swap_seconds)
            self._configurations.swap()

    async def _renew(self) -> None:
        number = 0
        while True:
            await asyncio.sleep(self._plan.renew_seconds)
            number += 1
            self._credentials.replace(Path(self._plan.leaves[number % len(self._plan.leaves)]))

    async def _sample(self) -> None:
        count = 0
        while True:
            count += 1
            print(json.dumps(asdict(self._look(count % 60 == 1))), flush=True)
            await asyncio.sleep(SAMPLE_SECONDS)

    def _look(self, with_objects: bool) -> Sample:
        server = self.server
        return Sample(
            at=time.monotonic(),
            memory=own_memory(),
            fds=len(os.listdir("/proc/self/fd")),
            tasks=len(asyncio.all_tasks()),
            clients=len(server.keeper.clients),
            tunnels=len(server.keeper.tunnels),
            connections=sum(hop.connections for hop in server.hops()),
            errors=server.path.errors,
            swaps=self._configurations.count,
            objects=len(gc.get_objects()) if with_objects else 0,
        )


def own_memory() -> int:
    """Bytes in RAM that this process shares with nobody."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        words = statm.read().split()
    return (int(words[1]) - int(words[2])) * resource.getpagesize()


async def main(side: str, path: str) -> None:
    await Pod(side, Plan.read(Path(path))).run()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(*sys.argv[1:]))
