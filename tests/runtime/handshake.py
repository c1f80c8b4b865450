"""TLS handshakes in memory, and leaves that nobody should accept."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mesh.pki.authority import Authority, certificate_pem
from mesh.pki.csr import key_pem, make_key
from tests.support.authority import workload

BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
GOOD_DNS = workload().dns()
GOOD_URI = workload().uri()


def shake(
    client: ssl.SSLContext, server: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after a whole handshake. Raises SSLError as soon as one side refuses."""
    one, two = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(one, two, server_side=False, server_hostname="peer", session=session),
        server.wrap_bio(two, one, server_side=True),
    )
    for _ in range(3):
        for end in ends:
            try:
                end.do_handshake()
                end.read(1)
            except ssl.SSLWantReadError:
                continue
    return ends


def odd_leaf(
    folder: Path,
    signer: Authority,
    *,
    names: Sequence[x509.GeneralName] | None = None,
    usage: Sequence[x509.ObjectIdentifier] = BOTH,
    days: tuple[float, float] = (-1, 1),
    common_name: str = "",
    is_ca: bool = False,
) -> Path:
    """Key and chain in a file: a leaf with any names, usage and times that a test wants."""
    key = make_key()
    now = dt.datetime.now(dt.UTC)
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(signer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=days[0]))
        .not_valid_after(now + dt.timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
    )
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    if names is None:
        names = [x509.DNSName(GOOD_DNS), x509.UniformResourceIdentifier(GOOD_URI)]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(signer.key, hashes.SHA256())
    path = folder / f"{certificate.serial_number}.pem"
    path.write_text(key_pem(key) + certificate_pem(certificate) + signer.chain_pem)
    return path
