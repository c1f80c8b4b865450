"""A client's proxy with workers in processes of its own, as `python -m proxy` makes them.

`python -m tests.proxy.workered WORKERS FOLDER IDENTITY BUNDLE PEER PORT ADMIN CONTROL OUTBOUND`:
the Service is served by PEER at PORT. A line `WHAT {QUERY}` to the port CONTROL is answered as
destination is when a person asks; `update` instead swaps the configuration.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mesh.core.model import Backend, Endpoint, Rule, Service, Source, Target
from proxy import first, worker, workers
from proxy.server import live
from proxy.settings import Settings
from tests.proxy.fakes import CLUSTER_IP, WEB, FakeDiscovery, StaticCredentials, settings

_, COUNT, FOLDER, IDENTITY, BUNDLE, PEER, PORT, ADMIN, CONTROL, OUTBOUND = sys.argv
ANCHORS = Path(BUNDLE).read_text()


def configure(discovery: FakeDiscovery) -> None:
    rule = Rule((Backend(WEB),), source=Source("Service", "shop", "web"))
    endpoint = Endpoint("127.0.0.1", int(PORT), identity=PEER, pod="web-1", namespace="shop")
    discovery.update(
        Target(CLUSTER_IP, authority=WEB, rules=(rule,)),
        services=[Service(WEB, "shop", "web", 80, (endpoint,))],
    )


async def be_first(given: Settings, environ: Mapping[str, str], boss: socket.socket) -> int:
    discovery = FakeDiscovery()
    leaf = Path(FOLDER) / worker.LEAF
    credentials = StaticCredentials(IDENTITY, ANCHORS, leaf, 4e9)
    one = first.First(given, discovery=discovery, credentials=credentials, boss=boss)

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        what, _, query = (await reader.readline()).decode().partition(" ")
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if what == "update":
            configure(discovery)
            answer.set_result("{}")
        elif what == "reports":
            one.report()
            series = discovery.reports[-1].series
            answer.set_result(json.dumps(sum(s.counts.requests for s in series)))
        else:
            discovery.ask(what, json.loads(query), answer.set_result)
        writer.write((await answer).encode())
        writer.close()

    configure(discovery)
    await one.start()
    server = await asyncio.start_server(control, "127.0.0.1", int(CONTROL))
    await live(one, server.serve_forever())
    server.close()
    return 0


async def be_worker(
    given: Settings,
    link: socket.socket,
    outbound: Sequence[socket.socket],
    inbound: Sequence[socket.socket],
) -> int:
    def original(sock: Any) -> tuple[str, int]:
        return CLUSTER_IP.partition(":")[0], 80

    return await worker.run(given, link, outbound, inbound, find_original=original)


if __name__ == "__main__":
    sys.exit(
        workers.run(
            settings(
                workers=int(COUNT),
                service_account="client",
                key_dir=FOLDER,
                admin_port=int(ADMIN),
                outbound_port=int(OUTBOUND),
            ),
            {},
            be_first=be_first,
            be_worker=be_worker,
        )
    )
