"""The model that every dialect compiles to and every proxy runs.

Frozen values only. `Snapshot` is the whole cluster as destination compiled it, `View` the
part that one proxy holds, `Update` the change from one view to the next, applied as one
step. Nothing here knows which dialect a route came from, except as `Source`, for messages.
Services are keyed by authority: `name.namespace.svc.<cluster domain>:port`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

T = TypeVar("T")


class Protocol(StrEnum):
    """What a service port is known to speak; DETECT when nobody declared it."""

    HTTP1 = "http1"
    HTTP2 = "http2"
    GRPC = "grpc"
    TLS = "tls"
    OPAQUE = "opaque"
    DETECT = "detect"


BY_CONNECTION: Final = frozenset((Protocol.TLS, Protocol.OPAQUE))  # nobody looks for requests there


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


class Verdict(StrEnum):
    """What became of one object that a user applied."""

    EFFECTIVE = "Effective"
    PARTIAL = "Partial"
    SHADOWED = "Shadowed"
    REJECTED = "Rejected"


class Source(Struct, frozen=True):
    """The object that a piece of the model came from."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


class Problem(Struct, frozen=True):
    """What could not be honoured in one object: where, why, and how bad it is.

    `path` is the field, as in `spec.routes[2].isRetryable`. `reason` is a fixed word.
    """

    source: Source
    path: str
    reason: str
    message: str
    severity: Severity = Severity.WARNING


class Endpoint(Struct, frozen=True):
    """One `address:port` that serves a service.

    `identity` is the DNS identity to demand ("" where the peer has no proxy: plaintext).
    `opaque` says that the peer's proxy forwards this port without parsing it.
    """

    address: str
    port: int
    identity: str = ""
    opaque: bool = False
    pod: str = ""
    namespace: str = ""
    workload: str = ""  # "deployment/web"
    zone: str = ""


class Breaker(Struct, frozen=True):
    """When an endpoint is taken out, and how it comes back. Per endpoint and client proxy.

    Out after `max_failures` failures in a row (5xx, gRPC failures, no answer). The first
    penalty is `min_penalty` seconds and doubles up to `max_penalty`; up to `jitter` times the
    penalty is added at random. With `probes` one request then decides (Linkerd); without, the
    endpoint is back by time alone (Istio). `max_share` of the endpoints may be out at once.
    """

    max_failures: int = 7
    min_penalty: float = 1.0
    max_penalty: float = 60.0
    jitter: float = 0.5
    probes: bool = True
    max_share: float = 1.0


class ConnectionPool(Struct, frozen=True):
    """Limits of one client proxy towards one service; None is no limit. Times in seconds."""

    max_connections: int | None = None
    max_pending: int | None = None
    max_requests: int | None = None  # under way at once
    requests_per_connection: int | None = None
    connect_timeout: float | None = None
    idle_timeout: float | None = None


class Balancing(StrEnum):
    """How an endpoint is picked. EWMA: the better of two by latency and load."""

    EWMA = "ewma"
    LEAST_REQUEST = "least-request"
    ROUND_ROBIN = "round-robin"
    RANDOM = "random"
    HASH = "hash"  # the same endpoint for the same key, as long as endpoints stay


class HashKey(Struct, frozen=True):
    """What decides with Balancing.HASH: a header, by its lower-case name, or a cookie. A request
    without it goes where EWMA says."""

    header: str = ""
    cookie: str = ""


class BackendPolicy(Struct, frozen=True):
    """How the endpoints of one service are used, whatever rule leads there."""

    balancing: Balancing = Balancing.EWMA
    key: HashKey | None = None
    breaker: Breaker | None = None
    pool: ConnectionPool | None = None


class Service(Struct, frozen=True):
    """One port of one Service with its ready endpoints. `exists` False: no such Service."""

    authority: str
    namespace: str
    name: str
    port: int
    endpoints: tuple[Endpoint, ...] = ()
    exists: bool = True
    policy: BackendPolicy | None = None


class HeaderEdit(Struct, frozen=True):
    """Changes to the fields of a message, in this order: set, add, remove; names lower-case.
    `add` joins to a field that is there with a comma and no space (RFC 9110 §5.3)."""

    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


class PathChange(Struct, frozen=True):
    """A new path: `full` replaces all of it, else `prefix` replaces the `matched` one. Queries
    stay. `mesh.core.filters` applies it."""

    full: str | None = None
    prefix: str = ""
    matched: str = ""


class Redirect(Struct, frozen=True):
    """The answer is a redirection; None keeps what the request has (Gateway API)."""

    scheme: str | None = None
    hostname: str | None = None
    port: int | None = None
    path: PathChange | None = None
    status: int = 302


class Rewrite(Struct, frozen=True):
    """The request goes on with another Host or path."""

    hostname: str | None = None
    path: PathChange | None = None


class Mirror(Struct, frozen=True):
    """A copy of `share` (0 to 1) of the requests goes there; its response is thrown away."""

    authority: str
    share: float = 1.0


class Cors(Struct, frozen=True):
    """Cross-origin answers (Fetch standard §3.2). `*` in a list means anything.

    An origin may hold one wildcard, as in `https://*.example.com`. `max_age` is in seconds.
    """

    allow_origins: tuple[str, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    allow_credentials: bool = False
    max_age: int = 5


class Filters(Struct, frozen=True):
    """What happens to a request and its response on the way, of a rule or of one backend.

    Order: CORS, redirect (ends the request), request edit, rewrite, mirrors; on the way back
    the response edit. Those of a rule come before those of the backend.
    """

    request: HeaderEdit | None = None
    response: HeaderEdit | None = None
    redirect: Redirect | None = None
    rewrite: Rewrite | None = None
    mirrors: tuple[Mirror, ...] = ()
    cors: Cors | None = None


class Retry(Struct, frozen=True):
    """When a request is sent again beyond what is always safe. Budget and body cap are outside.

    `limit` counts retries after the first try; None leaves it to budget and timeout, 0 turns
    them off. `statuses` are inclusive ranges, `grpc` codes; `on_reset` means that the server
    went away before its response, `on_timeout` that a try took too long, `on_failure` what
    the route class (else 5xx) calls a failure. Backoffs are seconds, doubled, full jitter.
    `redraw` draws a backend of the rule anew (HTTPRoute); else the drawn one stays.
    """

    limit: int | None = 1
    statuses: tuple[tuple[int, int], ...] = ()
    grpc: tuple[int, ...] = ()
    on_reset: bool = False
    on_timeout: bool = False
    on_failure: bool = False
    backoff: float = 0.025
    max_backoff: float = 0.25
    redraw: bool = True


class Budget(Struct, frozen=True):
    """How many retries a service may get from one proxy: `ratio` of the first tries within
    the last `ttl` seconds, and `min_per_second` besides. Always in force."""

    ratio: float = 0.2
    min_per_second: float = 10.0
    ttl: float = 10.0


class Policy(Struct, frozen=True):
    """Timeouts and retries. None: not said here; 0: said to be without. Seconds.

    `request` is the whole request, retries included, to the end of the response; `attempt`
    one try to the end of its response; `headers` one try to its response head; `response`
    from the end of the request to the end of the response; `idle` no byte either way;
    `stream` the life of a response, or tunnel, that has begun.
    """

    request: float | None = None
    attempt: float | None = None
    headers: float | None = None
    response: float | None = None
    idle: float | None = None
    stream: float | None = None
    retry: Retry | None = None


class Backend(Struct, frozen=True):
    """A weighted target of a rule. Weights are relative within the rule; 0 gets nothing.

    `refused` says why this backend may never serve ("" where it may): its share fails.
    `source` is the object that put it in the place of the one that the rule names.
    """

    authority: str
    weight: int = 1
    filters: Filters | None = None
    refused: str = ""
    source: Source | None = None


class HeaderMatch(Struct, frozen=True):
    """One header condition; `value` is exact text or, with `regex`, a full-match pattern."""

    name: str
    value: str
    regex: bool = False


class QueryMatch(Struct, frozen=True):
    """One condition on the first value of a query parameter, decoded; as HeaderMatch."""

    name: str
    value: str
    regex: bool = False


class Match(Struct, frozen=True):
    """A condition on a request head: all given parts must hold. The empty match holds always.

    `path_prefix` covers whole segments (Gateway API), `path_start` any text (Istio). `sni` are
    server names of a TLS connection, `*.` covering one or more labels; it is asked of
    connections only, the rest of requests only. `also` is a further match that must hold.
    """

    path: str | None = None
    path_prefix: str | None = None
    path_regex: str | None = None
    method: str | None = None
    headers: tuple[HeaderMatch, ...] = ()
    path_start: str | None = None
    ignore_case: bool = False  # of path, path_prefix and path_start
    without_headers: tuple[HeaderMatch, ...] = ()
    query: tuple[QueryMatch, ...] = ()
    sni: tuple[str, ...] = ()
    also: Match | None = None


class Rule(Struct, frozen=True):
    """One entry of a route table: any of `matches` (none: always) -> weighted backends.

    `policy` is what the rule's object says, `defaults` what the Service says; the overlay of a
    profile lies between (`mesh.core.route.settle`). `failure` is the status for a backend that
    does not exist, or for no backend at all.
    """

    backends: tuple[Backend, ...]
    matches: tuple[Match, ...] = ()
    source: Source | None = None
    index: int = 0  # position in the source object, for messages
    name: str = ""
    filters: Filters | None = None
    policy: Policy | None = None
    defaults: Policy | None = None
    failure: int = 503


class Condition(Struct, frozen=True):
    """A ServiceProfile's condition: a tree of all, any and not over path and method, or status.

    Exactly one field is set, except that path and method may stand together (both must hold).
    Status bounds are inclusive and serve response conditions.
    """

    path: str | None = None
    path_regex: str | None = None
    method: str | None = None
    status_min: int | None = None
    status_max: int | None = None
    all: tuple[Condition, ...] | None = None
    any: tuple[Condition, ...] | None = None
    negated: Condition | None = None


class ResponseClass(Struct, frozen=True):
    """Which responses of a route class count as failure (or explicitly as success)."""

    condition: Condition
    is_failure: bool = True


class RouteClass(Struct, frozen=True):
    """An overlay on requests of one service: a name for metrics, classes, a timeout."""

    name: str
    condition: Condition
    response_classes: tuple[ResponseClass, ...] = ()
    timeout: float | None = None
    retryable: bool = False


class Profile(Struct, frozen=True):
    """What a ServiceProfile says of one service: its route classes in order, first match wins."""

    source: Source
    routes: tuple[RouteClass, ...] = ()


class Target(Struct, frozen=True):
    """What one original destination `ip:port` means to one client.

    A ClusterIP has `authority` and `rules`; a pod address has `endpoint` (and the authority
    of its headless Service, if any). An address that is neither is external: forwarded as it
    is, in plaintext, with a reason. `rules` are tried in order; a request that meets none is
    answered with 404. `connections` are the rules for what is not read as HTTP; where there are
    none, the last of `rules` is meant. `budget` None is the default one.
    """

    address: str
    protocol: Protocol = Protocol.DETECT
    authority: str = ""
    rules: tuple[Rule, ...] = ()
    profile: Profile | None = None
    endpoint: Endpoint | None = None
    connections: tuple[Rule, ...] = ()
    budget: Budget | None = None


class InboundPort(Struct, frozen=True):
    """One port of this pod as its proxy should treat it."""

    port: int
    protocol: Protocol = Protocol.DETECT
    service_port: int = 0


class Inbound(Struct, frozen=True):
    """The inbound side of this pod: port protocols, profiles by authority, who may come."""

    ports: tuple[InboundPort, ...] = ()
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    require_tls: bool = False


class View(Struct, frozen=True):
    """Everything one proxy knows of the cluster. Immutable; `apply` gives the next one.

    `targets` holds what was subscribed to; `services` those that the targets' rules name.
    """

    version: int = 0
    targets: Mapping[str, Target] = field(default_factory=dict)
    services: Mapping[str, Service] = field(default_factory=dict)
    inbound: Inbound = field(default_factory=Inbound)
    bundle: str = ""  # PEM of all trust anchors
    app_done: bool = False  # every application container of this pod has ended

    def apply(self, update: Update) -> View:
        """The view after `update`; entries that are None in it are removed."""
        return replace(
            self,
            version=update.version,
            targets=_merged(self.targets, update.targets),
            services=_merged(self.services, update.services),
            inbound=self.inbound if update.inbound is None else update.inbound,
            bundle=self.bundle if update.bundle is None else update.bundle,
            app_done=self.app_done if update.app_done is None else update.app_done,
        )


class Update(Struct, frozen=True):
    """What changed for one proxy since its last version, complete and atomic.

    None as a value removes the entry; None as a field leaves it as it was.
    """

    version: int
    targets: Mapping[str, Target | None] = field(default_factory=dict)
    services: Mapping[str, Service | None] = field(default_factory=dict)
    inbound: Inbound | None = None
    bundle: str | None = None
    app_done: bool | None = None


def _merged(old: Mapping[str, T], new: Mapping[str, T | None]) -> Mapping[str, T]:
    if not new:
        return old
    merged = dict(old)
    for key, value in new.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = value
    return merged
