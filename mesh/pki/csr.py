"""The key and the certificate signing request (RFC 2986) of a workload.

`python -m mesh.pki.csr KEY_FILE SPIFFE_URI` writes a P-256 key (PKCS#8, 0600) and prints the
request: the proxy runs it as a child so that it never imports cryptography itself. The URI in
the request is for people who look at it; identity takes names from the reviewed token only.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mesh.core.errors import IdentityError

MAX_CSR: Final = 8 * 1024  # bytes of PEM

_BLOCK: Final = re.compile(
    r"\s*-----BEGIN CERTIFICATE REQUEST-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE REQUEST-----\s*",
    re.ASCII,
)
_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


def make_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """The key as unencrypted PKCS#8 PEM (RFC 5958)."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode("ascii")


def build_csr(key: ec.EllipticCurvePrivateKey, uri: str) -> str:
    """A request in PEM, signed by `key`, with the SPIFFE URI as its only name."""
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(names, critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode("ascii")
    )


def make_request(key_file: Path, uri: str) -> str:
    """Write a fresh key to `key_file`, readable by us only, and give the request for it."""
    key = make_key()
    key_file.unlink(missing_ok=True)
    descriptor = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(key_pem(key))
    return build_csr(key, uri)


def verify_csr(pem: str) -> ec.EllipticCurvePublicKey:
    """The public key of a request that proves possession of the private one.

    Nothing else in the request is read: names, extensions and attributes have no effect.
    Raises IdentityError: `csr-too-large`, `csr-invalid`, `csr-key` (anything but P-256) or
    `csr-signature`.
    """
    if len(pem) > MAX_CSR:
        raise IdentityError(
            "csr-too-large", f"expected a request of at most {MAX_CSR} bytes, got {len(pem)}"
        )
    if _BLOCK.fullmatch(pem) is None:
        raise IdentityError("csr-invalid", "expected one PEM CERTIFICATE REQUEST")
    try:
        request = x509.load_pem_x509_csr(pem.encode("ascii"))
        key = request.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
            raise IdentityError("csr-key", "expected a P-256 key")
        is_signed = request.is_signature_valid and isinstance(
            request.signature_hash_algorithm, _HASHES
        )
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise IdentityError("csr-invalid", f"the request cannot be read: {error}") from error
    if not is_signed:
        raise IdentityError("csr-signature", "the request is not signed by its own key")
    return key


def main(arguments: list[str]) -> int:
    """Exit code 0 with the request on stdout, 1 when the key cannot be written, 2 for usage."""
    if len(arguments) != 2:
        print("usage: python -m mesh.pki.csr KEY_FILE SPIFFE_URI", file=sys.stderr)
        return 2
    try:
        sys.stdout.write(make_request(Path(arguments[0]), arguments[1]))
    except OSError as error:
        print(f"{arguments[0]}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
