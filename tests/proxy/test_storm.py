"""Three tiers, the last of which fails altogether: retries do not multiply."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mesh.core.model import (
    Backend,
    Budget,
    Endpoint,
    Policy,
    Retry,
    Rule,
    Service,
    Source,
    Target,
)
from proxy.budget import RetryBudget
from tests.proxy.apps import Handler, Reader, Writer, read_head
from tests.proxy.fakes import CLUSTER_IP, WEB
from tests.proxy.routing import App, status
from tests.proxy.world import Pod, make_pod, on_loop, on_loop_for, read_response
from tests.support.authority import TrustChain

EAGER = Policy(retry=Retry(limit=5, statuses=((500, 599),), backoff=0.001, max_backoff=0.01))


def test_three_budgets_in_a_row_add_less_than_a_fifth() -> None:
    """Deterministic: 200 requests a second for a minute, everything fails from the start."""
    tiers = [RetryBudget(0.0) for _ in range(3)]
    arrived = [0, 0, 0, 0]

    def ask(tier: int, now: float) -> None:
        arrived[tier] += 1
        if tier == 3:
            return
        ask(tier + 1, now)
        for _ in range(3):
            if not tiers[tier].withdraw(now):
                break
            ask(tier + 1, now)

    at_ten: list[int] = []
    for step in range(60 * 200):
        if step == 10 * 200:
            at_ten = arrived[:]
        ask(0, step / 200)

    late = [after - before for after, before in zip(arrived, at_ten, strict=True)]
    assert late[3] <= 1.2 * late[0]


class Tiers:
    """front -> middle -> back, each behind a proxy; the back fails."""

    def __init__(self, folder: Path, budget: Budget) -> None:
        chain = TrustChain()
        self.pods = [make_pod(chain, folder, name) for name in ("front", "middle", "back")]
        self.back = App(lambda n: status(500))
        self.middle = 0
        self._budget = budget
        self._servers: list[asyncio.AbstractServer] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        for pod in self.pods:
            await pod.start()
        for pod, app in ((self.pods[1], self._forward), (self.pods[2], self.back)):
            server = await asyncio.start_server(self._guarded(app), "127.0.0.1", 0)
            self._servers.append(server)
            pod.application = ("127.0.0.1", server.sockets[0].getsockname()[1])
        for client, server_pod in zip(self.pods, self.pods[1:], strict=False):
            self._route(client, server_pod)

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        for pod in self.pods:
            await pod.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _guarded(self, app: Handler) -> Handler:
        async def handle(reader: Reader, writer: Writer) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                await app(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                pass
            finally:
                self._tasks.discard(task)
                writer.transport.abort()

        return handle

    async def _forward(self, reader: Reader, writer: Writer) -> None:
        """The application of the middle tier: asks the back for each request, and passes on
        what it says."""
        there, back = await self.pods[1].connect()
        try:
            while True:
                await read_head(reader)
                self.middle += 1
                back.write(b"GET / HTTP/1.1\r\nHost: back\r\n\r\n")
                code, _, _ = await read_response(there)
                writer.write(status(code))
        finally:
            back.transport.abort()

    def _route(self, client: Pod, server: Pod) -> None:
        end = Endpoint("127.0.0.1", server.inbound, identity=server.credentials.identity, pod="p")
        rule = Rule((Backend(WEB),), source=Source("HTTPRoute", "shop", "web"), policy=EAGER)
        client.discovery.update(
            Target(CLUSTER_IP, authority=WEB, rules=(rule,), budget=self._budget),
            services=[Service(WEB, "shop", "web", 80, (end,))],
        )

    async def load(self, *, rate: int, seconds: float) -> int:
        """Requests of the front at a steady rate; how many."""
        loop = asyncio.get_running_loop()
        connections = [await self.pods[0].connect() for _ in range(8)]
        began = loop.time()
        count = 0

        async def ask(number: int) -> None:
            nonlocal count
            reader, writer = connections[number]
            while (at := loop.time()) < began + seconds:
                writer.write(b"GET / HTTP/1.1\r\nHost: middle\r\n\r\n")
                code, _, _ = await read_response(reader)
                assert code >= 500
                count += 1
                await asyncio.sleep(max(0.0, at + len(connections) / rate - loop.time()))

        await asyncio.gather(*(ask(number) for number in range(len(connections))))
        for _, writer in connections:
            writer.close()
        return count


async def storm(
    folder: Path, *, ttl: float, seconds: float, rate: int = 200
) -> tuple[int, int, int]:
    """Requests of the front, to the middle and to the back, once the window has passed."""
    tiers = Tiers(folder, Budget(ttl=ttl))
    await tiers.start()
    try:
        await tiers.load(rate=rate, seconds=ttl)
        before = tiers.middle, len(tiers.back.heads)
        front = await tiers.load(rate=rate, seconds=seconds)
        return front, tiers.middle - before[0], len(tiers.back.heads) - before[1]
    finally:
        await tiers.stop()


@pytest.mark.timeout(60)
@on_loop
async def test_a_backend_that_fails_altogether_gets_a_fifth_more_at_most(tmp_path: Path) -> None:
    front, middle, back = await storm(tmp_path, ttl=1.0, seconds=4.0)

    assert front > 300
    assert middle <= 1.2 * front
    assert back <= 1.2 * front


@pytest.mark.long
@pytest.mark.timeout(120)
@on_loop_for(90)
async def test_after_ten_seconds_of_nothing_but_failures_a_fifth_more_is_asked_at_most(
    tmp_path: Path,
) -> None:
    front, middle, back = await storm(tmp_path, ttl=10.0, seconds=30.0)

    print(f"{front} requests in 30 s: {middle} to the middle, {back} to the back")
    assert front > 0.9 * 30 * 200
    assert middle <= 1.2 * front
    assert back <= 1.2 * front
