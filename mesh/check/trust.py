"""Checks of the trust chain: anchors, the issuer beneath them, and how long they last.

What makes a chain good is said by `mesh.pki.chain`, the code by which identity itself accepts
an issuer; here it becomes faults with remedies.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Final

from cryptography import x509

from mesh.check.facts import Facts
from mesh.check.model import Category, Check, Fault, Severity
from mesh.core import labels
from mesh.core.errors import ApiError, IdentityError
from mesh.core.names import WorkloadId
from mesh.pki.authority import (
    Authority,
    is_self_signed,
    load_certificates,
    not_after,
    not_before,
    subject,
    when,
)
from mesh.pki.bundle import read_bundle
from mesh.pki.chain import check_anchors, check_issuer
from mesh.pki.csr import make_key

_DAY: Final = 86400.0
_SOON: Final = 60 * _DAY
CERTIFICATE_KEY: Final = "tls.crt"


def anchors_are_readable(facts: Facts) -> Iterator[Fault]:
    if facts.trust_roots.is_missing:
        what = "there is none; identity writes it when it first starts"
        yield Fault(_roots(facts), what, _logs(facts))
        return
    try:
        read_anchors(facts)
    except IdentityError as error:
        remedy = f"delete it and restart {labels.IDENTITY}, which writes it anew"
        yield Fault(_roots(facts), _bare(str(error), _roots(facts)), remedy)


def anchors_are_valid(facts: Facts) -> Iterator[Fault]:
    """One bad anchor beside a good one is a warning."""
    name, anchors = _roots(facts), read_anchors(facts)
    bad = {
        anchor: problems
        for anchor in anchors
        if (problems := check_anchors([anchor], now=facts.now, where=name))
    }
    for problems in bad.values():
        for problem in problems:
            remedy = "every proxy refuses leaves beneath it: bring a new anchor and issuer"
            yield Fault(name, _bare(problem, name), remedy, minor=len(bad) < len(anchors))


def anchors_last(facts: Facts) -> Iterator[Fault]:
    for anchor in read_anchors(facts):
        text = _ends_soon(anchor, facts.now)
        if text:
            yield Fault(_roots(facts), text, "bring a new anchor before that day")


def issuer_is_valid(facts: Facts) -> Iterator[Fault]:
    """From the Secret where it may be read; else from what TLS with identity proves."""
    chain = _issuer_chain(facts)
    if chain is None:
        yield from _handshake_faults(facts)
        return
    # The real key stays in the cluster; a chain is judged without it.
    above = tuple(certificate for certificate in chain[1:] if not is_self_signed(certificate))
    issuer = Authority(chain[0], above, make_key())
    whose = WorkloadId(labels.TRUST_DOMAIN, facts.mesh_namespace, labels.IDENTITY)
    name = _issuer(facts)
    for problem in check_issuer(
        issuer, read_anchors(facts), workload=whose, now=facts.now, where=name, prove=False
    ):
        remedy = "no leaf of it is trusted: bring an issuer that chains to an anchor of the bundle"
        yield Fault(name, _bare(problem, name), remedy)


def issuer_lasts(facts: Facts) -> Iterator[Fault]:
    for certificate in _issuer_chain(facts) or ():
        text = _ends_soon(certificate, facts.now)
        if text:
            yield Fault(_issuer(facts), text, "bring a new issuer before that day")


def read_anchors(facts: Facts) -> list[x509.Certificate]:
    """The certificates of the trust bundle. Raises IdentityError or ApiError."""
    data = facts.trust_roots.value.get("data") or {}
    where = f"{_roots(facts)}: key {labels.TRUST_ROOTS_KEY}"
    return read_bundle(str(data.get(labels.TRUST_ROOTS_KEY) or ""), where=where)


def _issuer_chain(facts: Facts) -> list[x509.Certificate] | None:
    """The issuer's certificate and its intermediates; None when the Secret may not be read."""
    if facts.issuer.error is not None and facts.issuer.error.code in (401, 403):
        return None
    text = (facts.issuer.value.get("data") or {}).get(CERTIFICATE_KEY)
    where = f"{_issuer(facts)}: key {CERTIFICATE_KEY}"
    try:
        pem = base64.b64decode(str(text or ""), validate=True).decode("ascii", "replace")
        return load_certificates(pem, where=where)
    except binascii.Error as error:
        raise ApiError(0, "BadCertificate", f"{where}: expected base64: {error}") from error
    except IdentityError as error:
        raise ApiError(0, "BadCertificate", str(error)) from error


def _handshake_faults(facts: Facts) -> Iterator[Fault]:
    broken = [item for item in facts.handshakes if item.error.startswith("certificate")]
    for item in broken:
        name = f"pod {facts.mesh_namespace}/{item.pod}"
        yield Fault(name, f"its own leaf does not prove itself: {item.error}", _logs(facts))
    if not broken and not any(item.leaf for item in facts.handshakes):
        yield Fault(
            _issuer(facts),
            "may not be read, and no identity pod can be reached from here to ask it",
            "have the right to get this Secret granted, or check from inside the cluster",
            minor=True,
        )


def _ends_soon(certificate: x509.Certificate, now: float) -> str:
    """Within 60 days, or within the last fifth of a life that is shorter than 300."""
    ends = not_after(certificate)
    left = ends - now
    if left <= 0 or left >= min(_SOON, (ends - not_before(certificate)) / 5):
        return ""
    time = f"{left / _DAY:.0f} days" if left > 2 * _DAY else f"{left / 3600:.0f} hours"
    return f"{subject(certificate)} ends in {time}, at {when(ends)}"


def _bare(problem: str, name: str) -> str:
    return problem.removeprefix(f"{name}: ")


def _roots(facts: Facts) -> str:
    return f"ConfigMap {facts.mesh_namespace}/{labels.TRUST_ROOTS}"


def _issuer(facts: Facts) -> str:
    return f"Secret {facts.mesh_namespace}/{labels.ISSUER_SECRET}"


def _logs(facts: Facts) -> str:
    return f"`kubectl -n {facts.mesh_namespace} logs deploy/{labels.IDENTITY}`"


TRUST: Final = Category(
    "mesh-trust",
    (
        Check("trust anchors can be read", anchors_are_readable, Severity.FATAL, retryable=True),
        Check("trust anchors are valid", anchors_are_valid),
        Check("trust anchors last for 60 days", anchors_last, Severity.WARNING),
        Check("the issuer is valid and beneath an anchor", issuer_is_valid, retryable=True),
        Check("the issuer lasts for 60 days", issuer_lasts, Severity.WARNING),
    ),
)
