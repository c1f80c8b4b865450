"""500 generated cases: what is explained from files is what a running proxy answers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from destination.view import Client, look
from mesh.core.model import Endpoint, View
from mesh.explain.decide import Decision, decide
from mesh.explain.live import outcome_of, question_for, view_of
from mesh.explain.question import find_asker, parse_question
from proxy.targets import TargetState
from tests.explain.test_offline import compiled
from tests.explain.test_routes import TARGETS, objects, rules, splits
from tests.proxy.apps import Reader, Writer, read_head
from tests.proxy.world import Pod, make_pod, request
from tests.support.authority import TrustChain

NAMES = ("web", "web-v1", "web-v2")


class Live:
    """One proxy, and an application for each Service that says its name and what it got."""

    def __init__(self, folder: Path) -> None:
        self._chain = TrustChain()
        self.pod: Pod = make_pod(self._chain, folder, "client")
        self.ports: dict[str, int] = {}
        self._servers: list[asyncio.AbstractServer] = []

    async def start(self) -> None:
        await self.pod.start()
        for name in NAMES:
            server = await asyncio.start_server(self._app(name), "127.0.0.1", 0)
            self._servers.append(server)
            self.ports[name] = server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        await self.pod.stop()

    def _app(self, name: str) -> Any:
        async def serve(reader: Reader, writer: Writer) -> None:
            try:
                while True:
                    line = (await read_head(reader)).split(b" ", 2)
                    body = f"{name} {line[1].decode()}".encode()
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
                    writer.write(body)
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.transport.abort()

        return serve

    def show(self, view: View, address: str) -> None:
        """Put a view in force, with every Service's endpoints at its local application."""
        services = [
            replace(
                service,
                endpoints=tuple(
                    Endpoint("127.0.0.1", self.ports[service.name], pod=end.pod)
                    for end in service.endpoints[:1]
                ),
            )
            for service in view.services.values()
        ]
        self.pod.discovery.update(view.targets[address], services=services)
        host, _, port = address.rpartition(":")
        self.pod.meant_for = (host, int(port))

    async def ask(self, method: str, target: str) -> tuple[Any, ...]:
        """Status, reason, where to, and who answered to which path, on the wire."""
        head = f"{method} {target} HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"
        status, headers, body = await request(self.pod, head.encode())
        reason, _, origin = headers.get("mesh-reason", "").partition("; ")
        who = body.decode() if status == 200 else ""
        return status, reason, origin, headers.get("location", ""), who

    def told(self, query: dict[str, str]) -> dict[str, Any]:
        answers: list[str] = []
        self.pod.discovery.ask("explain", query, answers.append)
        found: dict[str, Any] = json.loads(answers[0])
        return found


def foreseen(decision: Decision) -> tuple[int, str, str, str]:
    """Status, reason, object, and the Service that answers, of a replay."""
    drawn = [leaf for leaf in decision.leaves if leaf.is_drawn]
    answer = decision.answer or (drawn[0].answer if drawn else None)
    if answer is not None:
        return answer.status, answer.reason, answer.origin, ""
    return 200, "", "", drawn[0].authority.partition(".")[0]


async def started(folder: Path) -> Live:
    live = Live(folder)
    await live.start()
    return live


@pytest.mark.timeout(300)  # 20 s on a machine at rest
def test_500_generated_cases_end_on_the_wire_as_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[tuple[int, str]] = set()
    cases = 0
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        live = runner.run(started(tmp_path))

        @settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(
            st.lists(rules, min_size=1, max_size=2),
            splits,
            st.sampled_from(["GET", "POST"]),
            st.sampled_from(TARGETS),
            st.floats(0, 1, exclude_max=True),
        )
        def check(
            kinds: list[list[dict[str, Any]]],
            split: list[tuple[str, int]] | None,
            method: str,
            target: str,
            draw: float,
        ) -> None:
            nonlocal cases
            cases += 1
            world = compiled(objects(kinds, split, []))
            asker = find_asker(world.store, "deploy/web", None)
            question = parse_question(method, f"http://web{target}", ())
            offline = decide(world.store, world.snapshot, asker, question, draw)
            client = Client("shop", asker.pod.name if asker.pod is not None else "")
            view = look(world.snapshot, client, [offline.address], version=1).view
            live.show(view, offline.address)
            told = live.told(question_for(question, offline.address, draw))
            monkeypatch.setattr(TargetState, "draw", lambda state: draw)

            status, reason, origin, location, who = runner.run(live.ask(method, target))

            expected = foreseen(offline)
            assert (status, reason, who.partition(" ")[0]) == (
                expected[0], expected[1], expected[3]
            )  # fmt: skip
            assert reason == "no-rule" or origin == expected[2]
            own = told["decision"]
            assert (own["status"] or 200, own["reason"]) == (status, reason)
            assert own.get("location", "") == location
            replayed = decide(world.store, world.snapshot, asker, question, draw, view_of(told))
            assert outcome_of(replayed)[1:] == outcome_of(offline)[1:]
            seen.add((status, reason))

        try:
            check()
        finally:
            runner.run(live.stop())
    assert cases >= 500
    assert {status for status, _ in seen} >= {200, 301, 404, 500, 503}
