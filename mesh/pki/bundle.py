"""Trust bundles as certificates: read and merge."""

from __future__ import annotations

from cryptography import x509

from mesh.core.errors import IdentityError
from mesh.runtime.bundle import join_bundle, split_bundle


def read_bundle(pem: str, *, where: str) -> list[x509.Certificate]:
    """The anchors, each once, in order. Raises IdentityError `bundle-invalid`."""
    try:
        return [x509.load_der_x509_certificate(der) for der in split_bundle(pem)]
    except (ValueError, x509.InvalidVersion) as error:
        raise IdentityError("bundle-invalid", f"{where}: {error}") from error


def merge_bundles(*bundles: str) -> str:
    """The certificates of all bundles, each once, in order; empty ones add nothing."""
    found: dict[bytes, None] = {}
    for pem in bundles:
        if pem.strip():
            found.update(dict.fromkeys(split_bundle(pem)))
    return join_bundle(list(found))
