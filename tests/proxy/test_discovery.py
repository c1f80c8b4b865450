"""The proxy's end of the stream: what is known, how long it is waited for, what survives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mesh.core.model import Target
from mesh.core.names import WorkloadId
from mesh.core.report import Report
from proxy.discovery import Discovery, DiscoveryTiming, make_hello
from tests.destination.streams import (
    WEB,
    FixedCredentials,
    Ground,
    ground,
    running,
    turns_until,
)
from tests.destination.world import Object, deployed, pod
from tests.support.authority import TrustChain

ADDRESS = "10.96.0.1:80"
AUTHORITY = "web.shop.svc.cluster.local:80"
QUICK = DiscoveryTiming(backoff_first=0.005, backoff_last=0.01, answer=0.05)


def _on_ground(folder: Path, act: Callable[[Ground], Awaitable[None]], *objects: Object) -> None:
    async def run() -> None:
        default = deployed("web", ip="10.96.0.1", pod_ip="10.1.0.1")
        async with ground(folder, *(objects or default)) as here:
            await act(here)

    asyncio.run(run())


async def _ask(discovery: Discovery, address: str) -> Target | None:
    answer: asyncio.Future[Target | None] = asyncio.get_running_loop().create_future()
    discovery.lookup(address, answer.set_result)
    return await answer


def _hosts(discovery: Discovery, authority: str = AUTHORITY) -> list[str]:
    service = discovery.service(authority)
    return [endpoint.address for endpoint in service.endpoints] if service is not None else []


def test_it_is_ready_with_the_first_whole_view(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        discovery = here.discovery()
        assert not discovery.ready

        async with running(discovery):
            assert discovery.ready
            assert discovery.view.version == 1

    _on_ground(tmp_path, act)


def test_an_unknown_address_is_subscribed_and_answered(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        discovery = here.discovery()
        async with running(discovery):
            target = await _ask(discovery, ADDRESS)

            assert target is not None
            assert target.authority == AUTHORITY
            assert _hosts(discovery) == ["10.1.0.1"]

    _on_ground(tmp_path, act)


def test_a_known_address_is_answered_in_the_same_turn(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        discovery = here.discovery()
        async with running(discovery):
            first = await _ask(discovery, ADDRESS)
            answers: list[Target | None] = []

            discovery.lookup(ADDRESS, answers.append)

            assert answers == [first]

    _on_ground(tmp_path, act)


def test_a_change_arrives_with_the_step_that_made_it(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        discovery = here.discovery()
        async with running(discovery) as changes:
            await _ask(discovery, ADDRESS)

            here.put(*deployed("web", ip="10.96.0.1", pod_ip="10.1.0.2"))
            await changes.until(lambda: _hosts(discovery) == ["10.1.0.2"])

            assert list(changes.updates[-1].services) == [AUTHORITY]

    _on_ground(tmp_path, act)


def test_a_look_up_ends_with_none_when_nobody_answers_in_time(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        discovery = here.discovery(timing=QUICK)

        assert await _ask(discovery, ADDRESS) is None

    _on_ground(tmp_path, act)


def test_the_last_view_outlives_destination(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        discovery = here.discovery(timing=QUICK)
        async with running(discovery):
            target = await _ask(discovery, ADDRESS)

            await here.server.drain()
            await here.server.stop()
            unknown = await _ask(discovery, "10.96.0.99:80")

            assert unknown is None
            assert not discovery.connected
            assert discovery.ready
            assert await _ask(discovery, ADDRESS) is target
            assert _hosts(discovery) == ["10.1.0.1"]

    _on_ground(tmp_path, act)


def test_while_destination_is_away_for_long_nobody_waits(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        discovery = here.discovery(timing=QUICK)
        async with running(discovery):
            await here.server.drain()
            await here.server.stop()
            assert await _ask(discovery, "10.96.0.98:80") is None
            await turns_until(lambda: not discovery.connected)
            assert await _ask(discovery, "10.96.0.96:80") is None
            answers: list[Target | None] = []

            discovery.lookup("10.96.0.99:80", answers.append)

            assert answers == [None]

    _on_ground(tmp_path, act)


def test_after_a_reconnect_the_whole_view_replaces_the_old_one(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        port = here.server.port
        discovery = here.discovery()
        async with running(discovery) as changes:
            await _ask(discovery, ADDRESS)
            await _ask(discovery, "10.1.0.1:8080")
            await here.server.drain()
            await here.server.stop()

            async with ground(
                tmp_path, *deployed("other", ip="10.96.0.1", pod_ip="10.1.0.7"), port=port
            ) as there:
                there.server._credentials = here.server._credentials
                await changes.until(lambda: discovery.connects == 2)

                assert discovery.view.targets[ADDRESS].authority.startswith("other.")
                assert _hosts(discovery) == []
                assert changes.updates[-1].services[AUTHORITY] is None
                assert set(discovery.view.targets) == {ADDRESS, "10.1.0.1:8080"}

    _on_ground(tmp_path, act)


def test_only_destination_itself_is_believed(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        discovery = here.discovery(
            timing=QUICK, server=WorkloadId("cluster.local", "mesh", "another")
        )
        task = asyncio.create_task(discovery.run())
        await turns_until(lambda: discovery.last_reason == "wrong-identity")

        assert not discovery.ready
        assert not here.server.sessions
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    _on_ground(tmp_path, act)


def test_a_server_under_another_root_is_not_believed(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        folder = tmp_path / "other"
        folder.mkdir()
        strange = FixedCredentials(TrustChain(), folder, WEB)
        discovery = here.discovery(timing=QUICK, credentials=strange)
        task = asyncio.create_task(discovery.run())
        await turns_until(lambda: discovery.last_reason == "unknown-authority")

        assert not discovery.ready
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    _on_ground(tmp_path, act)


def test_a_refused_hello_names_its_reason_and_is_tried_again(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        hello = make_hello(namespace="shop", pod="late", uid="uid-late")
        discovery = here.discovery(hello, timing=QUICK)
        task = asyncio.create_task(discovery.run())
        await turns_until(lambda: discovery.last_reason == "no-such-pod")

        here.put(pod("late", "127.0.0.1"))

        await turns_until(lambda: discovery.ready)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    _on_ground(tmp_path, act)


def test_it_waits_for_the_first_leaf(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        credentials = FixedCredentials(here.chain, tmp_path, WEB)
        credentials.ready = False
        discovery = here.discovery(credentials=credentials)
        assert discovery.connects == 0

        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(discovery.run())
            answers: list[Target | None] = []
            discovery.lookup(ADDRESS, answers.append)
            credentials.become_ready()
            await turns_until(lambda: discovery.ready)
            task.cancel()

    _on_ground(tmp_path, act)


def test_a_pushed_bundle_is_put_in_force_and_acknowledged(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        credentials = FixedCredentials(here.chain, tmp_path, WEB)
        discovery = here.discovery(credentials=credentials)
        newer = here.chain.bundle + TrustChain().bundle
        async with running(discovery) as changes:
            here.put(
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"namespace": "mesh", "name": "mesh-trust-roots"},
                    "data": {"ca-bundle.crt": newer},
                }
            )
            await changes.until(lambda: discovery.view.bundle == newer)
            await _ask(discovery, ADDRESS)  # so that the acknowledgement has arrived

            (status,) = here.server.proxy_statuses()
            assert credentials.bundle == newer
            assert status.acked >= 2
            assert len(status.bundle_hash) == 64

    _on_ground(tmp_path, act)


def test_the_newest_report_waits_for_the_stream(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        discovery = here.discovery()
        discovery.send_report(Report("life", 1.0))
        discovery.send_report(Report("life", 2.0))

        async with running(discovery):
            discovery.send_report(Report("life", 3.0))
            await _ask(discovery, ADDRESS)

            assert [report.at for _, _, report in here.reports] == [2.0, 3.0]

    _on_ground(tmp_path, act)


def test_one_failing_endpoint_is_reported_once_a_second(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        discovery = here.discovery()
        async with running(discovery):
            for _ in range(5):
                discovery.connect_failed("10.1.0.1:8080", AUTHORITY, "refused")
            await _ask(discovery, ADDRESS)

            sample = here.metrics.failures.labels("refused")
            assert sample._value.get() == 1.0

    _on_ground(tmp_path, act)


def test_what_nobody_uses_is_unsubscribed_and_comes_back_when_asked(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        discovery = here.discovery(timing=DiscoveryTiming(idle=0.05))
        discovery.keep(lambda address: address == "10.1.0.1:8080")
        async with running(discovery) as changes:
            await _ask(discovery, ADDRESS)
            await _ask(discovery, "10.1.0.1:8080")

            await changes.until(lambda: ADDRESS not in discovery.view.targets)

            assert set(discovery.view.targets) == {"10.1.0.1:8080"}
            assert await _ask(discovery, ADDRESS) is not None

    _on_ground(tmp_path, act)


def test_without_word_on_use_nothing_is_unsubscribed(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        discovery = here.discovery(timing=DiscoveryTiming(idle=0.001))
        async with running(discovery):
            await _ask(discovery, ADDRESS)
            for _ in range(20):
                await _ask(discovery, f"10.96.0.{_ + 2}:80")

            assert ADDRESS in discovery.view.targets

    _on_ground(tmp_path, act)


def test_a_callback_that_fails_costs_only_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    async def act(here: Ground) -> None:
        discovery = here.discovery()
        discovery.on_change(broken)
        async with running(discovery):
            discovery.lookup(ADDRESS, broken)

            assert await _ask(discovery, ADDRESS) is not None

    _on_ground(tmp_path, act)
    assert "look-up callback failed" in caplog.text
