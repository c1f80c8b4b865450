"""SSL contexts from trust anchors and a leaf, and what a verified peer proved.

TLS 1.3 only (RFC 8446), so no renegotiation, no weak suites and, with Python's ssl, no early
data. Names are not checked by OpenSSL: both sides have certificates and the caller compares
`peer_workload` with whom it expects. An SSLContext cannot forget an anchor, so a context is
made for one bundle and one leaf and thrown away when either changes. No cryptography import:
the proxy pays for this module.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from os import PathLike
from typing import Any, Final, Protocol

from mesh.core import labels
from mesh.core.digest import sha256
from mesh.core.errors import IdentityError
from mesh.core.names import WorkloadId, is_dns_label, parse_identity_dns, parse_identity_uri
from mesh.runtime.bundle import hash_bundle, join_bundle, split_bundle

__all__ = [
    "client_context",
    "end_of_life",
    "failure_reason",
    "hash_bundle",
    "is_dns_name",
    "peer_identity",
    "peer_workload",
    "prove_leaf",
    "rotating_server_context",
    "server_context",
    "server_name",
]

FilePath = str | PathLike[str]  # proxies use no pathlib: it costs each of them 0.6 MB

_DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.A)

# OpenSSL's X509_V_ERR_* numbers -> our fixed words, safe as metric labels.
_VERIFY_REASONS: Final = {
    9: "certificate-not-yet-valid",
    10: "certificate-expired",
    18: "unknown-authority",
    19: "unknown-authority",
    20: "unknown-authority",
    21: "unknown-authority",
    26: "wrong-purpose",
    47: "name-not-permitted",
    48: "name-not-permitted",
}

_CLOCK_REASONS: Final = ("certificate-not-yet-valid", "certificate-expired")
_MONTHS: Final = (
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
)


class _ClientContext(ssl.SSLContext):
    """A context that sends the server names it is given, which are ASCII.

    Python takes them through IDNA, whose tables cost every process 1.5 MB, unless they are bytes,
    which uvloop refuses.
    """

    def _encode_hostname(self, hostname: str | None) -> str | None:
        return hostname


class HasPeer(Protocol):
    """An SSLObject or SSLSocket after its handshake."""

    def getpeercert(self) -> Any: ...


def client_context(bundle: str, leaf: FilePath | None, alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """A context that trusts `bundle` only and shows the chain and key in `leaf`, one PEM file.

    Without a leaf it stays anonymous: only for asking identity for the first one.
    Raises IdentityError when bundle or leaf cannot be used.
    """
    context = _ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    _prepare(context, bundle, leaf, alpn)
    return context


def server_context(
    bundle: str, leaf: FilePath, alpn: Sequence[str] = (), *, require_client: bool = True
) -> ssl.SSLContext:
    """A context that shows `leaf` and, unless told otherwise, requires a leaf of the client.

    Raises IdentityError when bundle or leaf cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED if require_client else ssl.CERT_NONE
    context.num_tickets = 1
    _prepare(context, bundle, leaf, alpn)
    return context


def rotating_server_context(
    current: Callable[[], ssl.SSLContext], *, require_client: bool = True
) -> ssl.SSLContext:
    """A context for a listening socket that serves each handshake with `current()`.

    For asyncio servers, which take one context for their whole life. Without session tickets:
    those would be this context's own and outlive a bundle that has forgotten an anchor. When
    `current` raises IdentityError, the handshake fails with an alert. Whether a client needs
    a leaf is decided here, since OpenSSL takes that from the first context; anchors and own
    leaf come from the second.
    """
    outer = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    outer.verify_mode = ssl.CERT_REQUIRED if require_client else ssl.CERT_NONE
    outer.minimum_version = ssl.TLSVersion.TLSv1_3
    outer.num_tickets = 0
    outer.options |= ssl.OP_NO_TICKET

    def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        try:
            connection.context = current()
        except IdentityError:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        return None

    outer.sni_callback = choose
    return outer


def peer_workload(peer: HasPeer, *, now: float | None = None) -> WorkloadId | None:
    """Who the verified peer is, or None: no certificate, or one that is not of our form.

    Our leaves carry exactly one SPIFFE URI and at most one DNS name, which must name the same
    workload. The end of life is looked at again, since a resumed session (RFC 8446 §2.2) does
    not verify the chain anew. `now` is unix seconds.
    """
    certificate = peer.getpeercert()
    if not certificate:
        return None
    names: list[tuple[str, str]] = list(certificate.get("subjectAltName", ()))
    uris = [value for kind, value in names if kind == "URI"]
    dns = [value for kind, value in names if kind == "DNS"]
    if len(uris) != 1 or len(dns) > 1 or len(names) != len(uris) + len(dns):
        return None
    workload = parse_identity_uri(uris[0])
    if workload is None or not is_workload(workload):
        return None
    if dns and parse_identity_dns(dns[0]) != workload:
        return None
    ends = end_of_life(certificate)
    return workload if (time.time() if now is None else now) < ends else None


def peer_identity(
    peer: HasPeer, *, mesh_namespace: str = labels.MESH_NAMESPACE, now: float | None = None
) -> str | None:
    """The DNS identity of the verified peer, as policies and metrics name it, or None.

    A workload whose DNS name would be too long for a certificate has a URI only; its identity
    is the same text all the same, as `WorkloadId.dns` gives it.
    """
    workload = peer_workload(peer, now=now)
    return None if workload is None else workload.dns(mesh_namespace)


def server_name(identity: str) -> str:
    """The SNI for `identity`: itself, or a digest of it where it is no valid DNS name.

    Service accounts may have labels above 63 bytes and names above 253, which neither SNI
    (RFC 6066 §3) nor a DNS SAN can hold. Both ends derive the same name.
    """
    if is_dns_name(identity):
        return identity
    digest = sha256(identity.encode()).hexdigest()[:40]
    return f"id-{digest}.identity.mesh"


def is_dns_name(name: str) -> bool:
    """Whether `name` fits a DNS SAN: lower case, 253 bytes, each label 63 (RFC 1035 §2.3.4)."""
    return len(name) <= 253 and all(is_dns_label(label) for label in name.split("."))


def is_workload(workload: WorkloadId) -> bool:
    """Whether the three parts are names as Kubernetes and SPIFFE write them."""
    return (
        is_dns_label(workload.namespace)
        and len(workload.service_account) <= 253
        and _DNS_NAME.fullmatch(workload.service_account) is not None
        and is_dns_name(workload.trust_domain)
    )


def prove_leaf(client: ssl.SSLContext, server: ssl.SSLContext, expected: WorkloadId) -> float:
    """Shake hands with ourselves in memory and give the end of the leaf, in unix seconds.

    That proves what a peer will demand: chain and key fit, the bundle covers the chain, and
    the leaf names us for both roles. Raises IdentityError.
    """
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_side=False, server_hostname="self"),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    try:
        for _ in range(3):  # a TLS 1.3 handshake takes three flights
            for end in ends:
                _step(end)
    except ssl.SSLError as error:
        reason = failure_reason(error)
        hint = "; check the clock of this node" if reason in _CLOCK_REASONS else ""
        raise IdentityError(reason, f"the leaf does not verify: {_words(error)}{hint}") from error
    for end in ends:
        if peer_workload(end) != expected:
            raise IdentityError(
                "wrong-identity", f"expected a leaf of {expected.uri()}, got another name"
            )
    certificate: Any = ends[0].getpeercert()
    return end_of_life(certificate)


def end_of_life(certificate: Mapping[str, Any]) -> float:
    """The notAfter of what `getpeercert` gave, in unix seconds.

    Read here and not by `ssl.cert_time_to_seconds`, which loads strptime and calendar into
    every proxy for it.
    """
    month, day, clock, year, _ = certificate["notAfter"].split()
    hour, minute, second = map(int, clock.split(":"))
    at = (int(year), _MONTHS.index(month) + 1, int(day), hour, minute, second)
    return datetime(*at, tzinfo=UTC).timestamp()


def failure_reason(error: BaseException) -> str:
    """A fixed word for a failed handshake, for metrics, logs and reports."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY_REASONS.get(error.verify_code, "certificate-refused")
    if isinstance(error, ssl.SSLEOFError):
        return "tls-closed"
    if isinstance(error, ssl.SSLError):
        text = str(error.reason or "").upper()
        if "ALERT" in text:
            return "refused-by-peer"
        if "VERSION" in text:
            return "tls-version"
        return "tls-failed"
    return "connect-failed"


def was_plaintext(error: BaseException) -> bool:
    """Whether a handshake failed because the peer answered something that is no TLS."""
    return getattr(error, "reason", None) == "WRONG_VERSION_NUMBER"


def _prepare(
    context: ssl.SSLContext, bundle: str, leaf: FilePath | None, alpn: Sequence[str]
) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cadata=join_bundle(split_bundle(bundle)))
    except (ValueError, ssl.SSLError) as error:
        raise IdentityError("bundle-invalid", f"trust bundle: {error}") from error
    if leaf is not None:
        try:
            context.load_cert_chain(leaf)
        except (OSError, ssl.SSLError) as error:
            raise IdentityError("leaf-invalid", f"certificate in {leaf}: {error}") from error
    if alpn:
        context.set_alpn_protocols(list(alpn))


def _step(end: ssl.SSLObject) -> None:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return
    try:
        end.read(1)  # the server's session ticket, or the alert that came instead
    except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
        return


def _words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message)
    return str(error.reason or error)
