"""Every word that `mesh-reason` can begin with: what it means, and what to do about it.

The words are the proxy's, fixed and safe as labels: the access log's last field and the label
`error` of the metrics carry the same. docs/reasons.md is this table, printed; a test compares
them, and another one that no word of the proxy is missing here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.answer import Outcome


@dataclass(frozen=True, slots=True)
class Reason:
    """One word. `status` is empty where no answer is given: the connection ends, or had ended."""

    code: str
    status: str
    meaning: str
    remedy: str


_STATUSES: Final = {outcome.value.reason: str(outcome.value.status) for outcome in Outcome}


def _one(code: str, meaning: str, remedy: str, status: str | int = "") -> Reason:
    return Reason(code, str(status) or _STATUSES.get(code, ""), meaning, remedy)


_ROUTING: Final = (
    _one(
        "no-rule",
        "The Service has routes and the request meets none of them.",
        "`mesh explain` prints each rule with the condition that failed; add a rule, or "
        "a last one without conditions.",
    ),
    _one(
        "no-weight",
        "The rule that was met has no backend, or all its backends have weight 0.",
        "Give one backend a weight above 0.",
        "500 or 503",
    ),
    _one(
        "no-service",
        "The backend that was drawn is no Service of the cluster, or not at that port.",
        "Create the Service, or name one that is there. Its share of requests fails until then.",
        "500 or 503",
    ),
    _one(
        "no-endpoints",
        "The Service has no ready endpoint.",
        "`mesh diagnostics endpoints SERVICE`; look at readiness of its pods and at its selector.",
    ),
    _one(
        "invalid-backend",
        "The backend may not be used by this route: another namespace without a "
        "ReferenceGrant, or a kind that is no Service.",
        "Look at the route's ResolvedRefs condition; add a ReferenceGrant.",
        "500 or 503",
    ),
    _one("redirect", "A redirect filter answered; not an error.", "None.", "301 to 308"),
    _one("cors-preflight", "A CORS filter answered a preflight; not an error.", "None.", 204),
)

_AVAILABILITY: Final = (
    _one(
        "all-broken",
        "Every endpoint has failed so often that its circuit breaker is open.",
        "Look at the failures before: `mesh stat` and the access log. One request at a "
        "time finds out whether an endpoint is back.",
    ),
    _one(
        "queue-full",
        "As many requests are under way as the Service's connection pool allows.",
        "Raise the limit, or add endpoints.",
    ),
    _one(
        "overloaded",
        "The proxy holds as many connections as it may.",
        "Raise the limit of open files, or spread the clients.",
    ),
    _one(
        "too-many-files",
        "Nearly all descriptors of the proxy are in use; the rest is kept for those who are in.",
        "Raise the limit of open files, or spread the clients.",
        503,
    ),
    _one(
        "draining",
        "The proxy is stopping.",
        "None: clients that repeat the request reach another pod.",
    ),
)

_CONNECTION: Final = (
    _one(
        "connect-failed",
        "No connection to the application: refused, unreachable or reset, or its proxy said so.",
        "Is the application listening on that port of the pod, on all addresses? `mesh "
        "diagnostics endpoints`.",
    ),
    _one(
        "connect-timeout",
        "No connection within the connect timeout.",
        "A dead node or a network policy; annotation mesh/connect-timeout sets the time.",
    ),
    _one(
        "server-closed",
        "The server hung up before its response was complete.",
        "Look at the server's log; a crash, a restart, or an idle timeout below the client's.",
    ),
    _one(
        "server-reset",
        "The server reset an HTTP/2 request after its response had begun.",
        "Look at the server's log.",
        "",
    ),
    _one(
        "tls-failed",
        "The TLS handshake with the peer's proxy failed.",
        "`mesh check --proxy`; look at the log of the peer's proxy.",
        502,
    ),
    _one(
        "tls-closed",
        "The peer closed the connection in the middle of the TLS handshake.",
        "Is the peer's proxy running? `mesh check --proxy`.",
        502,
    ),
    _one(
        "tls-version",
        "The peer speaks no TLS 1.3.",
        "Something other than our proxy answers there.",
        502,
    ),
    _one(
        "refused-by-peer",
        "The peer's proxy refused our certificate.",
        "Do both sides have the same trust anchors? `mesh check --proxy`.",
        502,
    ),
    _one(
        "certificate-expired",
        "The peer's certificate has expired.",
        "Its proxy cannot reach identity, or a clock is wrong: `mesh check`.",
        502,
    ),
    _one(
        "certificate-not-yet-valid",
        "The peer's certificate is not valid yet.",
        "A clock is wrong.",
        502,
    ),
    _one(
        "unknown-authority",
        "The peer's certificate was issued by an authority that we do not trust.",
        "Compare trust anchors: `mesh check --proxy`.",
        502,
    ),
    _one(
        "wrong-purpose",
        "The peer's certificate may not be used for this side of a connection.",
        "`mesh check --proxy`.",
        502,
    ),
    _one(
        "name-not-permitted",
        "The issuer may not vouch for the name in the peer's certificate.",
        "Look at the name constraints of the issuer that was brought.",
        502,
    ),
    _one(
        "certificate-refused", "The peer's certificate was refused.", "`mesh check --proxy`.", 502
    ),
    _one(
        "wrong-identity",
        "The peer proved to be another workload than the one that was asked for.",
        "The address was given to another pod a moment ago, or something is in between. "
        "Counted and reported; another endpoint is tried first.",
    ),
    _one(
        "wrong-protocol",
        "The peer's proxy agreed to no protocol of ours.",
        "Are both proxies of neighbouring versions?",
        502,
    ),
    _one(
        "no-identity",
        "A client of the mesh proved no identity.",
        "Is it a proxy of this mesh? The connection was closed.",
        "",
    ),
    _one(
        "no-credentials",
        "This proxy has no certificate yet.",
        "Can it reach identity? `mesh check`, and the log of the proxy.",
    ),
    _one(
        "handshake-timeout",
        "A client began TLS and did not finish it.",
        "The connection was closed.",
        "",
    ),
    _one(
        "handshake-flood",
        "Handshakes from this address have failed again and again.",
        "It is let in again after ten seconds. Who is it? The log of the proxy, level debug.",
        "",
    ),
    _one(
        "handshake-busy",
        "So many clients began TLS that this one's turn did not come in time.",
        "Handshakes may take 40 % of a core. Who connects so often? The log, level debug.",
        "",
    ),
    _one(
        "tls-flood",
        "A peer sent TLS records that carry nothing, such as KeyUpdate, one after the other.",
        "The connection was closed; counted as `errno` of `tcp_close_total`.",
        "",
    ),
    _one(
        "silent",
        "A client connected and said nothing, where it has to speak first.",
        "The connection was closed.",
        "",
    ),
    _one(
        "tls-required",
        "Mutual TLS is required here, and the client came without.",
        "Inject the client, or remove mesh/require-tls from this pod.",
    ),
    _one(
        "unmeshed-target",
        "Mutual TLS is required of this pod's connections, and the server has no proxy.",
        "Inject the server, or remove mesh/require-tls from this pod.",
    ),
    _one("loop", "A connection to a port of the proxy itself.", "Address the application's port."),
    _one(
        "not-this-pod",
        "A connection that was meant for an address which is not this pod's.",
        "The connection was closed.",
        "",
    ),
)

_TIME: Final = (
    _one(
        "timeout",
        "The whole request took longer than its rule, profile or Service allows.",
        "`mesh explain` names the timeout in force and where it comes from.",
    ),
    _one(
        "try-timeout",
        "One try took longer than allowed, and no further one was possible.",
        "See the backend's latencies with `mesh stat`; raise the timeout of a try.",
    ),
    _one(
        "response-timeout",
        "The response took longer than allowed after the request was complete.",
        "Annotation timeout.linkerd.io/response, or its mesh/ twin.",
    ),
    _one(
        "stream-ended",
        "A response or tunnel has lived as long as its rule allows; gRPC clients get UNAVAILABLE.",
        "Clients that come back are spread anew. Annotation mesh/timeout-stream sets the time.",
    ),
    _one(
        "idle-timeout",
        "No byte went either way for longer than allowed.",
        "Annotation timeout.linkerd.io/idle, or its mesh/ twin.",
    ),
    _one(
        "deadline-exceeded",
        "The caller's own deadline has passed: its grpc-timeout, or that of the request "
        "that this one serves.",
        "Look at the caller's timeout.",
    ),
    _one(
        "head-timeout",
        "The client took too long to send a request head.",
        "Ten seconds are allowed.",
    ),
    _one(
        "slow-body",
        "A request body of known length came at less than 100 bytes a second for a minute.",
        "Look at the client.",
        408,
    ),
    _one(
        "stalled",
        "The client took nothing of its response for too long.",
        "The request was ended.",
        "",
    ),
)

_REQUEST: Final = (
    _one("bad-request", "What came is no HTTP.", "Look at the client.", 400),
    _one(
        "bad-target",
        "The request target has none of HTTP's four forms, or holds a fragment or space.",
        "Look at the client.",
        400,
    ),
    _one(
        "target-too-long", "The request target is longer than 16 KiB.", "Send it in the body.", 414
    ),
    _one("bad-method", "The method is unknown or no token.", "Look at the client.", "400 or 501"),
    _one("bad-version", "Neither HTTP/1.0 nor HTTP/1.1.", "Look at the client.", 505),
    _one(
        "bad-preface",
        "The connection began as HTTP/2 and went on otherwise.",
        "Look at the client.",
        "",
    ),
    _one("bad-host", "Host is missing or is no authority.", "Look at the client.", 400),
    _one("two-hosts", "Two Host fields.", "Look at the client.", 400),
    _one(
        "host-conflict",
        "Host differs from the request target's authority.",
        "Look at the client.",
        400,
    ),
    _one(
        "bad-field",
        "A field that must not be there, or with forbidden characters.",
        "Look at the client.",
        400,
    ),
    _one(
        "field-twin",
        "A field that only looks like a framing field, such as content_length.",
        "Rename it.",
        400,
    ),
    _one(
        "bad-connection",
        "Connection names a field that is not its own.",
        "Look at the client.",
        400,
    ),
    _one(
        "bad-length",
        "Content-Length is not one number, or not the body's.",
        "Look at the client.",
        400,
    ),
    _one("bad-coding", "A Transfer-Encoding other than chunked.", "Look at the client.", 501),
    _one(
        "bad-framing",
        "Transfer-Encoding beside Content-Length, or in HTTP/1.0: how requests are smuggled.",
        "Look at the client.",
        400,
    ),
    _one("chunk-overhead", "More chunk framing than body.", "Send larger chunks.", 400),
    _one("upgrade-with-body", "An upgrade with a body.", "Look at the client.", 400),
    _one(
        "head-too-large",
        "The request head is larger than 64 KiB.",
        "Send less in cookies and fields.",
        431,
    ),
    _one(
        "header-bomb", "A header block that grows when it is unpacked.", "Look at the client.", 431
    ),
    _one("field-too-long", "A header field is longer than 16 KiB.", "Send it in the body.", 431),
    _one("too-many-fields", "More than 128 header fields.", "Send fewer.", 431),
    _one("bad-block", "A header block that does not unpack.", "Look at the client.", ""),
    _one(
        "client-gone",
        "The client hung up before the response was complete.",
        "Not counted as success or failure.",
        "",
    ),
)

_FLOODS: Final = tuple(
    _one(code, f"An HTTP/2 connection {what}; it was ended.", "Look at the client.", "")
    for code, what in (
        ("rapid-reset", "opened streams and had most of them reset at once"),
        ("reset-flood", "reset streams that were long over"),
        ("continuation-flood", "sent a header block without end"),
        ("ping-flood", "sent more PINGs than its requests explain"),
        ("settings-flood", "sent SETTINGS again and again"),
        ("priority-flood", "sent more PRIORITY than it has streams"),
        ("empty-data-flood", "sent DATA without data"),
        ("window-flood", "sent more window updates than our data explains"),
        ("frame-flood", "sent frames that mean nothing"),
        ("http2-error", "broke a rule of RFC 9113"),
    )
)

_RESPONSE: Final = (
    _one("bad-response", "What the server sent is no valid HTTP response.", "Look at the server."),
    _one(
        "response-head-too-large",
        "The response head is larger than 64 KiB or has too many fields.",
        "Send less in cookies and fields.",
        502,
    ),
    _one(
        "unasked-response",
        "The server sent bytes that nobody asked for.",
        "Look at the server.",
        502,
    ),
    _one("internal-error", "A bug in the proxy.", "Please report it, with the proxy's log."),
)

_MIRRORS: Final = (
    _one(
        "too-many",
        "A copy for a mirror was not sent: too many were under way.",
        "The client is not affected.",
        "",
    ),
    _one(
        "too-slow",
        "A copy for a mirror was dropped, since its server does not keep up.",
        "The client is not affected.",
        "",
    ),
)

SECTIONS: Final = (
    ("Routing", _ROUTING),
    ("Availability", _AVAILABILITY),
    ("Connections and identity", _CONNECTION),
    ("Time", _TIME),
    ("Requests", _REQUEST),
    ("HTTP/2 connections", _FLOODS),
    ("Responses", _RESPONSE),
    ("Mirrors", _MIRRORS),
)
REASONS: Final = {reason.code: reason for _, reasons in SECTIONS for reason in reasons}

_INTRODUCTION: Final = """\
# Reasons

Every answer that a proxy makes itself says why:

    mesh-reason: no-endpoints; HTTPRoute/shop/orders#2
    l5d-proxy-error: no ready endpoint

First the reason, one of the words below; behind it the object and the position of the rule
responsible, where there is one. gRPC clients find the same in `grpc-message`. The access log
carries the word, the metrics do in the label `error`. `mesh explain` replays
the decision.

This page is printed from the proxy's own table (`python -m proxy.reasons`).
"""


def render() -> str:
    """docs/reasons.md."""
    lines = [_INTRODUCTION]
    for title, reasons in SECTIONS:
        lines += [
            f"## {title}",
            "",
            "| reason | status | meaning | what to do |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| `{reason.code}` | {reason.status or 'none'} | {reason.meaning} | {reason.remedy} |"
            for reason in reasons
        ]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(render(), end="")
