"""Root, issuer and leaf as OpenSSL sees them."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest
from cryptography import x509

from mesh.core.errors import IdentityError
from mesh.core.names import WorkloadId
from mesh.pki.authority import DAY, Authority, make_issuer, make_root, not_after, not_before
from mesh.pki.csr import make_key
from mesh.pki.leaf import sign_leaf
from tests.pki.openssl import text, verify
from tests.support.authority import TrustChain, workload

FOREVER = 1e12


def leaf_of(issuer: Authority, whose: WorkloadId, *, now: float = 0.0) -> str:
    key = make_key().public_key()
    return sign_leaf(issuer, whose, key, now=now or time.time(), ends_before=FOREVER)[0]


def first(chain: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(chain.encode())


@pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
def test_openssl_strictly_verifies_our_chain(tmp_path: Path, purpose: str) -> None:
    trust = TrustChain()

    chain = leaf_of(trust.issuer, workload())

    assert verify(tmp_path, root=trust.bundle, chain=chain, purpose=purpose).endswith(": OK")


def test_the_leaf_says_what_it_should_and_no_more() -> None:
    trust = TrustChain()

    shown = text(leaf_of(trust.issuer, workload()))

    for expected in (
        "Subject: \n",
        "ASN1 OID: prime256v1",
        "Signature Algorithm: ecdsa-with-SHA256",
        "X509v3 Basic Constraints: critical\n                CA:FALSE",
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "TLS Web Server Authentication, TLS Web Client Authentication\n",
        "X509v3 Subject Alternative Name: critical\n                "
        "DNS:web.shop.serviceaccount.identity.mesh.cluster.local, "
        "URI:spiffe://cluster.local/ns/shop/sa/web\n",
    ):
        assert expected in shown


def test_root_and_issuer_carry_their_limits() -> None:
    trust = TrustChain()

    root, issuer = text(trust.root.certificate_pem), text(trust.issuer.certificate_pem)

    assert "CA:TRUE, pathlen:1" in root
    assert "CA:TRUE, pathlen:0" in issuer
    assert "Permitted:\n                  DNS:cluster.local\n" in issuer
    assert "URI:cluster.local" in issuer
    for shown in (root, issuer):
        assert "X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign" in shown


def test_times_of_root_issuer_and_leaf() -> None:
    now = float(int(time.time()))
    trust = TrustChain(now=now)

    leaf = first(leaf_of(trust.issuer, workload(), now=now))

    assert not_after(trust.root.certificate) == now + 3650 * DAY
    assert not_after(trust.issuer.certificate) == now + 365 * DAY
    assert (not_before(leaf), not_after(leaf)) == (now - 300, now + DAY)


def test_a_leaf_never_outlives_issuer_or_root() -> None:
    now = float(int(time.time()))
    root = make_root(now=now, life=7200)
    issuer = make_issuer(root, now=now, trust_domain="cluster.local")
    short = make_issuer(root, now=now, trust_domain="cluster.local", life=600)

    assert issuer.not_after == now + 7200
    assert not_after(first(leaf_of(issuer, workload()))) == now + 7200
    assert not_after(first(leaf_of(short, workload()))) == now + 600
    key = make_key().public_key()
    _, end = sign_leaf(short, workload(), key, now=now, ends_before=now + 60)
    assert end == now + 60


def test_an_ended_issuer_signs_nothing() -> None:
    trust = TrustChain()

    with pytest.raises(IdentityError) as caught:
        leaf_of(trust.issuer, workload(), now=trust.now + 366 * DAY)

    assert caught.value.reason == "issuer-expired"
    with pytest.raises(IdentityError, match="the trust anchor ended"):
        make_issuer(trust.root, now=trust.now + 3651 * DAY, trust_domain="cluster.local")


def test_serials_are_128_random_bits() -> None:
    trust = TrustChain()
    key = make_key().public_key()

    serials = [
        first(sign_leaf(trust.issuer, workload(), key, now=1.0, ends_before=9e9)[0]).serial_number
        for _ in range(50)
    ]

    assert len(set(serials)) == 50
    assert 116 <= max(s.bit_length() for s in serials) <= 128


@pytest.mark.parametrize(
    "account", ["a" * 64, "b" * 253, ".".join(["c" * 55] * 4)], ids=["label", "all", "total"]
)
def test_a_name_too_long_for_dns_gets_a_uri_only(tmp_path: Path, account: str) -> None:
    trust = TrustChain()

    chain = leaf_of(trust.issuer, workload(account))

    names = first(chain).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [n.value for n in names] == [f"spiffe://cluster.local/ns/shop/sa/{account}"]
    assert verify(tmp_path, root=trust.bundle, chain=chain).endswith(": OK")


@pytest.mark.parametrize("domain", ["evil.local", "xcluster.local", "cluster.local.evil"])
def test_an_issuer_cannot_sign_for_another_trust_domain(tmp_path: Path, domain: str) -> None:
    trust = TrustChain()
    both = leaf_of(trust.issuer, workload(trust_domain=domain))
    uri_only = leaf_of(trust.issuer, workload("a" * 64, trust_domain=domain))

    for chain in (both, uri_only):
        assert "permitted subtree violation" in verify(tmp_path, root=trust.bundle, chain=chain)


def test_a_stolen_issuer_cannot_make_another_issuer(tmp_path: Path) -> None:
    trust = TrustChain()
    below = make_issuer(trust.issuer, now=trust.now, trust_domain="cluster.local")

    chain = leaf_of(below, workload())

    assert "path length constraint exceeded" in verify(tmp_path, root=trust.bundle, chain=chain)


def test_a_leaf_cannot_sign(tmp_path: Path) -> None:
    trust = TrustChain()
    key = make_key()
    pem, _ = sign_leaf(
        trust.issuer, workload("a"), key.public_key(), now=trust.now, ends_before=FOREVER
    )
    forger = dataclasses.replace(trust.issuer, certificate=first(pem), key=key)
    forged = leaf_of(forger, workload("b")) + trust.issuer.chain_pem

    assert "verification failed" in verify(tmp_path, root=trust.bundle, chain=forged)
