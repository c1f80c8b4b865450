"""Each name that users, manifests and other processes see, once.

Ports, uids, annotations, labels, environment prefixes, header names, object names and
metric label words. Annotations carry their meaning, so that documentation and lint come
from the same table. Deliberately without behaviour beyond looking up the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

# -- processes and ports -------------------------------------------------------------------
OUTBOUND_PORT: Final = 4140
INBOUND_PORT: Final = 4143
ADMIN_PORT: Final = 4191
IDENTITY_PORT: Final = 8080
DESTINATION_PORT: Final = 8086
INJECT_PORT: Final = 8443
CONTROL_ADMIN_PORT: Final = 9990
PROXY_UID: Final = 2102
CONTROL_UID: Final = 2103

# -- names of our objects -------------------------------------------------------------------
MESH_NAMESPACE: Final = "mesh"
TRUST_DOMAIN: Final = "cluster.local"
CLUSTER_DOMAIN: Final = "cluster.local"
IDENTITY: Final = "mesh-identity"  # Deployment, Service and service account
DESTINATION: Final = "mesh-destination"
INJECT: Final = "mesh-inject"
VIEWER: Final = "mesh-viewer"  # service account whose token reads the admin ports
CONFIG_MAP: Final = "mesh-config"
TRUST_ROOTS: Final = "mesh-trust-roots"  # ConfigMap with the bundle
TRUST_ROOTS_KEY: Final = "ca-bundle.crt"
ROOT_SECRET: Final = "mesh-identity-root"
ISSUER_SECRET: Final = "mesh-identity-issuer"
INJECT_SECRET: Final = "mesh-inject-tls"
WEBHOOK_CONFIGURATION: Final = "mesh-inject"
VALIDATING_CONFIGURATION: Final = "mesh-validate"
CONTROLLER: Final = "mesh/destination"  # controllerName in the status of routes
STATUS_LEASE: Final = "mesh-destination-status"
PROXY_CONTAINER: Final = "mesh-proxy"
INIT_CONTAINER: Final = "mesh-init"
FIELD_MANAGER: Final = "mesh"

# -- token audiences -------------------------------------------------------------------------
IDENTITY_AUDIENCE: Final = "mesh-identity"
DESTINATION_AUDIENCE: Final = "mesh-destination"

# -- ALPN: what is inside a connection between two of our own processes ------------------------
ALPN_HTTP2: Final = "mesh-h2/1"
ALPN_HTTP1: Final = "mesh-http1/1"
ALPN_OPAQUE: Final = "mesh-opaque/1"
ALPN_STREAM: Final = "mesh-stream/1"  # proxy to destination
ALPN_IDENTITY: Final = "http/1.1"  # proxy to identity, plain HTTPS

# -- headers (lower-case bytes, as they stand in a request head) ----------------------------------
H_REASON: Final = b"mesh-reason"
H_PROXY_ERROR: Final = b"l5d-proxy-error"
H_PROXY_CONNECTION: Final = b"l5d-proxy-connection"
H_OVERRIDE: Final = b"l5d-dst-override"  # of an ingress controller: the Service to go to
H_CLIENT_ID: Final = b"l5d-client-id"
H_REQUEST_ID: Final = b"x-request-id"
H_MESH_REQUEST_ID: Final = b"mesh-request-id"  # of a request that failed, for mesh explain
H_DEADLINE: Final = b"mesh-deadline"  # milliseconds that a request may still take
H_ATTEMPT: Final = b"mesh-attempt"  # which try of a request this is; absent: the first
H_RETRY: Final = b"mesh-retry"  # on a response: "no" (would not help) or "once" (elsewhere)
CLIENT_STRIPPED_PREFIXES: Final = (b"mesh-", b"l5d-")
H_VIEWER_TOKEN: Final = "x-mesh-token"  # the API server's proxy strips Authorization

# -- routes of inbound series that stand for no route of a user ------------------------------------
PROBE_ROUTE: Final = "[probe]"  # requests of the kubelet's probes: figures leave them out

# -- labels that the injector writes on pods ---------------------------------------------------
L_COMPONENT: Final = "mesh/component"  # identity, destination, inject on our own pods
L_PART_OF: Final = "app.kubernetes.io/part-of"  # "lightmesh" on all our objects
PART_OF: Final = "lightmesh"
PRIORITY_CLASS: Final = "mesh-control-plane"  # ours, rendered where a value names it
L_CONTROL_NAMESPACE: Final = "mesh/control-namespace"  # a pod with it is meshed by that mesh
L_WORKLOAD_KIND: Final = "mesh/workload-kind"
L_WORKLOAD_NAME: Final = "mesh/workload-name"
A_PROXY_VERSION: Final = "mesh/proxy-version"
A_CREATED_BY: Final = "mesh/created-by"
A_TRUST_HASH: Final = "mesh/trust-root-sha256"
A_REWRITTEN_PROBES: Final = "mesh/rewritten-probes"

# -- default port lists -------------------------------------------------------------------------
# Server-speaks-first ports are detected, so no list of opaque ports is needed by default.
DEFAULT_SKIP_INBOUND: Final = ""
DEFAULT_SKIP_OUTBOUND: Final = ""


@dataclass(frozen=True)
class Annotation:
    """One annotation of pods or namespaces: `kind` names the parser in `mesh.core.quantity`."""

    name: str
    aliases: tuple[str, ...]
    kind: str  # names a parser: switch, ports, cpu, memory, duration, count, choice, image, subnets
    default: str
    meaning: str
    choices: tuple[str, ...] = ()
    namespace: bool = True  # also honoured on the namespace


_L5D = "config.linkerd.io/"

A_INJECT: Final = "mesh/inject"
# Of a namespace: `required` asks for a ReferenceGrant where routes of others lead here.
A_REFERENCE_GRANTS: Final = "mesh/reference-grants"

ANNOTATIONS: Final[tuple[Annotation, ...]] = (
    Annotation(
        A_INJECT,
        ("linkerd.io/inject", "istio-injection", "sidecar.istio.io/inject"),
        "switch",
        "disabled",
        "whether pods get a proxy: enabled, disabled, or ingress (see l5d-dst-override)",
    ),
    Annotation(
        "mesh/skip-inbound-ports",
        (_L5D + "skip-inbound-ports",),
        "ports",
        DEFAULT_SKIP_INBOUND,
        "ports and ranges that never pass the proxy on the way in",
    ),
    Annotation(
        "mesh/skip-outbound-ports",
        (_L5D + "skip-outbound-ports",),
        "ports",
        DEFAULT_SKIP_OUTBOUND,
        "ports and ranges that never pass the proxy on the way out",
    ),
    Annotation(
        "mesh/skip-subnets",
        (_L5D + "skip-subnets",),
        "subnets",
        "",
        "source subnets whose connections are not redirected on the way in",
    ),
    Annotation(
        "mesh/opaque-ports",
        (_L5D + "opaque-ports",),
        "ports",
        "",
        "ports whose bytes are forwarded without parsing, still with mutual TLS",
    ),
    Annotation(
        "mesh/require-tls",
        (),
        "switch",
        "disabled",
        "refuse traffic that cannot have mutual TLS, in both directions",
    ),
    Annotation(
        "mesh/proxy-cpu-request",
        (_L5D + "proxy-cpu-request",),
        "cpu",
        "",
        "CPU request of the proxy",
    ),
    Annotation(
        "mesh/proxy-cpu-limit", (_L5D + "proxy-cpu-limit",), "cpu", "", "CPU limit of the proxy"
    ),
    Annotation(
        "mesh/proxy-memory-request",
        (_L5D + "proxy-memory-request",),
        "memory",
        "",
        "memory request of the proxy",
    ),
    Annotation(
        "mesh/proxy-memory-limit",
        (_L5D + "proxy-memory-limit",),
        "memory",
        "",
        "memory limit of the proxy",
    ),
    Annotation(
        "mesh/proxy-image",
        (_L5D + "proxy-image",),
        "image",
        "",
        "image of proxy and init, with its tag",
    ),
    Annotation(
        "mesh/image-pull-policy",
        (_L5D + "image-pull-policy",),
        "choice",
        "IfNotPresent",
        "pull policy of proxy and init",
        ("Always", "IfNotPresent", "Never"),
    ),
    Annotation(
        "mesh/proxy-log-level",
        (_L5D + "proxy-log-level",),
        "loglevel",
        "info",
        "error, warning, info or debug",
        ("error", "warning", "info", "debug"),
    ),
    Annotation(
        "mesh/proxy-log-format",
        (_L5D + "proxy-log-format",),
        "choice",
        "text",
        "text or json",
        ("text", "json", "plain"),
    ),
    Annotation(
        "mesh/access-log",
        (_L5D + "access-log",),
        "choice",
        "off",
        "one line per request: off, text (Apache's form) or json",
        ("off", "text", "json", "apache"),
    ),
    Annotation(
        "mesh/native-sidecar",
        (_L5D + "proxy-enable-native-sidecar",),
        "choice",
        "auto",
        "run the proxy as a native sidecar: auto, true or false",
        ("auto", "true", "false"),
    ),
    Annotation(
        "mesh/proxy-await",
        (_L5D + "proxy-await",),
        "switch",
        "enabled",
        "hold the application back until the proxy is ready (ordinary sidecar only)",
    ),
    Annotation(
        "mesh/connect-timeout",
        (_L5D + "proxy-outbound-connect-timeout",),
        "duration",
        "1s",
        "longest TCP and TLS connect to an endpoint",
    ),
    Annotation(
        "mesh/drain-timeout",
        (_L5D + "shutdown-grace-period",),
        "duration",
        "",
        "hard stop after SIGTERM; unset: two seconds before the pod's grace period ends",
    ),
    Annotation(
        "mesh/proxy-workers",
        (),
        "count",
        "",
        "processes of the proxy that serve traffic, 1 to 64; unset: one",
    ),
    Annotation(
        "mesh/redirect-mode",
        (),
        "choice",
        "auto",
        "how init programs the redirect: auto, nft or legacy",
        ("auto", "nft", "legacy"),
    ),
)

_RETRY: Final = "retry.linkerd.io/"
_TIMEOUT: Final = "timeout.linkerd.io/"
_ACCRUAL: Final = "balancer.linkerd.io/failure-accrual"

# Annotations of Services and, but for the last six, of HTTPRoutes and GRPCRoutes.
ROUTE_ANNOTATIONS: Final[tuple[Annotation, ...]] = (
    Annotation(
        "mesh/retry-http",
        (_RETRY + "http",),
        "statuses",
        "",
        "statuses that are retried: 5xx, gateway-error (502 to 504), a code, a range 500-504",
        namespace=False,
    ),
    Annotation(
        "mesh/retry-grpc",
        (_RETRY + "grpc",),
        "grpc-codes",
        "",
        "gRPC codes that are retried, such as unavailable,internal",
        namespace=False,
    ),
    Annotation(
        "mesh/retry-limit",
        (_RETRY + "limit",),
        "count",
        "1",
        "most retries of one request after its first try",
        namespace=False,
    ),
    Annotation(
        "mesh/retry-timeout",
        (_RETRY + "timeout",),
        "duration",
        "",
        "longest wait for the response head of one try; then it is retried",
        namespace=False,
    ),
    Annotation(
        "mesh/timeout-request",
        (_TIMEOUT + "request",),
        "duration",
        "",
        "longest request, retries included, to the end of its response",
        namespace=False,
    ),
    Annotation(
        "mesh/timeout-response",
        (_TIMEOUT + "response",),
        "duration",
        "",
        "longest time from the end of a request to the end of its response",
        namespace=False,
    ),
    Annotation(
        "mesh/timeout-idle",
        (_TIMEOUT + "idle",),
        "duration",
        "",
        "longest silence in both directions within a request",
        namespace=False,
    ),
    Annotation(
        "mesh/timeout-stream",
        (),
        "duration",
        "",
        "longest life of a response or tunnel that has begun",
        namespace=False,
    ),
    Annotation(
        "mesh/balancer",
        (),
        "balancer",
        "ewma",
        "how an endpoint is picked: ewma, least-request, round-robin, random, or the same one for "
        "the same key: hash-header:NAME or hash-cookie:NAME",
        namespace=False,
    ),
    Annotation(
        "mesh/failure-accrual",
        (_ACCRUAL,),
        "choice",
        "",
        "takes out endpoints that keep failing: consecutive counts failures in a row",
        ("consecutive",),
        namespace=False,
    ),
    Annotation(
        "mesh/failure-accrual-max-failures",
        (_ACCRUAL + "-consecutive-max-failures",),
        "count",
        "7",
        "failures in a row that take an endpoint out",
        namespace=False,
    ),
    Annotation(
        "mesh/failure-accrual-min-penalty",
        (_ACCRUAL + "-consecutive-min-penalty",),
        "duration",
        "1s",
        "how long an endpoint is out first; then twice as long each time",
        namespace=False,
    ),
    Annotation(
        "mesh/failure-accrual-max-penalty",
        (_ACCRUAL + "-consecutive-max-penalty",),
        "duration",
        "1m",
        "how long an endpoint is out at most",
        namespace=False,
    ),
    Annotation(
        "mesh/failure-accrual-jitter-ratio",
        (_ACCRUAL + "-consecutive-jitter-ratio",),
        "ratio",
        "0.5",
        "how much of a penalty is added at random, 0 to 100",
        namespace=False,
    ),
)

ROUTE_ANNOTATION_BY_NAME: Final[Mapping[str, Annotation]] = {
    name: annotation
    for annotation in ROUTE_ANNOTATIONS
    for name in (annotation.name, *annotation.aliases)
}

ANNOTATION_BY_NAME: Final[Mapping[str, Annotation]] = {
    name: annotation
    for annotation in ANNOTATIONS
    for name in (annotation.name, *annotation.aliases)
}

# Annotations with one of these prefixes that no table knows are reported as misspelt.
OUR_PREFIXES: Final = ("mesh/", "config.linkerd.io/", "linkerd.io/")
ROUTE_PREFIXES: Final = (_RETRY, _TIMEOUT, "balancer.linkerd.io/", "balancer.alpha.linkerd.io/")
