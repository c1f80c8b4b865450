"""The leaf of a workload: P-256, 24 hours, one DNS name and one SPIFFE URI.

The subject is empty and the names critical (RFC 5280 §4.1.2.6), so nothing but the names
counts. The caller says whose leaf it is; nothing in the request but its key is looked at.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from mesh.core import labels
from mesh.core.errors import IdentityError
from mesh.core.names import WorkloadId
from mesh.pki.authority import (
    DAY,
    Authority,
    authority_key_id,
    certificate_pem,
    key_usage,
    signature_hash,
    start_builder,
    when,
)
from mesh.runtime.tls import is_dns_name

LEAF_LIFE: Final = DAY


def sign_leaf(
    issuer: Authority,
    workload: WorkloadId,
    key: ec.EllipticCurvePublicKey,
    *,
    now: float,
    ends_before: float,
    life: float = LEAF_LIFE,
    mesh_namespace: str = labels.MESH_NAMESPACE,
) -> tuple[str, float]:
    """The chain in PEM, leaf first and anchor left out, and the leaf's end in unix seconds.

    The leaf ends with `life`, the issuer's chain or `ends_before` (the anchor), whichever is
    first. Raises IdentityError `issuer-expired` when that is already past.
    """
    end = min(now + life, issuer.not_after, ends_before)
    if end <= now:
        raise IdentityError("issuer-expired", f"the issuer ended at {when(end)}; replace it")
    certificate = (
        start_builder(x509.Name([]), issuer.certificate.subject, key, now=now, end=end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(sign_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        .add_extension(leaf_names(workload, mesh_namespace), critical=True)
        .add_extension(authority_key_id(issuer.certificate), critical=False)
        .sign(issuer.key, signature_hash(issuer.key))
    )
    return certificate_pem(certificate) + issuer.chain_pem, float(int(end))


def leaf_names(
    workload: WorkloadId, mesh_namespace: str = labels.MESH_NAMESPACE
) -> x509.SubjectAlternativeName:
    """SPIFFE URI and DNS name; only the URI where the DNS name would break RFC 1035's limits."""
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(workload.uri())]
    dns = workload.dns(mesh_namespace)
    if is_dns_name(dns):
        names.insert(0, x509.DNSName(dns))
    return x509.SubjectAlternativeName(names)
