"""Requests: what proves possession of a P-256 key, and everything that does not."""

from __future__ import annotations

import base64
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from mesh.core.errors import IdentityError
from mesh.pki.csr import MAX_CSR, build_csr, make_key, verify_csr
from tests.pki.openssl import openssl
from tests.support.authority import workload

URI = workload().uri()


def der_to_pem(der: bytes) -> str:
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n"


def pem_to_der(pem: str) -> bytes:
    return base64.b64decode("".join(pem.split("-----")[2].split()))


def signed_by(key: object, algorithm: hashes.HashAlgorithm | None) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name)
    return (
        request.sign(key, algorithm)  # type: ignore[arg-type]
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )


def reason_of(pem: str) -> str:
    with pytest.raises(IdentityError) as caught:
        verify_csr(pem)
    return caught.value.reason


def test_our_own_request_verifies_here_and_in_openssl() -> None:
    key = make_key()

    pem = build_csr(key, URI)

    assert verify_csr(pem).public_numbers() == key.public_key().public_numbers()
    assert "self-signature verify OK" in openssl("req", "-verify", "-noout", stdin=pem)


def made_by_openssl(*options: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        key, out = f"{folder}/key.pem", f"{folder}/csr.pem"
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        openssl("req", "-new", "-key", key, "-subj", "/CN=any", "-out", out, "-batch", *options)
        return Path(out).read_text()


def test_a_request_made_by_openssl_verifies() -> None:
    assert verify_csr(made_by_openssl()).curve.name == "secp256r1"


def test_only_p256_keys_are_taken() -> None:
    weak = rsa.generate_private_key(65537, 1024)
    strong = rsa.generate_private_key(65537, 2048)

    assert reason_of(signed_by(weak, hashes.SHA256())) == "csr-key"
    assert reason_of(signed_by(strong, hashes.SHA256())) == "csr-key"
    assert reason_of(signed_by(dsa.generate_private_key(1024), hashes.SHA256())) == "csr-key"
    assert reason_of(signed_by(ed25519.Ed25519PrivateKey.generate(), None)) == "csr-key"
    for curve in (ec.SECP384R1(), ec.SECP521R1(), ec.SECP256K1(), ec.SECP192R1()):
        assert reason_of(signed_by(ec.generate_private_key(curve), hashes.SHA256())) == "csr-key"


def test_a_weak_hash_proves_nothing() -> None:
    assert reason_of(made_by_openssl("-sha1")) == "csr-signature"


def point_of(request: bytes) -> bytes:
    """The P-256 point in a CSR. Where it stands depends on the length of the signature."""
    start = request.index(b"\x03\x42\x00\x04") + 4
    return request[start : start + 64]


def test_a_request_for_the_key_of_somebody_else_is_refused() -> None:
    mine, theirs = (pem_to_der(build_csr(make_key(), URI)) for _ in range(2))

    forged = mine.replace(point_of(mine), point_of(theirs))

    assert reason_of(der_to_pem(forged)) == "csr-signature"


def test_size_is_limited_before_anything_is_parsed() -> None:
    pem = build_csr(make_key(), URI)

    assert reason_of(pem + "\n" * MAX_CSR) == "csr-too-large"
    assert reason_of("A" * 10_000_000) == "csr-too-large"


@pytest.mark.parametrize(
    "junk",
    ["", "x", "-----BEGIN CERTIFICATE REQUEST-----", der_to_pem(b""), der_to_pem(b"\x30\x80")],
)
def test_junk_is_refused(junk: str) -> None:
    assert reason_of(junk) == "csr-invalid"


def test_two_requests_in_one_are_refused() -> None:
    pem = build_csr(make_key(), URI)

    assert reason_of(pem + pem) == "csr-invalid"
    assert reason_of("Subject: me\n" + pem) == "csr-invalid"


def test_no_mutated_request_proves_another_key() -> None:
    """1,000 byte-level mutants: each is refused, or still is about the very same key."""
    key = make_key()
    der = pem_to_der(build_csr(key, URI))
    numbers = key.public_key().public_numbers()
    seed = int.from_bytes(os.urandom(4))
    chance = random.Random(seed)

    for _ in range(1000):
        mutant = bytearray(der)
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(mutant))
            match chance.randrange(4):
                case 0:
                    mutant[place] ^= 1 << chance.randrange(8)
                case 1:
                    mutant[place:place] = chance.randbytes(chance.randint(1, 9))
                case 2:
                    del mutant[place : place + chance.randint(1, 9)]
                case 3:
                    mutant[place] = chance.randrange(256)
        try:
            accepted = verify_csr(der_to_pem(bytes(mutant)))
        except IdentityError:
            continue
        assert accepted.public_numbers() == numbers, f"seed {seed}"


def test_the_child_writes_a_private_key_and_prints_its_request(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text("an older key")

    done = subprocess.run(
        [sys.executable, "-m", "mesh.pki.csr", str(path), URI], capture_output=True, text=True
    )

    key = serialization.load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert path.stat().st_mode & 0o777 == 0o600
    assert "BEGIN PRIVATE KEY" in path.read_text()  # PKCS#8
    assert verify_csr(done.stdout).public_numbers() == key.public_key().public_numbers()


def test_the_child_says_in_one_line_why_it_failed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mesh.pki.csr", str(tmp_path / "no" / "key"), URI],
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "No such file" in done.stderr
