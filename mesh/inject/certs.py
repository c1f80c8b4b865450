"""The webhook's own CA and serving certificate: made, read, judged. No I/O.

The CA signs one certificate and its key is thrown away; a renewal makes a new CA. The bundle
in the Secret holds the new CA and the one before, so that a replica which still serves the
old certificate is trusted until it has read the new one.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mesh.core import labels
from mesh.core.errors import IdentityError
from mesh.pki.authority import authority_key_id, certificate_pem, make_root, start_builder
from mesh.pki.csr import key_pem, make_key

LIFE: Final = 365 * 86_400.0  # seconds
RENEW_AT: Final = 0.70  # of a certificate's life
CA_KEY, CERT_KEY, PRIVATE_KEY = "ca.crt", "tls.crt", "tls.key"


@dataclass(frozen=True)
class Serving:
    """What the webhook serves with, and what the API server must trust. All PEM."""

    ca: str
    certificate: str
    key: str
    not_before: float  # unix seconds
    not_after: float

    @property
    def renew_at(self) -> float:
        return self.not_before + RENEW_AT * (self.not_after - self.not_before)

    @property
    def ca_bundle(self) -> str:
        """As webhook configurations carry it."""
        return base64.b64encode(self.ca.encode()).decode("ascii")


def make_serving(
    names: Sequence[str], *, now: float, life: float = LIFE, previous: Serving | None = None
) -> Serving:
    """A fresh CA and a certificate for DNS `names`; `previous` stays trusted beside it."""
    root = make_root(now=now, life=life, common_name=f"mesh webhook {now:.0f}")
    key = make_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    builder = start_builder(
        subject, root.certificate.subject, key.public_key(), now=now, end=now + life
    )
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(authority_key_id(root.certificate), critical=False)
        .sign(root.key, hashes.SHA256())
    )
    older = certificate_pem(first_certificate(previous.ca)) if previous else ""
    return _serving(
        root.certificate_pem + older, certificate_pem(certificate), key_pem(key), certificate
    )


def read_secret(secret: Mapping[str, Any], names: Sequence[str]) -> Serving:
    """The serving credentials in a Secret. Raises IdentityError when they cannot be used."""
    data = secret.get("data") or {}
    try:
        ca, text, key = (
            base64.b64decode(data[name], validate=True).decode("ascii")
            for name in (CA_KEY, CERT_KEY, PRIVATE_KEY)
        )
        certificate = first_certificate(text)
        private = serialization.load_pem_private_key(key.encode(), password=None)
        certificate.verify_directly_issued_by(first_certificate(ca))
    except (KeyError, ValueError, TypeError, binascii.Error, InvalidSignature) as error:
        raise IdentityError(
            "serving-invalid", f"Secret {labels.INJECT_SECRET}: cannot be used: {error!r}"
        ) from error
    if private.public_key() != certificate.public_key():
        raise IdentityError("serving-invalid", f"Secret {labels.INJECT_SECRET}: wrong key")
    if not set(names) <= set(_dns_names(certificate)):
        raise IdentityError(
            "serving-invalid", f"Secret {labels.INJECT_SECRET}: expected a certificate for {names}"
        )
    return _serving(ca, text, key, certificate)


def write_secret(serving: Serving, namespace: str) -> dict[str, Any]:
    """The Secret that `read_secret` reads."""
    texts = {CA_KEY: serving.ca, CERT_KEY: serving.certificate, PRIVATE_KEY: serving.key}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": labels.INJECT_SECRET,
            "namespace": namespace,
            "labels": {labels.L_PART_OF: labels.PART_OF},
        },
        "type": "kubernetes.io/tls",
        "data": {k: base64.b64encode(t.encode()).decode("ascii") for k, t in texts.items()},
    }


def service_names(namespace: str, cluster_domain: str) -> list[str]:
    """The names by which the API server and people call the webhook."""
    short = f"{labels.INJECT}.{namespace}.svc"
    return [short, f"{short}.{cluster_domain}"]


def first_certificate(pem: str) -> x509.Certificate:
    """Raises ValueError."""
    return x509.load_pem_x509_certificates(pem.encode())[0]


def _serving(ca: str, text: str, key: str, certificate: x509.Certificate) -> Serving:
    return Serving(
        ca,
        text,
        key,
        _seconds(certificate.not_valid_before_utc),
        _seconds(certificate.not_valid_after_utc),
    )


def _dns_names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return found.value.get_values_for_type(x509.DNSName)


def _seconds(moment: dt.datetime) -> float:
    return moment.timestamp()
