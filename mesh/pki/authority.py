"""Trust anchor and issuer: made here, or brought by the operator and read from PEM.

An anchor signs issuers and nothing else (path length 1); an issuer signs leaves (path length
0) and only for names of its trust domain (RFC 5280 §4.2.1.10), so a stolen issuer key is worth
nothing outside it. Checking that a brought issuer chains is in `mesh.pki.chain`.
"""

from __future__ import annotations

import datetime as dt
import secrets
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from mesh.core.errors import IdentityError
from mesh.pki.csr import make_key

DAY: Final = 86_400.0
ROOT_LIFE: Final = 3650 * DAY
ISSUER_LIFE: Final = 365 * DAY
SKEW: Final = 300.0  # seconds that each certificate starts before it is made

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True)
class Authority:
    """A CA that can sign: its certificate, the intermediates above it, its key.

    `intermediates` go towards the anchor and leave the anchor out.
    """

    certificate: x509.Certificate
    intermediates: tuple[x509.Certificate, ...]
    key: SigningKey

    @property
    def certificate_pem(self) -> str:
        return certificate_pem(self.certificate)

    @property
    def chain_pem(self) -> str:
        """The authority and its intermediates: what follows a leaf on the wire."""
        return "".join(certificate_pem(c) for c in (self.certificate, *self.intermediates))

    @property
    def key_pem(self) -> str:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode("ascii")

    @property
    def not_after(self) -> float:
        """The earliest end among the authority and its intermediates, in unix seconds."""
        return min(not_after(c) for c in (self.certificate, *self.intermediates))


def make_root(*, now: float, life: float = ROOT_LIFE, common_name: str = "") -> Authority:
    """A fresh self-signed trust anchor. `now` is unix seconds, `life` seconds."""
    key = make_key()
    name = _name(common_name or f"mesh root {secrets.token_hex(4)}")
    builder = start_builder(name, name, key.public_key(), now=now, end=now + life)
    builder = _as_authority(builder, key.public_key(), path_length=1)
    return Authority(builder.sign(key, hashes.SHA256()), (), key)


def make_issuer(
    root: Authority,
    *,
    now: float,
    trust_domain: str,
    life: float = ISSUER_LIFE,
    common_name: str = "",
) -> Authority:
    """A fresh issuer under `root`, which never outlives it and signs for `trust_domain` only.

    Raises IdentityError when the root has ended.
    """
    end = min(now + life, root.not_after)
    if end <= now:
        raise IdentityError("root-expired", f"the trust anchor ended at {when(end)}")
    key = make_key()
    name = _name(common_name or f"mesh issuer {secrets.token_hex(4)}")
    builder = start_builder(name, root.certificate.subject, key.public_key(), now=now, end=end)
    builder = _as_authority(builder, key.public_key(), path_length=0)
    builder = builder.add_extension(
        x509.NameConstraints(
            permitted_subtrees=[
                x509.DNSName(trust_domain),
                x509.UniformResourceIdentifier(trust_domain),
            ],
            excluded_subtrees=None,
        ),
        critical=True,
    ).add_extension(authority_key_id(root.certificate), critical=False)
    above = (root.certificate, *root.intermediates)
    if is_self_signed(root.certificate):
        above = ()
    return Authority(builder.sign(root.key, signature_hash(root.key)), above, key)


def load_authority(certificate: str, key: str, *, where: str) -> Authority:
    """Certificate chain and private key from PEM; `where` names their source in messages.

    A self-signed certificate at the end of the chain is left out of the intermediates.
    Raises IdentityError `authority-invalid` that says what was expected and what came.
    """
    try:
        chain = x509.load_pem_x509_certificates(certificate.encode())
    except (ValueError, x509.InvalidVersion) as error:
        raise _invalid(f"{where}: expected a PEM certificate: {error}") from error
    signing_key = _load_key(key, where)
    if _spki(chain[0].public_key()) != _spki(signing_key.public_key()):
        raise _invalid(f"{where}: expected the private key of {subject(chain[0])}, got another key")
    above = tuple(c for c in chain[1:] if not is_self_signed(c))
    return Authority(chain[0], above, signing_key)


def load_certificates(pem: str, *, where: str) -> list[x509.Certificate]:
    """All certificates in a PEM text. Raises IdentityError when there is none."""
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except (ValueError, x509.InvalidVersion) as error:
        raise _invalid(f"{where}: expected PEM certificates: {error}") from error


def make_serial() -> int:
    """128 random bits (CA/Browser Forum asks for 64), never zero (RFC 5280 §4.1.2.2)."""
    return secrets.randbits(128) or 1


def signature_hash(key: SigningKey) -> hashes.SHA256 | None:
    """The hash to sign with: none for Ed25519, which brings its own (RFC 8410 §3)."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def authority_key_id(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """What points at the signer's key: its own key id where it has one (RFC 5280 §4.2.1.1)."""
    try:
        found = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        key = issuer.public_key()
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found.value)


def certificate_pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def not_after(certificate: x509.Certificate) -> float:
    """The end of one certificate, in unix seconds."""
    return certificate.not_valid_after_utc.timestamp()


def not_before(certificate: x509.Certificate) -> float:
    """The start of one certificate, in unix seconds."""
    return certificate.not_valid_before_utc.timestamp()


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Whether it is signed by its own key; equal names alone prove nothing."""
    return is_signed(certificate, by=certificate)


def is_signed(certificate: x509.Certificate, *, by: x509.Certificate) -> bool:
    """Whether `by` is named as the issuer and its key made the signature."""
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def subject(certificate: x509.Certificate) -> str:
    """The subject for messages, e.g. `"CN=mesh root 1f2e3d4c"`."""
    return f'"{certificate.subject.rfc4514_string()[:200]}"'


def when(seconds: float) -> str:
    """A point in time for messages, e.g. `2031-04-05 06:07:08Z`."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def start_builder(
    subject_name: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    *,
    now: float,
    end: float,
) -> x509.CertificateBuilder:
    """What each certificate of ours has: names, key, serial, and a start five minutes back."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject_name)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(make_serial())
        .not_valid_before(dt.datetime.fromtimestamp(int(now - SKEW), dt.UTC))
        .not_valid_after(dt.datetime.fromtimestamp(int(end), dt.UTC))
    )


def _as_authority(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePublicKey, *, path_length: int
) -> x509.CertificateBuilder:
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), True)
        .add_extension(key_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    """Either signs certificates and revocation lists, or digital signatures; never both."""
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _load_key(pem: str, where: str) -> SigningKey:
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _invalid(f"{where}: expected an unencrypted PEM private key: {error}") from error
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < 2048:
            raise _invalid(f"{where}: expected RSA of 2048 bits or more, got {key.key_size}")
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        return key
    raise _invalid(f"{where}: expected an EC, RSA or Ed25519 key, got {type(key).__name__}")


def _spki(key: object) -> bytes:
    return key.public_bytes(  # type: ignore[attr-defined, no-any-return]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _invalid(message: str) -> IdentityError:
    return IdentityError("authority-invalid", message)
