"""Token + CSR -> leaf or refusal: the rules, no I/O.

What a workload is called comes from the reviewed token and from nowhere else; of its request
only the key counts, once the request's own signature has proven possession of it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from mesh.core import labels
from mesh.core.errors import IdentityError
from mesh.core.names import WorkloadId, is_dns_label
from mesh.pki.authority import Authority
from mesh.pki.csr import verify_csr
from mesh.pki.leaf import LEAF_LIFE, sign_leaf
from mesh.runtime.certify import Issued
from mesh.runtime.tls import is_workload

MAX_TOKEN: Final = 16 * 1024
_CLOCK_LEEWAY: Final = 300.0  # seconds; the API server, not this clock, has the last word
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"


@dataclass(frozen=True, slots=True)
class Request:
    """The body of POST /v1/certificates."""

    token: str
    csr: str


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says of itself, unverified: for limits and early refusals only."""

    namespace: str
    service_account: str
    pod_uid: str
    expires: float  # unix seconds


@dataclass(frozen=True, slots=True)
class Review:
    """What the API server says of a token. `user` is "" when it is not authenticated."""

    user: str
    audiences: tuple[str, ...]
    extra: Mapping[str, Sequence[str]]
    error: str = ""


@dataclass(frozen=True, slots=True)
class Trust:
    """The issuer in force, the end of the anchor above it, and the bundle to hand out."""

    issuer: Authority
    anchor_end: float  # unix seconds
    bundle: str

    @property
    def ends(self) -> float:
        """When nothing can be signed any more, in unix seconds."""
        return min(self.issuer.not_after, self.anchor_end)


def read_request(body: bytes) -> Request:
    """Parse the JSON body. Raises IdentityError `bad-request`."""
    try:
        data: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise IdentityError("bad-request", "expected a JSON object") from error
    token = data.get("token") if isinstance(data, dict) else None
    csr = data.get("csr") if isinstance(data, dict) else None
    if not isinstance(token, str) or not isinstance(csr, str):
        raise IdentityError("bad-request", "expected the strings token and csr")
    return Request(token, csr)


def read_claims(token: str, *, now: float) -> Claims:
    """Refuse what the API server would refuse as well, before it is asked.

    Nothing here is verified. Raises IdentityError: `token-invalid`, `token-audience`,
    `token-expired` or `token-unbound`.
    """
    claims = _decode(token)
    audiences = claims.get("aud")
    if isinstance(audiences, str):
        audiences = [audiences]
    if not isinstance(audiences, list) or labels.IDENTITY_AUDIENCE not in audiences:
        raise IdentityError(
            "token-audience", f"expected a token with audience {labels.IDENTITY_AUDIENCE}"
        )
    expires = _seconds(claims.get("exp"))
    if expires + _CLOCK_LEEWAY <= now:
        raise IdentityError("token-expired", "the token has expired")
    private = claims.get("kubernetes.io")
    private = private if isinstance(private, dict) else {}
    pod_uid = _text(private.get("pod"), "uid")
    if not pod_uid:
        raise IdentityError("token-unbound", "expected a token that is bound to a pod")
    namespace = private.get("namespace")
    return Claims(
        namespace=namespace if isinstance(namespace, str) else "",
        service_account=_text(private.get("serviceaccount"), "name"),
        pod_uid=pod_uid,
        expires=expires,
    )


def identify(review: Review, claims: Claims, *, trust_domain: str) -> WorkloadId:
    """Whom the API server vouches for. Fails closed on anything unexpected.

    Raises IdentityError: `token-refused`, `token-audience`, `token-user` or `token-unbound`.
    """
    if not review.user:
        raise IdentityError("token-refused", "the API server does not accept the token")
    if labels.IDENTITY_AUDIENCE not in review.audiences:
        raise IdentityError(
            "token-audience", f"expected a token with audience {labels.IDENTITY_AUDIENCE}"
        )
    parts = review.user.split(":")
    if len(parts) != 4 or parts[:2] != ["system", "serviceaccount"]:
        raise IdentityError("token-user", "expected the token of a service account")
    workload = WorkloadId(trust_domain, parts[2], parts[3])
    if not is_dns_label(workload.namespace) or not is_workload(workload):
        raise IdentityError("token-user", "the service account has an unexpected name")
    if list(review.extra.get(_POD_UID, ())) != [claims.pod_uid]:
        raise IdentityError("token-unbound", "expected a token that is bound to a living pod")
    if (claims.namespace, claims.service_account) != (parts[2], parts[3]):
        raise IdentityError("token-user", "the token contradicts its review")
    return workload


def issue_leaf(
    trust: Trust | None,
    workload: WorkloadId,
    key: ec.EllipticCurvePublicKey,
    *,
    now: float,
    life: float = LEAF_LIFE,
    mesh_namespace: str = labels.MESH_NAMESPACE,
) -> Issued:
    """Sign a leaf. Raises IdentityError `no-issuer` or `issuer-expired`."""
    if trust is None:
        raise IdentityError("no-issuer", "there is no issuer yet")
    chain, not_after = sign_leaf(
        trust.issuer,
        workload,
        key,
        now=now,
        ends_before=trust.anchor_end,
        life=life,
        mesh_namespace=mesh_namespace,
    )
    return Issued(chain=chain, bundle=trust.bundle, not_after=not_after)


def read_key(csr: str) -> ec.EllipticCurvePublicKey:
    """The proven key of a request; see `mesh.pki.csr.verify_csr`."""
    return verify_csr(csr)


def _decode(token: str) -> dict[str, Any]:
    """The payload of a JSON web token (RFC 7519), unverified."""
    if len(token) > MAX_TOKEN:
        raise IdentityError("token-invalid", f"expected a token of at most {MAX_TOKEN} bytes")
    parts = token.split(".")
    try:
        if len(parts) != 3 or not all(parts) or not token.isascii():
            raise ValueError("expected three parts in ASCII")
        payload = parts[1] + "=" * (-len(parts[1]) % 4)
        claims = json.loads(base64.b64decode(payload, altchars=b"-_", validate=True))
    except (ValueError, RecursionError, binascii.Error) as error:
        raise IdentityError("token-invalid", "expected a service account token") from error
    if not isinstance(claims, dict):
        raise IdentityError("token-invalid", "expected a service account token")
    return claims


def _seconds(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e12:
        return float(value)
    raise IdentityError("token-invalid", "expected a token that expires")


def _text(data: object, name: str) -> str:
    value = data.get(name) if isinstance(data, dict) else None
    return value if isinstance(value, str) else ""
