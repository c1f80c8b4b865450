"""Key, leaf and bundle over their lives: got, proven, renewed, exchanged, kept."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from mesh.core.errors import IdentityError
from mesh.core.names import WorkloadId
from mesh.pki.bundle import merge_bundles
from mesh.pki.csr import make_request
from mesh.runtime import tls
from mesh.runtime.bundle import hash_bundle, stamp_bundle
from mesh.runtime.certify import Issued
from mesh.runtime.credentials import Credentials
from tests.runtime.handshake import odd_leaf
from tests.support.authority import TrustChain, workload

pytestmark = pytest.mark.anyio

ALPN = ("mesh-http1/1",)


async def quick_request(key: str, whose: WorkloadId) -> str:
    """What the child does, without the child."""
    return make_request(Path(key), whose.uri())


class Rig:
    """Credentials of one workload in a folder, and the authority that it asks."""

    def __init__(
        self,
        folder: Path,
        chain: TrustChain | None = None,
        *,
        bundle: str | None = None,
        whose: WorkloadId | None = None,
    ) -> None:
        self.chain = chain or TrustChain()
        self.folder = folder
        self.credentials = Credentials(
            workload=whose or workload(),
            certifier=self,
            bundle=self.chain.bundle if bundle is None else bundle,
            key_dir=folder / "keys",
            state_dir=folder / "state",
            make_request=quick_request,
        )
        self.changes = 0
        self.problem: Exception | None = None
        self.attempted = asyncio.Event()
        self._changed = asyncio.Event()
        self.credentials.on_change(self._count)

    async def certify(self, csr: str, bundle: str) -> Issued:
        self.attempted.set()
        if self.problem is not None:
            raise self.problem
        return await self.chain.certify(csr, bundle)

    async def change(self) -> None:
        """Wait for the next change."""
        await asyncio.wait_for(self._changed.wait(), 10)
        self._changed.clear()

    async def renew(self) -> None:
        renewals = self.credentials.renewals
        self.credentials.renew_now()
        while self.credentials.renewals == renewals:
            await self.change()

    def _count(self) -> None:
        self.changes += 1
        self._changed.set()


@contextlib.asynccontextmanager
async def running(*rigs: Rig) -> AsyncIterator[None]:
    """All have their first leaf inside."""
    tasks = [asyncio.create_task(rig.credentials.run()) for rig in rigs]
    try:
        for rig in rigs:
            await rig.change()
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_the_first_leaf_makes_ready(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    mine = rig.credentials

    assert not mine.ready
    with pytest.raises(IdentityError, match="no leaf yet"):
        mine.client_context(ALPN)
    async with running(rig):
        assert mine.ready
        assert mine.identity == "web.shop.serviceaccount.identity.mesh.cluster.local"
        assert mine.not_after == pytest.approx(time.time() + 86_400, abs=10)
        share = (mine.renew_at - time.time()) / 86_400
        assert 0.664 < share < 0.736
        assert mine.client_context(ALPN) is mine.client_context(list(ALPN))


async def test_key_and_chain_are_one_private_file(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with running(rig):
        files = list((tmp_path / "keys").iterdir())
        first = files[0].read_text()
        await rig.renew()

    assert [file.name for file in files] == ["credentials.pem"]
    assert files[0].stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert first.partition("END PRIVATE")[0] != files[0].read_text().partition("END PRIVATE")[0]


async def test_the_real_child_makes_the_key(tmp_path: Path) -> None:
    chain = TrustChain()
    mine = Credentials(
        workload=workload(),
        certifier=chain,
        bundle=chain.bundle,
        key_dir=tmp_path / "keys",
        state_dir=tmp_path / "state",
    )
    ready = asyncio.Event()
    mine.on_change(ready.set)
    task = asyncio.create_task(mine.run())

    await asyncio.wait_for(ready.wait(), 20)

    assert mine.ready
    task.cancel()


async def test_a_restarted_container_goes_on_with_its_leaf(tmp_path: Path) -> None:
    chain = TrustChain()
    async with running(Rig(tmp_path, chain)):
        pass
    again = Rig(tmp_path, chain)
    again.problem = IdentityError("identity-unreachable", "away")

    async with running(again):
        assert again.credentials.ready
        assert chain.asked == 1


@pytest.mark.parametrize("spoilt", ["text", "other bundle", "other workload", "ended"])
async def test_a_stored_leaf_that_proves_nothing_is_not_used(tmp_path: Path, spoilt: str) -> None:
    chain = TrustChain()
    async with running(Rig(tmp_path, chain)):
        pass
    if spoilt == "text":
        (tmp_path / "keys" / "credentials.pem").write_text("junk")
    if spoilt == "other bundle":
        chain = TrustChain()
    whose = workload("other") if spoilt == "other workload" else workload()
    chain.asking = whose
    if spoilt == "ended":
        odd_leaf(tmp_path, chain.issuer, days=(-2, -0.01)).replace(
            tmp_path / "keys" / "credentials.pem"
        )
    again = Rig(tmp_path, chain, whose=whose)

    async with running(again):
        assert again.credentials.renewals == 1


async def test_a_failure_is_counted_and_tried_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.problem = IdentityError("identity-unreachable", "away")
    task = asyncio.create_task(rig.credentials.run())
    await asyncio.wait_for(rig.attempted.wait(), 10)
    await asyncio.sleep(0)

    assert not rig.credentials.ready
    rig.problem = None
    await rig.change()

    assert rig.credentials.ready
    assert (rig.credentials.failures, rig.credentials.last_reason) == (0, "")
    task.cancel()


async def test_a_bug_in_the_certifier_does_not_end_the_loop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(tmp_path)
    rig.problem = ZeroDivisionError("bug")
    task = asyncio.create_task(rig.credentials.run())
    await asyncio.wait_for(rig.attempted.wait(), 10)
    rig.problem = None

    await rig.change()

    assert rig.credentials.ready
    assert "ZeroDivisionError" in caplog.text
    task.cancel()


async def test_waits_grow_and_the_alarm_comes_at_three_quarters(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = [time.time()]
    mine = Rig(tmp_path).credentials
    mine._clock = lambda: now[0]
    mine._accept(now[0] + 100.0)

    waits = []
    for _ in range(12):
        mine._failed("identity-unreachable", "away")
        waits.append(mine.renew_at - now[0])
    assert waits[0] <= 0.2
    assert waits[4] >= 1.6
    assert 30.0 <= max(waits) <= 60.0
    assert {record.levelname for record in caplog.records} == {"WARNING"}

    now[0] += 76.0
    mine._failed("identity-unreachable", "away")
    assert caplog.records[-1].levelname == "ERROR"
    assert mine.ready
    now[0] += 25.0
    assert not mine.ready


Answer = Callable[[TrustChain, str], tuple[str, str]]  # trust, csr -> chain, bundle

BAD_ANSWERS: dict[str, tuple[Answer, str]] = {
    "another workload": (lambda t, csr: (t.sign(workload("root"), csr)[0], ""), "wrong-identity"),
    "another root": (lambda t, csr: (TrustChain().sign(workload(), csr)[0], ""), "unknown-aut"),
    "no chain": (lambda t, csr: ("", ""), "leaf-invalid"),
    "no issuer": (
        lambda t, csr: (t.sign(workload(), csr)[0].partition("-----END")[0] + _END, ""),
        "unknown-authority",
    ),
    "another key": (
        lambda t, csr: ("-----BEGIN" + t.leaf_text().split("-----BEGIN", 2)[2], ""),
        "leaf-invalid",
    ),
    "a bundle without our root": (
        lambda t, csr: (t.sign(workload(), csr)[0], TrustChain().bundle),
        "unknown-authority",
    ),
}
_END = "-----END CERTIFICATE-----\n"


@pytest.mark.parametrize("kind", BAD_ANSWERS)
async def test_an_answer_that_does_not_prove_us_is_refused(tmp_path: Path, kind: str) -> None:
    rig = Rig(tmp_path)
    make, reason = BAD_ANSWERS[kind]

    async def certify(csr: str, bundle: str) -> Issued:
        chain, bundle = make(rig.chain, csr)
        return Issued(chain=chain, bundle=bundle, not_after=0.0)

    rig.certify = certify  # type: ignore[method-assign]
    with pytest.raises(IdentityError) as caught:
        await rig.credentials._renew()

    assert caught.value.reason.startswith(reason)
    assert not rig.credentials.ready
    assert rig.credentials.bundle == rig.chain.bundle


@pytest.mark.parametrize("skew", [-280.0, 280.0])
async def test_a_clock_five_minutes_off_is_no_problem(tmp_path: Path, skew: float) -> None:
    rig = Rig(tmp_path)
    rig.chain.skew = skew

    async with running(rig):
        assert rig.credentials.ready


async def test_a_clock_further_off_is_named(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.chain.skew = 400.0

    with pytest.raises(IdentityError, match="check the clock of this node"):
        await rig.credentials._renew()


async def test_without_a_bundle_identity_is_not_asked(tmp_path: Path) -> None:
    rig = Rig(tmp_path, bundle="")
    task = asyncio.create_task(rig.credentials.run())
    await asyncio.sleep(0)
    assert rig.credentials.last_reason == "no-bundle"
    assert rig.chain.asked == 0

    rig.credentials.set_bundle(rig.chain.bundle)
    await rig.change()

    assert rig.chain.asked == 1
    task.cancel()


async def test_a_pushed_bundle_is_in_force_and_survives_a_restart(tmp_path: Path) -> None:
    rig, other = Rig(tmp_path), TrustChain()
    async with running(rig):
        both = merge_bundles(rig.chain.bundle, other.bundle)
        before = rig.credentials.server_context(ALPN)

        rig.credentials.set_bundle(both)

        assert rig.credentials.bundle == both
        assert rig.credentials.server_context(ALPN) is not before
        assert rig.credentials.renewals == 1
    again = Rig(tmp_path, rig.chain)
    assert again.credentials.bundle == both
    given_later = Rig(tmp_path, rig.chain, bundle=other.bundle)
    assert given_later.credentials.bundle == other.bundle


async def test_junk_and_older_bundles_are_ignored(tmp_path: Path) -> None:
    chain = TrustChain()
    current = stamp_bundle(chain.bundle, 5)
    rig = Rig(tmp_path, chain, bundle=current)
    broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

    for pem in ("", "junk", broken, stamp_bundle(TrustChain().bundle, 4)):
        rig.credentials.set_bundle(pem)

    assert rig.credentials.bundle == current
    assert rig.changes == 0
    assert not (tmp_path / "state").exists()


async def test_the_same_certificates_under_a_new_stamp_change_no_context(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with running(rig):
        changes = rig.changes

        rig.credentials.set_bundle(stamp_bundle(rig.chain.bundle, 9))

        assert rig.changes == changes
    assert Rig(tmp_path, rig.chain).credentials.bundle == stamp_bundle(rig.chain.bundle, 9)


async def test_a_full_disk_costs_a_log_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    rig, other = Rig(tmp_path), TrustChain()

    rig.credentials.set_bundle(merge_bundles(rig.chain.bundle, other.bundle))

    assert hash_bundle(other.bundle) != hash_bundle(rig.credentials.bundle)
    assert "bundle not stored" in caplog.text


async def test_a_damaged_store_counts_as_none(tmp_path: Path) -> None:
    rig, other = Rig(tmp_path), TrustChain()
    rig.credentials.set_bundle(other.bundle)
    path = tmp_path / "state" / "bundle.pem"
    path.write_text(path.read_text()[:-80])

    assert Rig(tmp_path, rig.chain).credentials.bundle == rig.chain.bundle


async def test_a_bundle_that_no_longer_covers_the_leaf_renews_it_at_once(tmp_path: Path) -> None:
    rig, new = Rig(tmp_path), TrustChain()
    async with running(rig):
        rig.chain = new

        rig.credentials.set_bundle(new.bundle)
        while rig.credentials.renewals < 2:
            await rig.change()

        assert hash_bundle(rig.credentials.bundle) == hash_bundle(new.bundle)


async def test_a_failing_callback_does_not_hide_the_change_from_others(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    seen: list[str] = []

    def fail() -> None:
        raise ZeroDivisionError

    rig.credentials.on_change(fail)
    rig.credentials.on_change(lambda: seen.append("changed"))
    rig.credentials.set_bundle(TrustChain().bundle)

    assert seen == ["changed"]


# -- two workloads that talk while everything changes ----------------------------------------


@contextlib.asynccontextmanager
async def echo(server: Credentials) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while line := await reader.readline():
                writer.write(line)
        writer.transport.abort()

    context = tls.rotating_server_context(lambda: server.server_context(ALPN))
    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await listener.wait_closed()


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(client: Credentials, port: int, server: WorkloadId) -> Streams:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=client.client_context(ALPN), server_hostname="x"
    )
    assert tls.peer_workload(writer.get_extra_info("ssl_object")) == server
    return reader, writer


async def say(streams: Streams) -> None:
    reader, writer = streams
    writer.write(b"hello\n")
    assert await reader.readline() == b"hello\n"


async def hang_up(*connections: Streams) -> None:
    for _, writer in connections:
        writer.transport.abort()
    await asyncio.sleep(0.01)


async def test_renewal_drops_no_connection(tmp_path: Path) -> None:
    chain = TrustChain()
    server, client = Rig(tmp_path / "a", chain), Rig(tmp_path / "b", chain)
    async with running(server, client), echo(server.credentials) as port:
        held = [await connect(client.credentials, port, workload()) for _ in range(10)]
        for _ in range(3):
            await server.renew()
            await client.renew()
            await asyncio.gather(*(say(streams) for streams in held))
            held.append(await connect(client.credentials, port, workload()))
            await say(held[-1])

        assert server.credentials.renewals == 4
        await hang_up(*held)


async def test_a_root_is_exchanged_without_a_failed_connection(tmp_path: Path) -> None:
    """Old bundle -> both -> new issuer -> new bundle, while connections come and go."""
    old, new = TrustChain(), TrustChain()
    server, client = Rig(tmp_path / "a", old), Rig(tmp_path / "b", old)
    both = stamp_bundle(merge_bundles(old.bundle, new.bundle), 2)
    new.bundle = both
    async with running(server, client), echo(server.credentials) as port:
        done, spoken = asyncio.Event(), asyncio.Event()

        async def keep_talking() -> None:
            held = await connect(client.credentials, port, workload())
            while not done.is_set():
                fresh = await connect(client.credentials, port, workload())
                await say(fresh)
                await say(held)
                fresh[1].transport.abort()
                spoken.set()
            await hang_up(held)

        async with asyncio.TaskGroup() as group:
            group.create_task(keep_talking())
            for rig in (server, client):  # one after the other, as pushes arrive
                rig.credentials.set_bundle(both)
                await turns(spoken)
            for rig in (client, server):
                rig.chain = new
                await rig.renew()
                await turns(spoken)
            for rig in (server, client):
                rig.credentials.set_bundle(stamp_bundle(new.root.certificate_pem, 3))
                await turns(spoken)
            done.set()

        assert hash_bundle(server.credentials.bundle) == hash_bundle(new.root.certificate_pem)


async def turns(spoken: asyncio.Event) -> None:
    """Wait for five more rounds."""
    for _ in range(5):
        spoken.clear()
        await spoken.wait()
