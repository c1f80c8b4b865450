"""Our own contender: real proxies in processes of their own, with a view written by hand.

There is no redirect here: each process is told where its connections were meant to go.
`python -m tests.bench.ours outbound|inbound PORT TO IDENTITY LEAF BUNDLE [PEER]`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bench.processes import Proxy
    from tests.bench.trust import Files


def start_ours(
    folder: Path,
    backend: int,
    *,
    files: Files,
    server_files: Files | None = None,
    opaque: bool = False,
) -> Proxy:
    """One hop in plaintext, or with `server_files` a pair with mutual TLS between."""
    from tests.bench.processes import Proxy, free_port, start, wait_for

    port = free_port()
    command = [sys.executable, "-m", "tests.bench.ours"]
    words = ["opaque" if opaque else "http"]
    processes = []
    to = backend
    if server_files is not None:
        between = free_port()
        inbound = [str(between), str(backend), server_files.identity, server_files.leaf]
        processes.append(
            start([*command, "inbound", *map(str, inbound), server_files.bundle, *words], folder)
        )
        wait_for(between, processes[0])
        to = between
        words.append(server_files.identity)
    outbound = [str(port), str(to), files.identity, str(files.leaf), str(files.bundle)]
    processes.append(start([*command, "outbound", *outbound, *words], folder))
    wait_for(port, processes[-1])
    return Proxy("lightmesh", port, processes)


async def _serve(arguments: list[str], bundle: str) -> None:
    from mesh.core.model import Backend, Endpoint, Protocol, Rule, Service, Source, Target
    from proxy.server import Server
    from tests.proxy.fakes import CLUSTER_IP, WEB, FakeDiscovery, StaticCredentials, settings

    direction, port, to, identity, leaf, _, kind, *peer = arguments
    discovery = FakeDiscovery()
    credentials = StaticCredentials(identity, bundle, leaf, 4e9)
    ports = {f"{direction}_port": int(port)}
    original: Any = ("127.0.0.1", int(to))
    if direction == "outbound":
        original = (CLUSTER_IP.partition(":")[0], 80)
        endpoint = Endpoint("127.0.0.1", int(to), identity=peer[0] if peer else "", pod="web-1")
        rule = Rule((Backend(WEB),), source=Source("Service", "shop", "web"))
        protocol = Protocol.OPAQUE if kind == "opaque" else Protocol.DETECT
        discovery.update(
            Target(CLUSTER_IP, protocol=protocol, authority=WEB, rules=(rule,)),
            services=[Service(WEB, "shop", "web", 80, (endpoint,))],
        )
    server = Server(
        settings(**ports),
        discovery=discovery,
        credentials=credentials,
        find_original=lambda sock: original,
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.end)
    await server.start()
    await server.run()


def main() -> None:
    """Be one proxy until SIGTERM."""
    sys.modules.setdefault("typing_extensions", None)  # type: ignore[arg-type]
    import uvloop

    with open(sys.argv[6]) as file:
        bundle = file.read()

    with (
        contextlib.suppress(KeyboardInterrupt),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_serve(sys.argv[1:], bundle))


if __name__ == "__main__":
    main()
