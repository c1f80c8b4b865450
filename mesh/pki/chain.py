"""Whether an authority chains to the trust anchors, and if not, everything that is wrong.

Two looks at the same question: rules with messages for people, and a handshake in memory with
a probe leaf, since in the end OpenSSL decides what peers accept.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from cryptography import x509

from mesh.core.errors import IdentityError
from mesh.core.names import WorkloadId
from mesh.pki.authority import (
    Authority,
    certificate_pem,
    is_self_signed,
    is_signed,
    not_after,
    not_before,
    subject,
    when,
)
from mesh.pki.csr import key_pem, make_key
from mesh.pki.leaf import sign_leaf
from mesh.runtime import tls

_CLOCK_HINT = "check the clock of this machine"


def find_anchor(
    authority: Authority, anchors: Sequence[x509.Certificate]
) -> x509.Certificate | None:
    """The anchor that the authority's chain ends in, or None."""
    top = (authority.certificate, *authority.intermediates)[-1]
    return next((anchor for anchor in anchors if is_signed(top, by=anchor)), None)


def check_anchors(anchors: Sequence[x509.Certificate], *, now: float, where: str) -> list[str]:
    """What is wrong with trust anchors, each fault a sentence."""
    problems = []
    for anchor in anchors:
        if not is_self_signed(anchor):
            problems.append(
                f"{where}: expected self-signed roots, got {subject(anchor)} "
                f'issued by "{anchor.issuer.rfc4514_string()[:200]}"; bring its root instead'
            )
        problems += _check_authority(anchor, below=1, now=now, where=where)
    return problems


def check_issuer(
    issuer: Authority,
    anchors: Sequence[x509.Certificate],
    *,
    workload: WorkloadId,
    now: float,
    where: str,
    prove: bool = True,
) -> list[str]:
    """What is wrong with an issuer under these anchors, each fault a sentence; [] = it works.

    `workload` is whom the probe leaf names, usually identity itself: name constraints of a
    brought CA are proven with it. `prove=False` leaves the probe out, for a `now` that is not
    the clock's, which OpenSSL would use.
    """
    chain = (issuer.certificate, *issuer.intermediates)
    problems = []
    for index, certificate in enumerate(chain):
        problems += _check_authority(certificate, below=index, now=now, where=where)
    for child, parent in itertools.pairwise(chain):
        if not is_signed(child, by=parent):
            problems.append(
                f"{where}: expected {subject(child)} to be signed by the next certificate, "
                f"{subject(parent)}; put the chain in order, issuer first"
            )
    anchor = find_anchor(issuer, anchors)
    if anchor is None:
        known = ", ".join(subject(a) for a in anchors[:5]) or "none"
        problems.append(
            f"{where}: expected a chain to a trust anchor ({known}), but {subject(chain[-1])} "
            f'was issued by "{chain[-1].issuer.rfc4514_string()[:200]}"; '
            "add that root to the bundle first"
        )
    elif anchor != chain[-1]:
        problems += _check_authority(anchor, below=len(chain), now=now, where=f"{where}: anchor")
    if not problems and prove:
        problems += _prove(issuer, anchors, workload=workload, now=now, where=where)
    return problems


def _check_authority(
    certificate: x509.Certificate, *, below: int, now: float, where: str
) -> list[str]:
    """Faults of one CA certificate with `below` more CAs between it and a leaf."""
    name = subject(certificate)
    problems = []
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        if not basic.ca:
            problems.append(f"{where}: expected a CA, but {name} says CA:FALSE")
        elif basic.path_length is not None and basic.path_length < below:
            problems.append(
                f"{where}: {name} allows {basic.path_length} CAs below it, the chain has {below}"
            )
    except x509.ExtensionNotFound:
        problems.append(f"{where}: expected a CA, but {name} has no basic constraints")
    except ValueError as error:
        return [f"{where}: {name} has extensions that cannot be read: {error}"]
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        if not usage.key_cert_sign:
            problems.append(f"{where}: {name} may not sign certificates (key usage)")
    except x509.ExtensionNotFound:
        pass  # absent means any usage (RFC 5280 §4.2.1.3)
    if now >= not_after(certificate):
        problems.append(f"{where}: {name} ended at {when(not_after(certificate))}; replace it")
    if now < not_before(certificate):
        problems.append(f"{where}: {name} starts at {when(not_before(certificate))}; {_CLOCK_HINT}")
    return problems


def _prove(
    issuer: Authority,
    anchors: Sequence[x509.Certificate],
    *,
    workload: WorkloadId,
    now: float,
    where: str,
) -> list[str]:
    key = make_key()
    bundle = "".join(certificate_pem(anchor) for anchor in anchors)
    try:
        chain, _ = sign_leaf(issuer, workload, key.public_key(), now=now, ends_before=now + 60)
        with _as_file(key_pem(key) + chain) as leaf:
            tls.prove_leaf(
                tls.client_context(bundle, leaf), tls.server_context(bundle, leaf), workload
            )
    except IdentityError as error:
        return [f"{where}: a leaf signed by it is refused: {error}"]
    return []


@contextlib.contextmanager
def _as_file(text: str) -> Iterator[Path]:
    """A file that OpenSSL can load: in memory where the system has that, since identity runs on
    a read-only root without a temporary folder."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("leaf"), "w") as file:
            file.write(text)
            file.flush()
            yield Path(f"/proc/self/fd/{file.fileno()}")
        return
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(text)
        file.flush()
        yield Path(file.name)
