"""The certificates and keys of the embedded API server, made once and kept in its folder.

A cluster CA, a serving certificate for the server's names and addresses, a client
certificate for the administrator, and the key that signs service-account tokens. Not the
mesh's own trust: that is `mesh.pki`.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mesh.local.api.resources import Object
from mesh.local.api.users import MASTERS

_LIFE: Final = timedelta(days=3650)
_BACK: Final = timedelta(minutes=5)
NAMES: Final = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


@dataclass(frozen=True, slots=True)
class Files:
    """Where the parts lie: all PEM, keys with mode 0600."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def ca_key(self) -> Path:
        return self.folder / "ca.key"

    @property
    def server(self) -> Path:
        return self.folder / "server.crt"

    @property
    def server_key(self) -> Path:
        return self.folder / "server.key"

    @property
    def admin(self) -> Path:
        return self.folder / "admin.crt"

    @property
    def admin_key(self) -> Path:
        return self.folder / "admin.key"

    @property
    def tokens_key(self) -> Path:
        return self.folder / "service-accounts.key"


def ensure(folder: Path, addresses: Iterable[str]) -> Files:
    """Make what is missing. The serving certificate is made anew, for these addresses."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    files = Files(folder)
    if not files.ca.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("mesh-local-ca")
        _write(files.ca, _pem(_certificate(name, key, name, key, is_ca=True)))
        _write(files.ca_key, _key_pem(key))
    if not files.tokens_key.exists():
        _write(files.tokens_key, _key_pem(ec.generate_private_key(ec.SECP256R1())))
    ca = x509.load_pem_x509_certificate(files.ca.read_bytes())
    ca_key = load_key(files.ca_key)
    server_key = ec.generate_private_key(ec.SECP256R1())
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in NAMES]
    alternatives += [x509.IPAddress(ipaddress.ip_address(a)) for a in dict.fromkeys(addresses)]
    server = _certificate(
        _name("mesh-local-api"), server_key, ca.subject, ca_key, alternatives=alternatives
    )
    _write(files.server, _pem(server))
    _write(files.server_key, _key_pem(server_key))
    if not files.admin.exists():
        admin_key = ec.generate_private_key(ec.SECP256R1())
        subject = _name("kubernetes-admin", MASTERS)
        _write(files.admin, _pem(_certificate(subject, admin_key, ca.subject, ca_key)))
        _write(files.admin_key, _key_pem(admin_key))
    return files


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path}: expected an elliptic-curve key")
    return key


def kubeconfig(files: Files, url: str) -> Object:
    """A kubeconfig for the administrator, with everything inside it."""

    def data(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    name = "mesh-local"
    cluster = {"server": url, "certificate-authority-data": data(files.ca)}
    user = {
        "client-certificate-data": data(files.admin),
        "client-key-data": data(files.admin_key),
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }


def write_kubeconfig(path: Path, files: Files, url: str) -> None:
    """Write the kubeconfig with mode 0600 (JSON, which is YAML as well)."""
    _write(path, json.dumps(kubeconfig(files, url), indent=2).encode() + b"\n")


def _name(common: str, organization: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if organization:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(parts)


def _certificate(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    is_ca: bool = False,
    alternatives: list[x509.GeneralName] | None = None,
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACK)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
        .add_extension(_usage(is_ca=is_ca), critical=True)
    )
    if not is_ca:
        use = ExtendedKeyUsageOID.SERVER_AUTH if alternatives else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, data: bytes) -> None:
    fresh = path.with_name(path.name + ".new")
    opened = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(opened, "wb") as out:
        out.write(data)
    fresh.replace(path)
