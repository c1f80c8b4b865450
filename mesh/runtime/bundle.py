"""The trust bundle as text: its certificates, its hash, its version, which of two is newer.

A bundle is concatenated PEM. identity stamps it with one comment line before the first
certificate, `# mesh-bundle version=<unix milliseconds> sha256=<hash>`, which PEM readers skip;
so the version travels with the text through ConfigMap, environment and stream. A stamp whose
hash does not fit the certificates (the text was edited by hand) counts as no stamp. Pure, and
without X.509: what a certificate says is for `mesh.pki`.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from mesh.core.digest import sha256

MAX_BUNDLE: Final = 64 * 1024  # bytes; one environment variable holds at most 128 KiB

_BLOCK = re.compile(
    r"-----BEGIN CERTIFICATE-----\s([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----", re.ASCII
)
_STAMP = re.compile(r"^# mesh-bundle version=(\d{1,15}) sha256=([0-9a-f]{64})$", re.M)


def split_bundle(pem: str) -> list[bytes]:
    """The certificates as DER, each once, in order. Text between them is skipped.

    Raises ValueError when there is none, when one is not base64, or when the text is too long.
    """
    if len(pem) > MAX_BUNDLE:
        raise ValueError(f"expected a bundle of at most {MAX_BUNDLE} bytes, got {len(pem)}")
    found: dict[bytes, None] = {}
    for block in _BLOCK.finditer(pem):
        try:
            found[base64.b64decode("".join(block[1].split()), validate=True)] = None
        except binascii.Error as error:
            raise ValueError(f"expected base64 inside a certificate: {error}") from error
    if not found:
        raise ValueError("expected at least one PEM certificate, got none")
    return list(found)


def join_bundle(certificates: list[bytes]) -> str:
    """DER certificates as one PEM text, without a stamp."""
    return "".join(_pem_block(der) for der in certificates)


def hash_bundle(pem: str) -> str:
    """SHA-256 over the set of certificates, in hex: order, copies and comments do not count.

    Empty text or one without certificates gives the empty string.
    """
    try:
        certificates = split_bundle(pem)
    except ValueError:
        return ""
    digests = sorted(sha256(der).digest() for der in certificates)
    return sha256(b"".join(digests)).hexdigest()


def stamp_bundle(pem: str, version: int) -> str:
    """The same certificates under a fresh stamp. `version` is in unix milliseconds."""
    body = join_bundle(split_bundle(pem))
    return f"# mesh-bundle version={version} sha256={hash_bundle(body)}\n{body}"


def bundle_version(pem: str) -> int | None:
    """The version of a stamped bundle; None without a stamp or with one that does not fit."""
    match = _STAMP.search(pem[:MAX_BUNDLE])
    if match is None or match[2] != hash_bundle(pem):
        return None
    return int(match[1])


def is_older(pem: str, than: str) -> bool:
    """Whether both bundles carry a version and `pem` has the lower one."""
    mine, other = bundle_version(pem), bundle_version(than)
    return mine is not None and other is not None and mine < other


def choose_bundle(given: str, stored: str, superseded: str) -> str:
    """The newer of the bundle this process was `given` and the one an earlier run `stored`.

    Versions decide when both have one. Otherwise `superseded` does: the hash of the bundle
    that was given when `stored` was pushed. Still given the same, the push came later; given
    another, the environment was written anew since (a restart that re-read a ConfigMap).
    """
    if not hash_bundle(stored):
        return given
    if not hash_bundle(given):
        return stored
    if bundle_version(given) is not None and bundle_version(stored) is not None:
        return given if is_older(stored, given) else stored
    return stored if superseded == hash_bundle(given) else given


def _pem_block(der: bytes) -> str:
    text = base64.b64encode(der).decode("ascii")
    lines = (text[i : i + 64] for i in range(0, len(text), 64))
    return "-----BEGIN CERTIFICATE-----\n" + "\n".join(lines) + "\n-----END CERTIFICATE-----\n"
