"""Checks of the trust chain: anchors, the issuer beneath them, and how long they last."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mesh.check.facts import Facts
from mesh.check.model import Category, Check, Fault, Severity
from mesh.core import labels
from mesh.core.errors import ApiError

_DAY: Final = 86400.0
_SOON: Final = 60 * _DAY
_CERTIFICATE_KEYS: Final = ("tls.crt", "crt.pem", "issuer.crt", "ca.crt")
_SUPPORTED_CURVES: Final = ("secp256r1", "secp384r1")


def anchors_are_readable(facts: Facts) -> Iterator[Fault]:
    name = _roots(facts)
    if facts.trust_roots.is_missing:
        yield Fault(name, "there is none; identity makes it when it first starts", _logs(facts))
        return
    try:
        certificates = read_anchors(facts)
    except ValueError as error:
        remedy = f"delete it and restart {labels.IDENTITY}, which writes it anew"
        yield Fault(name, f"key {labels.TRUST_ROOTS_KEY}: {error}", remedy)
        return
    for certificate in certificates:
        if not _is_supported(certificate):
            what = f"{_title(certificate)}: expected a P-256, P-384 or RSA key of 2048 bits or more"
            yield Fault(name, what, "bring an anchor with such a key")


def anchors_are_valid(facts: Facts) -> Iterator[Fault]:
    certificates = read_anchors(facts)
    bad = [text for c in certificates if (text := _out_of_time(c, facts.now))]
    for text in bad:
        remedy = "leaves beneath it are refused by every proxy: bring a new anchor and issuer"
        yield Fault(_roots(facts), text, remedy, minor=len(bad) < len(certificates))


def anchors_last(facts: Facts) -> Iterator[Fault]:
    for certificate in read_anchors(facts):
        text = _ends_soon(certificate, facts.now)
        if text:
            yield Fault(_roots(facts), text, "bring a new anchor before that day")


def issuer_is_valid(facts: Facts) -> Iterator[Fault]:
    """From the Secret where it may be read; else from what TLS with identity proves."""
    issuer = _issuer_or_none(facts)
    if issuer is None:
        yield from _handshake_faults(facts)
        return
    text = _out_of_time(issuer, facts.now)
    if text:
        remedy = "no leaf can be signed: bring a valid issuer, or delete the Secret and restart"
        yield Fault(_issuer(facts), text, f"{remedy} {labels.IDENTITY}")
    fault = _chain_fault(issuer, read_anchors(facts))
    if fault:
        remedy = f"issuer and anchors must belong together: {_roots(facts)} lacks its anchor"
        yield Fault(_issuer(facts), f"{_title(issuer)} {fault}", remedy)


def issuer_lasts(facts: Facts) -> Iterator[Fault]:
    issuer = _issuer_or_none(facts)
    text = _ends_soon(issuer, facts.now) if issuer else ""
    if text:
        yield Fault(_issuer(facts), text, "bring a new issuer before that day")


def read_anchors(facts: Facts) -> list[x509.Certificate]:
    """The certificates of the trust bundle. Raises ValueError or ApiError."""
    data = facts.trust_roots.value.get("data") or {}
    text = data.get(labels.TRUST_ROOTS_KEY)
    if not text:
        raise ValueError(f"expected PEM certificates, got nothing; found keys {sorted(data)}")
    try:
        return x509.load_pem_x509_certificates(str(text).encode())
    except ValueError as error:
        raise ValueError(f"expected PEM certificates: {error}") from error


def _issuer_or_none(facts: Facts) -> x509.Certificate | None:
    """The issuer's certificate; None when its Secret may not be read."""
    if facts.issuer.error is not None and facts.issuer.error.code in (401, 403):
        return None
    data = facts.issuer.value.get("data") or {}
    for key in _CERTIFICATE_KEYS:
        if key not in data:
            continue
        try:
            return x509.load_pem_x509_certificates(base64.b64decode(data[key], validate=True))[0]
        except (ValueError, binascii.Error) as error:
            raise ApiError(0, "BadCertificate", f"{_issuer(facts)}: {key}: {error}") from error
    raise ApiError(0, "BadCertificate", f"{_issuer(facts)}: expected key tls.crt, got none")


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


def _chain_fault(issuer: x509.Certificate, anchors: list[x509.Certificate]) -> str:
    if not _is_authority(issuer):
        return "is no certificate authority (basic constraints, RFC 5280 §4.2.1.9)"
    for anchor in anchors:
        try:
            issuer.verify_directly_issued_by(anchor)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return ""
    return "is signed by no anchor of the bundle"


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _is_supported(certificate: x509.Certificate) -> bool:
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.curve.name in _SUPPORTED_CURVES
    return isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048


def _out_of_time(certificate: x509.Certificate, now: float) -> str:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > ends.timestamp():
        return f"{_title(certificate)} expired on {_date(ends)}"
    if now < begins.timestamp():
        return f"{_title(certificate)} is valid from {_date(begins)} only"
    return ""


def _ends_soon(certificate: x509.Certificate, now: float) -> str:
    """Within 60 days, or the last fifth of a life that is shorter than 300."""
    begins = certificate.not_valid_before_utc.timestamp()
    ends = certificate.not_valid_after_utc.timestamp()
    left = ends - now
    if left <= 0 or left >= min(_SOON, (ends - begins) / 5):
        return ""
    days = f"{left / _DAY:.0f} days" if left > 2 * _DAY else f"{left / 3600:.0f} hours"
    return f"{_title(certificate)} expires in {days}, on {_date(certificate.not_valid_after_utc)}"


def _title(certificate: x509.Certificate) -> str:
    subject = certificate.subject.rfc4514_string() or "without a subject"
    return f"certificate {subject} (serial {certificate.serial_number:x})"


def _date(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


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
        Check("trust anchors are within their time", anchors_are_valid),
        Check("trust anchors last for 60 days", anchors_last, Severity.WARNING),
        Check("the issuer is valid and beneath an anchor", issuer_is_valid, retryable=True),
        Check("the issuer lasts for 60 days", issuer_lasts, Severity.WARNING),
    ),
)
