"""Root, issuer and bundle: made, shared, brought, exchanged, and what is refused."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from identity.issue import Trust
from identity.rotation import TrustKeeper
from mesh.core.errors import ApiError, ConfigError
from mesh.core.names import WorkloadId
from mesh.pki.authority import DAY, Authority, load_authority, make_issuer, make_root
from mesh.pki.bundle import merge_bundles, read_bundle
from mesh.runtime.bundle import bundle_version, hash_bundle, stamp_bundle
from tests.identity.fakes import FakeKube, config_map, secret
from tests.support.authority import TrustChain

pytestmark = pytest.mark.anyio

ME = WorkloadId("cluster.local", "mesh", "mesh-identity")
ROOT, ISSUER, ROOTS = "mesh-identity-root", "mesh-identity-issuer", "mesh-trust-roots"
KEY = "ca-bundle.crt"


class Replica:
    """One identity process as far as rotation goes, with what it told."""

    def __init__(self, kube: FakeKube, issuer_dir: str = "") -> None:
        self.told: list[str] = []
        self.changes: list[Trust] = []
        self.keeper = TrustKeeper(
            kube,
            workload=ME,
            announce=lambda reason, message, _: self.told.append(f"{reason}: {message}"),
            on_change=self.changes.append,
            issuer_dir=issuer_dir,
        )

    @property
    def trust(self) -> Trust:
        assert self.keeper.trust is not None
        return self.keeper.trust

    @property
    def reasons(self) -> list[str]:
        return [line.partition(":")[0] for line in self.told]


async def started(kube: FakeKube, issuer_dir: str = "") -> Replica:
    replica = Replica(kube, issuer_dir)
    await replica.keeper.start()
    return replica


def bring(kube: FakeKube, chain: TrustChain, *, roots: str | None = None) -> None:
    issuer = secret(
        ISSUER,
        tls_crt=chain.issuer.chain_pem,
        tls_key=chain.issuer.key_pem,
        ca_crt=chain.bundle if roots is None else roots,
    )
    kube.put("secrets", issuer)


def put_bundle(kube: FakeKube, text: str) -> None:
    kube.put("configmaps", config_map(ROOTS, {KEY: text}))


def bundle_of(kube: FakeKube) -> str:
    return kube.text("configmaps", ROOTS, KEY)


async def test_the_first_start_makes_root_issuer_and_a_stamped_bundle() -> None:
    kube = FakeKube()

    replica = await started(kube)

    assert {name for _, name in kube.objects} == {ROOT, ISSUER, ROOTS}
    assert bundle_of(kube) == replica.trust.bundle
    assert bundle_version(replica.trust.bundle) is not None
    assert hash_bundle(kube.text("secrets", ROOT, "tls.crt")) == hash_bundle(bundle_of(kube))
    assert replica.reasons == ["RootCreated", "IssuerCreated"]


async def test_replicas_that_start_together_end_with_one_issuer_and_one_bundle() -> None:
    for _ in range(5):
        kube = FakeKube()

        replicas = await asyncio.gather(*(started(kube) for _ in range(4)))

        assert len({r.trust.issuer.certificate for r in replicas}) == 1
        assert len({r.trust.bundle for r in replicas}) == 1
        assert sum(r.reasons.count("RootCreated") for r in replicas) == 1
        assert sum(r.reasons.count("IssuerCreated") for r in replicas) == 1


async def test_a_restart_changes_nothing() -> None:
    kube = FakeKube()
    first = await started(kube)
    before = dict(kube.objects)

    second = await started(kube)

    assert kube.objects == before
    assert second.trust.bundle == first.trust.bundle
    assert second.told == []


async def test_a_brought_issuer_brings_its_roots_at_first_start() -> None:
    kube, chain = FakeKube(), TrustChain()
    bring(kube, chain)

    replica = await started(kube)

    assert replica.trust.issuer.certificate == chain.issuer.certificate
    assert hash_bundle(bundle_of(kube)) == hash_bundle(chain.bundle)
    assert ("secrets", ROOT) not in kube.objects


@pytest.mark.parametrize("fault", ["other root", "no roots", "wrong key", "ended", "junk"])
async def test_a_brought_issuer_that_cannot_work_stops_the_start_with_its_reason(
    fault: str,
) -> None:
    kube, chain = FakeKube(), TrustChain()
    expected = {
        "other root": "expected a chain to a trust anchor",
        "no roots": "expected at least one PEM certificate",
        "wrong key": "expected the private key of",
        "ended": "ended at",
        "junk": "expected a PEM certificate",
    }
    if fault == "ended":
        chain = TrustChain(now=time.time() - 366 * DAY)
    bring(kube, chain)
    if fault == "other root":
        bring(kube, chain, roots=TrustChain().bundle)
    elif fault == "no roots":
        bring(kube, chain, roots="")
    elif fault == "wrong key":
        kube.edit("secrets", ISSUER, tls_key=chain.root.key_pem)
    elif fault == "junk":
        kube.edit("secrets", ISSUER, tls_crt="junk")

    with pytest.raises(ConfigError, match=expected[fault]) as caught:
        await Replica(kube).keeper.start()

    assert f"Secret mesh/{ISSUER}" in str(caught.value)
    assert ("configmaps", ROOTS) not in kube.objects


async def test_a_new_issuer_under_the_same_root_is_used() -> None:
    kube = FakeKube()
    replica = await started(kube)
    old = replica.trust
    root = root_of(kube)
    new = make_issuer(root, now=time.time(), trust_domain="cluster.local")
    kube.edit("secrets", ISSUER, tls_crt=new.chain_pem, tls_key=new.key_pem)

    await replica.keeper.refresh()

    assert replica.trust.issuer.certificate == new.certificate
    assert replica.trust.bundle == old.bundle
    assert replica.reasons[-1] == "IssuerUpdated"
    assert len(replica.changes) == 2


def root_of(kube: FakeKube) -> Authority:
    return load_authority(
        kube.text("secrets", ROOT, "tls.crt"), kube.text("secrets", ROOT, "tls.key"), where="root"
    )


async def test_an_issuer_of_an_unknown_root_is_refused_and_the_old_one_kept() -> None:
    kube, other = FakeKube(), TrustChain()
    replica = await started(kube)
    old = replica.trust

    bring(kube, other)
    for _ in range(3):
        await replica.keeper.refresh()

    assert replica.trust == old
    assert replica.reasons.count("IssuerRefused") == 1  # told once, not at each look
    assert "add that root to the bundle first" in replica.told[-1]
    assert hash_bundle(bundle_of(kube)) == hash_bundle(old.bundle)


async def test_a_root_is_exchanged_by_bundle_first_and_issuer_later() -> None:
    kube, new = FakeKube(), TrustChain()
    replica = await started(kube)
    old_root = kube.text("secrets", ROOT, "tls.crt")

    kube.edit("configmaps", ROOTS, **{KEY: merge_bundles(old_root, new.bundle)})
    await replica.keeper.refresh()
    both = replica.trust.bundle
    bring(kube, new)
    await replica.keeper.refresh()
    kube.edit("configmaps", ROOTS, **{KEY: new.bundle})
    await replica.keeper.refresh()

    assert len(read_bundle(both, where="x")) == 2
    assert replica.trust.issuer.certificate == new.issuer.certificate
    assert hash_bundle(replica.trust.bundle) == hash_bundle(new.bundle)
    versions = [bundle_version(t.bundle) or 0 for t in replica.changes]
    assert versions == sorted(versions)


@pytest.mark.parametrize(
    "text", ["", "junk", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
async def test_a_spoilt_bundle_is_mended(text: str) -> None:
    kube = FakeKube()
    replica = await started(kube)
    old = replica.trust.bundle

    kube.edit("configmaps", ROOTS, **{KEY: text})
    await replica.keeper.refresh()

    assert hash_bundle(bundle_of(kube)) == hash_bundle(old)


async def test_a_root_that_leaves_still_need_cannot_be_dropped() -> None:
    kube, other = FakeKube(), TrustChain()
    replica = await started(kube)

    kube.edit("configmaps", ROOTS, **{KEY: other.bundle})
    await replica.keeper.refresh()

    assert len(read_bundle(bundle_of(kube), where="x")) == 2


async def test_an_edited_bundle_gets_a_later_version() -> None:
    kube = FakeKube()
    replica = await started(kube)
    old = bundle_version(bundle_of(kube)) or 0

    kube.edit("configmaps", ROOTS, **{KEY: bundle_of(kube) + TrustChain().bundle})
    await replica.keeper.refresh()
    assert (bundle_version(bundle_of(kube)) or 0) > old

    kube.edit("configmaps", ROOTS, **{KEY: stamp_bundle(bundle_of(kube), 17)})
    await replica.keeper.refresh()
    assert (bundle_version(bundle_of(kube)) or 0) > old


async def test_deleted_objects_do_not_stop_a_running_replica() -> None:
    kube = FakeKube()
    replica = await started(kube)
    old = replica.trust

    kube.objects.clear()
    await replica.keeper.refresh()

    assert replica.trust.issuer.certificate == old.issuer.certificate
    assert hash_bundle(bundle_of(kube)) == hash_bundle(old.bundle)


@pytest.mark.parametrize("age", [256 * DAY, 366 * DAY], ids=["ageing", "ended"])
async def test_our_own_issuer_is_renewed_under_its_root(age: float) -> None:
    kube = FakeKube()
    past = time.time() - age
    root = make_root(now=past)
    issuer = make_issuer(root, now=past, trust_domain="cluster.local")
    pem = root.certificate_pem
    kube.put("secrets", secret(ROOT, tls_crt=pem, tls_key=root.key_pem))
    kube.put(
        "secrets",
        secret(ISSUER, tls_crt=issuer.chain_pem, tls_key=issuer.key_pem, ca_crt=pem),
    )

    replicas = await asyncio.gather(*(started(kube) for _ in range(3)))

    assert len({r.trust.issuer.certificate for r in replicas}) == 1
    assert replicas[0].trust.ends > time.time() + 364 * DAY
    assert sum(r.reasons.count("IssuerRenewed") for r in replicas) == 1
    assert hash_bundle(bundle_of(kube)) == hash_bundle(pem)


async def test_an_ageing_brought_issuer_is_left_to_its_owner() -> None:
    kube, chain = FakeKube(), TrustChain(now=time.time() - 300 * DAY)
    bring(kube, chain)

    replica = await started(kube)

    assert replica.trust.issuer.certificate == chain.issuer.certificate


async def test_an_issuer_near_its_end_is_told_once() -> None:
    kube, chain = FakeKube(), TrustChain(now=time.time() - 364 * DAY)
    bring(kube, chain)

    replica = await started(kube)
    await replica.keeper.refresh()

    assert replica.reasons == ["IssuerEnding"]


async def test_files_are_used_instead_of_secrets_and_read_again(tmp_path: Path) -> None:
    kube, chain = FakeKube(), TrustChain()
    write_files(tmp_path, chain.issuer, chain.bundle)

    replica = await started(kube, issuer_dir=str(tmp_path))
    new = make_issuer(chain.root, now=time.time(), trust_domain="cluster.local")
    write_files(tmp_path, new, chain.bundle)
    await replica.keeper.refresh()
    (tmp_path / "tls.crt").unlink()
    await replica.keeper.refresh()

    assert replica.trust.issuer.certificate == new.certificate
    assert set(kube.objects) == {("configmaps", ROOTS)}
    assert replica.reasons == ["IssuerUpdated", "IssuerRefused"]


def write_files(folder: Path, issuer: Authority, roots: str) -> None:
    (folder / "tls.crt").write_text(issuer.chain_pem)
    (folder / "tls.key").write_text(issuer.key_pem)
    (folder / "ca.crt").write_text(roots)


async def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tls\.crt: expected a file in PEM, found none"):
        await Replica(FakeKube(), issuer_dir=str(tmp_path)).keeper.start()


async def test_missing_rights_stop_the_start() -> None:
    kube = FakeKube()
    kube.fail = ApiError(403, "Forbidden", "may not get secrets")

    with pytest.raises(ConfigError, match="may not get secrets"):
        await Replica(kube).keeper.start()


async def test_an_api_server_that_is_away_changes_nothing() -> None:
    kube = FakeKube()
    replica = await started(kube)
    old = replica.trust

    kube.fail = ApiError(0, "Unreachable", "no route")
    with pytest.raises(ApiError):
        await replica.keeper.refresh()

    assert replica.trust is old


async def test_writers_who_never_stop_are_an_error_not_a_hang() -> None:
    kube = FakeKube()
    root = (await started(kube)).trust.bundle.partition("\n")[2]

    def meddle() -> None:
        kube.edit("configmaps", ROOTS, **{KEY: root})  # without its stamp, again and again

    kube.before_write = meddle
    meddle()

    with pytest.raises(ApiError, match="other replicas keep changing"):
        await Replica(kube).keeper.refresh()
