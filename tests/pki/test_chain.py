"""Brought authorities: each fault is named, with what was expected and what came."""

from __future__ import annotations

import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mesh.core.errors import IdentityError
from mesh.core.names import WorkloadId
from mesh.pki.authority import (
    DAY,
    Authority,
    load_authority,
    make_issuer,
    make_root,
)
from mesh.pki.bundle import merge_bundles, read_bundle
from mesh.pki.chain import check_anchors, check_issuer
from mesh.pki.csr import key_pem, make_key
from mesh.pki.leaf import sign_leaf
from tests.support.authority import TrustChain, workload

ME = WorkloadId("cluster.local", "mesh", "mesh-identity")


def faults(issuer: Authority, *anchors: x509.Certificate, now: float | None = None) -> str:
    clock = time.time() if now is None else now
    return "\n".join(
        check_issuer(issuer, anchors, workload=ME, now=clock, where="issuer", prove=now is None)
    )


def test_an_issuer_under_its_root_is_fine() -> None:
    trust = TrustChain()

    assert faults(trust.issuer, trust.root.certificate) == ""
    assert check_anchors([trust.root.certificate], now=trust.now, where="roots") == []


def test_it_survives_being_written_and_read() -> None:
    trust = TrustChain()

    read = load_authority(
        trust.issuer.chain_pem + trust.bundle, trust.issuer.key_pem, where="issuer"
    )

    assert read.intermediates == ()
    assert faults(read, *read_bundle(trust.bundle, where="roots")) == ""


def test_a_chain_with_an_intermediate_and_an_rsa_root_works() -> None:
    now = time.time()
    root = make_root(now=now)
    key = rsa.generate_private_key(65537, 2048)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(root.certificate.subject)
        .issuer_name(root.certificate.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(root.certificate.not_valid_before_utc)
        .not_valid_after(root.certificate.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .sign(key, hashes.SHA256())
    )
    old = Authority(certificate, (), key)
    middle = make_issuer(old, now=now, trust_domain="cluster.local")
    wide = x509.BasicConstraints(True, 1)
    between = (
        x509.CertificateBuilder()
        .subject_name(middle.certificate.subject)
        .issuer_name(old.certificate.subject)
        .public_key(middle.certificate.public_key())
        .serial_number(8)
        .not_valid_before(middle.certificate.not_valid_before_utc)
        .not_valid_after(middle.certificate.not_valid_after_utc)
        .add_extension(wide, critical=True)
        .sign(key, hashes.SHA256())
    )
    issuer = make_issuer(Authority(between, (), middle.key), now=now, trust_domain="cluster.local")

    assert faults(issuer, certificate) == ""


def test_an_issuer_of_another_root_is_named_with_what_to_do() -> None:
    ours, theirs = TrustChain(), TrustChain()

    message = faults(theirs.issuer, ours.root.certificate)

    assert "issuer: expected a chain to a trust anchor" in message
    assert ours.root.certificate.subject.rfc4514_string() in message
    assert "add that root to the bundle first" in message


def test_a_root_with_the_same_name_and_another_key_does_not_pass() -> None:
    now = time.time()
    real, fake = (make_root(now=now, common_name="corp root") for _ in range(2))
    issuer = make_issuer(fake, now=now, trust_domain="cluster.local")

    assert "expected a chain" in faults(issuer, real.certificate)


def test_ended_and_future_certificates_are_told_with_their_time() -> None:
    trust = TrustChain(now=1_700_000_000.0)

    late = faults(trust.issuer, trust.root.certificate, now=trust.now + 400 * DAY)
    early = faults(trust.issuer, trust.root.certificate, now=trust.now - DAY)

    assert "ended at 2024-11-13" in late
    assert "starts at 2023-11-14" in early
    assert "check the clock" in early


def test_a_leaf_as_issuer_is_no_ca() -> None:
    trust = TrustChain()
    key = make_key()
    chain, _ = sign_leaf(trust.issuer, workload(), key.public_key(), now=trust.now, ends_before=9e9)

    message = faults(load_authority(chain, key_pem(key), where="x"), trust.root.certificate)

    assert "says CA:FALSE" in message


def test_an_issuer_for_another_trust_domain_is_refused_by_its_probe() -> None:
    now = time.time()
    root = make_root(now=now)
    issuer = make_issuer(root, now=now, trust_domain="other.example")

    assert "permitted subtree violation" in faults(issuer, root.certificate)


def test_an_intermediate_is_no_trust_anchor() -> None:
    trust = TrustChain()

    problems = check_anchors([trust.issuer.certificate], now=trust.now, where="roots.pem")

    assert "roots.pem: expected self-signed roots" in problems[0]
    assert "bring its root instead" in problems[0]


def test_a_key_of_another_certificate_is_refused() -> None:
    trust = TrustChain()

    with pytest.raises(IdentityError, match="expected the private key of"):
        load_authority(trust.issuer.chain_pem, trust.root.key_pem, where="issuer.crt")


@pytest.mark.parametrize("which", ["certificate", "key", "encrypted", "weak"])
def test_unreadable_input_names_the_file(which: str) -> None:
    trust = TrustChain()
    certificate, key = trust.issuer.chain_pem, trust.issuer.key_pem
    if which == "certificate":
        certificate = "no pem"
    elif which == "key":
        key = "no pem"
    elif which == "encrypted":
        key = trust.issuer.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        ).decode()
    else:
        key = (
            rsa.generate_private_key(65537, 1024)
            .private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            .decode()
        )

    with pytest.raises(IdentityError, match=r"^files/issuer: expected"):
        load_authority(certificate, key, where="files/issuer")


def test_bundles_merge_without_copies() -> None:
    one, two = TrustChain().bundle, TrustChain().bundle

    merged = merge_bundles(one, "", two, one)

    assert len(read_bundle(merged, where="x")) == 2
    with pytest.raises(IdentityError, match="x: expected at least one"):
        read_bundle("nothing", where="x")
