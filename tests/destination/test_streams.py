"""The stream server: who is let in, what is sent when, and what it keeps of what proxies say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from destination.session import SessionTiming, frames_of
from mesh.core import wire
from mesh.core.model import Service, Target, Update, View
from mesh.core.names import WorkloadId
from mesh.core.report import Report
from mesh.core.wire import (
    Ack,
    ConnectFailure,
    FrameReader,
    Hello,
    Ping,
    Pong,
    Refusal,
    ReportMessage,
    Subscribe,
    UpdateMessage,
)
from proxy.discovery import make_hello
from tests.destination.streams import CLIENT, HELLO, WEB, Ground, RawStream, ground, running
from tests.destination.world import Object, deployed, load, pod

ADDRESS = "10.96.0.1:80"


def _on_ground(
    folder: Path,
    act: Callable[[Ground], Awaitable[None]],
    *objects: Object,
    timing: SessionTiming | None = None,
) -> None:
    async def run() -> None:
        async with ground(folder, *objects, timing=timing) as here:
            await act(here)

    asyncio.run(run())


def _shop() -> list[Object]:
    return [
        *deployed("web", ip="10.96.0.1", pod_ip="10.1.0.1"),
        *deployed("db", ip="10.96.0.2", pod_ip="10.1.0.2"),
    ]


async def _update(stream: RawStream) -> Update:
    message = await stream.receive()
    assert isinstance(message, UpdateMessage), message
    assert not message.first
    return message.update


def test_the_first_update_is_complete_for_what_was_subscribed(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        stream = await here.dial()

        update = await stream.open(ADDRESS, "192.0.2.1:443")

        assert set(update.targets) == {ADDRESS, "192.0.2.1:443"}
        assert set(update.services) == {"web.shop.svc.cluster.local:80"}
        assert (update.version, update.app_done, update.bundle) == (1, False, "")
        assert update.inbound is not None

    _on_ground(tmp_path, act, *_shop())


def test_a_change_reaches_only_those_whom_it_concerns(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        web, db = await here.dial(), await here.dial()
        await web.open(ADDRESS)
        await db.open("10.96.0.2:80")

        here.put(pod("web-1", "10.1.0.1", deletionTimestamp="x"), pod("web-1", "10.1.0.1"))
        here.put(*deployed("web", ip="10.96.0.1", pod_ip="10.1.0.9"))
        update = await _update(web)
        db.send(Ping(7))

        assert [
            endpoint.address
            for found in update.services.values()
            if found
            for endpoint in found.endpoints
        ] == ["10.1.0.9"]
        assert update.targets == {}
        assert await db.receive() == Pong(7)

    _on_ground(tmp_path, act, *_shop())


def test_a_split_reaches_the_clients_of_its_apex_as_one_step(tmp_path: Path) -> None:
    (split,) = load("""
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata: {name: s, namespace: shop}
spec: {service: web, backends: [{service: db, weight: 1}]}
""")

    async def act(here: Ground) -> None:
        stream = await here.dial()
        view = View().apply(await stream.open(ADDRESS))

        here.put(split)
        update = await _update(stream)
        view = view.apply(update)

        assert view.targets[ADDRESS].rules[0].backends[0].authority in view.services
        assert update.services["web.shop.svc.cluster.local:80"] is None

    _on_ground(tmp_path, act, *_shop())


def test_subscriptions_may_be_added_and_removed(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        stream = await here.dial()
        await stream.open()

        stream.send(Subscribe(add=[ADDRESS]))
        added = await _update(stream)
        stream.send(Subscribe(remove=[ADDRESS]))
        removed = await _update(stream)

        assert list(added.targets) == [ADDRESS]
        assert removed.targets == {ADDRESS: None}
        assert removed.services == {"web.shop.svc.cluster.local:80": None}
        assert (added.version, removed.version) == (2, 3)

    _on_ground(tmp_path, act, *_shop())


def test_changes_that_come_together_are_one_update(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        stream = await here.dial()
        await stream.open(ADDRESS)

        for last in range(2, 40):
            here.put(*deployed("web", ip="10.96.0.1", pod_ip=f"10.1.0.{last}"))
        stream.send(Ping(1))

        seen = [await stream.receive(), await stream.receive()]
        assert sorted(type(message).__name__ for message in seen) == ["Pong", "UpdateMessage"]
        (update,) = (m.update for m in seen if isinstance(m, UpdateMessage))
        assert "10.1.0.39" in str(update)

    _on_ground(tmp_path, act, *_shop())


def test_the_bundle_reaches_everyone_and_its_hash_comes_back(tmp_path: Path) -> None:
    bundle = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": "mesh", "name": "mesh-trust-roots"},
        "data": {"ca-bundle.crt": "-----BEGIN CERTIFICATE-----"},
    }

    async def act(here: Ground) -> None:
        stream = await here.dial()
        await stream.open()

        here.put(bundle)
        update = await _update(stream)
        stream.send(Ack(update.version, "abc"), Ping(1))
        await stream.receive()

        (status,) = here.server.proxy_statuses()
        assert update.bundle == "-----BEGIN CERTIFICATE-----"
        assert (status.pod, status.sent, status.acked, status.bundle_hash) == (
            "client",
            2,
            2,
            "abc",
        )

    _on_ground(tmp_path, act)


def test_the_end_of_all_application_containers_is_told(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        stream = await here.dial()
        await stream.open()
        ended = [{"name": "app", "state": {"terminated": {"exitCode": 0}}}]

        here.put(
            CLIENT
            | {
                "spec": CLIENT["spec"] | {"restartPolicy": "Never"},
                "status": CLIENT["status"] | {"containerStatuses": ended},
            }
        )

        assert (await _update(stream)).app_done is True

    _on_ground(tmp_path, act)


@pytest.mark.parametrize(
    ("hello", "whose", "client", "reason"),
    [
        (HELLO, WorkloadId("cluster.local", "shop", "other"), CLIENT, "wrong-account"),
        (HELLO, WorkloadId("cluster.local", "mine", "web"), CLIENT, "wrong-namespace"),
        (
            make_hello(namespace="shop", pod="client", uid="uid-before"),
            WEB,
            CLIENT,
            "wrong-uid",
        ),
        (make_hello(namespace="shop", pod="ghost", uid="u"), WEB, CLIENT, "no-such-pod"),
        (HELLO, WEB, pod("client", "10.9.9.9", account="web"), "wrong-address"),
    ],
    ids=["account", "namespace", "uid", "pod", "address"],
)
def test_a_hello_that_does_not_hold_is_refused(
    tmp_path: Path, hello: Hello, whose: WorkloadId, client: Object, reason: str
) -> None:
    async def act(here: Ground) -> None:
        here.put(client)
        stream = await here.dial(whose)

        stream.send(hello, Subscribe(add=[ADDRESS]))

        answer = await stream.receive()
        assert isinstance(answer, Refusal)
        assert answer.reason == reason
        with pytest.raises(EOFError):
            await stream.receive()
        assert not here.server.sessions

    _on_ground(tmp_path, act, *_shop())


def test_a_pod_that_the_watch_does_not_know_yet_is_asked_for(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        here.put(CLIENT, deleted=True)
        here.hidden["shop", "client"] = CLIENT
        stream = await here.dial()

        await stream.open(ADDRESS)

        assert here.asked == [("shop", "client")]

    _on_ground(tmp_path, act, *_shop())


def test_a_pod_without_an_address_is_let_in_until_it_has_another_one(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        here.put(pod("client", "", account="web"))
        stream = await here.dial()
        await stream.open(ADDRESS)

        here.put(pod("client", "10.9.9.9", account="web"))

        answer = await stream.receive()
        assert isinstance(answer, Refusal)
        assert answer.reason == "wrong-address"

    _on_ground(tmp_path, act, *_shop())


def test_the_stream_of_a_deleted_pod_is_closed(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        stream = await here.dial()
        await stream.open(ADDRESS)

        here.put(CLIENT, deleted=True)

        answer = await stream.receive()
        assert isinstance(answer, Refusal)
        assert answer.reason == "no-such-pod"

    _on_ground(tmp_path, act, *_shop())


def test_another_protocol_is_refused(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        stream = await here.dial(alpn=())

        answer = await stream.receive()

        assert isinstance(answer, Refusal)
        assert answer.reason == "wrong-protocol"

    _on_ground(tmp_path, act)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ((Subscribe(),), "out-of-order"),
        ((HELLO, Subscribe(), HELLO), "out-of-order"),
        ((HELLO, Subscribe(add=["nowhere"])), "bad-address"),
        ((HELLO, Subscribe(add=["1" * 300 + ":80"])), "bad-address"),
        ((HELLO, UpdateMessage(Update(1))), "out-of-order"),
        (
            (HELLO, Subscribe(add=[f"10.0.{n >> 8}.{n & 255}:80" for n in range(25_001)])),
            "too-many",
        ),
    ],
)
def test_what_breaks_the_protocol_ends_the_stream(
    tmp_path: Path, messages: tuple[wire.Message, ...], reason: str
) -> None:
    async def act(here: Ground) -> None:
        stream = await here.dial()
        stream.send(*messages)

        answer = await stream.receive()
        while isinstance(answer, UpdateMessage):
            answer = await stream.receive()

        assert isinstance(answer, Refusal)
        assert answer.reason == reason

    _on_ground(tmp_path, act)


def test_bytes_that_are_no_frame_end_the_stream(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        stream = await here.dial()
        stream.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

        answer = await stream.receive()

        assert isinstance(answer, Refusal)
        assert answer.reason == "frame_too_large"

    _on_ground(tmp_path, act)


@pytest.mark.parametrize("said", [(), (HELLO,)], ids=["nothing", "hello only"])
def test_a_stream_that_does_not_open_is_closed(
    tmp_path: Path, said: tuple[wire.Message, ...]
) -> None:
    async def act(here: Ground) -> None:
        stream = await here.dial()
        stream.send(*said)

        with pytest.raises((EOFError, ConnectionError)):
            await stream.receive()

    _on_ground(tmp_path, act, timing=SessionTiming(hello=0.05))


def test_a_silent_proxy_is_closed(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        stream = await here.dial()
        await stream.open()

        async def pings() -> None:
            while isinstance(await stream.receive(), Ping):
                pass

        with pytest.raises((EOFError, ConnectionError)):
            await pings()
        assert not here.server.sessions

    _on_ground(tmp_path, act, timing=SessionTiming(hello=0.05, ping=0.03))


def test_reports_are_kept_under_the_pod_of_the_stream(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        stream = await here.dial()
        await stream.open()

        stream.send(ReportMessage(Report("life", 1.0, leaf_not_after=7.0)), Ping())
        await stream.receive()

        ((key, workload, report),) = here.reports
        assert (key, workload, report.incarnation) == (("shop", "client"), "pod/client", "life")
        assert here.server.proxy_statuses()[0].leaf_not_after == 7.0

    _on_ground(tmp_path, act)


def test_a_connect_failure_makes_us_look_at_the_pod_once(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        stream = await here.dial()
        await stream.open(ADDRESS)
        here.hidden["shop", "web-1"] = pod("web-1", "10.1.0.1", phase="Failed")

        stream.send(*[ConnectFailure("10.1.0.1:8080", "x", "refused")] * 3)
        update = await _update(stream)

        (found,) = update.services.values()
        assert isinstance(found, Service)
        assert found.endpoints == ()
        assert here.asked == [("shop", "web-1")]

    _on_ground(tmp_path, act, *_shop())


def test_a_slow_proxy_gets_one_step_from_then_to_now(tmp_path: Path) -> None:
    async def act(here: Ground) -> None:
        slow, quick = await here.dial(), await here.dial()
        await slow.open(ADDRESS)
        (session,) = here.server.sessions
        await quick.open(ADDRESS)

        session.pause_writing()  # as asyncio does when the peer does not read
        for last in range(2, 10):
            here.put(*deployed("web", ip="10.96.0.1", pod_ip=f"10.1.0.{last}"))
            await _update(quick)
        assert session.sent == 1
        session.resume_writing()

        update = await _update(slow)
        assert update.version == 2
        assert "10.1.0.9" in str(update)

    _on_ground(tmp_path, act, *_shop())


def test_an_update_too_large_for_a_frame_goes_in_steps_that_each_hold() -> None:
    targets = {f"10.0.0.1:{n}": Target("x" * 9000) for n in range(1, 2500)}
    services: dict[str, Service | None] = {
        f"s{n}": Service(f"s{n}", "d", "s", 1) for n in range(100)
    }
    reader = FrameReader()

    frames = frames_of(Update(3, targets, services, bundle="B"), first=True)
    messages = [m for frame in frames for m in reader.feed(frame)]

    view = View()
    for message in messages:
        assert isinstance(message, UpdateMessage)
        view = view.apply(message.update)
    assert [m.first for m in messages if isinstance(m, UpdateMessage)].count(True) == 1
    assert (view.targets, view.services, view.bundle) == (targets, services, "B")


def test_a_question_goes_to_the_proxies_that_are_meant_and_comes_back(tmp_path: Path) -> None:
    async def scenario(ground: Ground) -> None:
        discovery = ground.discovery()
        discovery.on_ask(lambda what, query, reply: reply(f"{what} {dict(query)}"))
        async with running(discovery):
            mine = await ground.server.ask("view", {"a": "1"}, namespace="shop", pod=HELLO.pod)
            all_of_them = await ground.server.ask("view", {})
            nobody = await ground.server.ask("view", {}, namespace="elsewhere")

        assert [(a.namespace, a.pod, a.body) for a in mine] == [
            (HELLO.namespace, HELLO.pod, "view {'a': '1'}")
        ]
        assert len(all_of_them) == 1
        assert nobody == ()

    _on_ground(tmp_path, scenario)


def test_a_proxy_that_does_not_answer_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("destination.server.ASK_SECONDS", 0.05)

    async def scenario(ground: Ground) -> None:
        async with running(ground.discovery()):
            assert await ground.server.ask("view", {}) == ()

    _on_ground(tmp_path, scenario)
