"""The shell of identity: `POST /v1/certificates` over TLS, its limits and its metrics.

The order is: what costs nothing first. Size, form, how often this pod has asked, the request's
own signature; only then a turn in the queue, the review of the token and the leaf.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from identity.issue import Trust, issue_leaf, read_claims, read_key, read_request
from identity.limits import FairGate
from identity.tokens import TokenReader
from mesh.core import labels
from mesh.core.errors import IdentityError
from mesh.pki.leaf import LEAF_LIFE
from mesh.runtime.buckets import Buckets
from mesh.runtime.certify import CERTIFICATES_PATH, Issued
from mesh.runtime.web import HttpServer, Limits

MAX_BODY: Final = 32 * 1024
RATE, BURST = 1.0, 5  # per pod: a second, at once
WIDTH: Final = 16  # token reviews at a time
MOST_WAITING, MOST_WAITING_EACH = 4096, 1024
_BODY_SECONDS: Final = 5.0
_QUEUE_SECONDS: Final = 8.0  # below the ten seconds that a proxy waits

# A node whose pods share its address may start two hundred of them at once.
_LIMITS: Final = Limits(
    connections=2048, head_seconds=10.0, life_seconds=30.0, address_rate=50.0, address_burst=400
)
_BAD_REQUEST: Final = ("bad-request", "csr-")
_FORBIDDEN: Final = ("token-",)

log = logging.getLogger(__name__)


class Metrics:
    """What identity counts. Label values are our own fixed words."""

    def __init__(self, registry: CollectorRegistry, trust: Callable[[], Trust | None]) -> None:
        self.requests = Counter(
            "mesh_identity_requests",
            "Certificate requests by result: issued, or why not.",
            ["result"],
            registry=registry,
        )
        self.seconds = Histogram(
            "mesh_identity_request_seconds",
            "Time from the whole request to its answer.",
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
            registry=registry,
        )
        self.waiting = Gauge(
            "mesh_identity_requests_waiting",
            "Requests that wait for their turn.",
            registry=registry,
        )
        self.reviews = Counter(
            "mesh_identity_token_lookups",
            "Tokens looked up, by source: cache or review.",
            ["source"],
            registry=registry,
        )
        issuer_ttl = Gauge(
            "issuer_cert_ttl_seconds", "Seconds until the issuer ends.", registry=registry
        )
        root_ttl = Gauge(
            "trust_anchor_ttl_seconds", "Seconds until the trust anchor ends.", registry=registry
        )
        issuer_ttl.set_function(lambda: _left(trust(), lambda t: t.issuer.not_after))
        root_ttl.set_function(lambda: _left(trust(), lambda t: t.anchor_end))


class CertificateService:
    """Answers certificate requests; `trust` gives what is in force."""

    def __init__(
        self,
        *,
        trust: Callable[[], Trust | None],
        tokens: TokenReader,
        metrics: Metrics,
        leaf_life: float = LEAF_LIFE,
        mesh_namespace: str = labels.MESH_NAMESPACE,
    ) -> None:
        self._trust = trust
        self._tokens = tokens
        self._metrics = metrics
        self._leaf_life = leaf_life
        self._mesh_namespace = mesh_namespace
        self._pods = Buckets(rate=RATE, burst=BURST)
        self._failures = Buckets(rate=RATE, burst=BURST)  # by address: forgers have no name
        self._gate = FairGate(
            width=WIDTH, most_waiting=MOST_WAITING, most_waiting_each=MOST_WAITING_EACH
        )

    async def certify(self, body: bytes, peer: str) -> Issued:
        """The rules in their order. Raises IdentityError; RateError says when to come back."""
        request = read_request(body)
        now = time.monotonic()
        self._admit(self._failures.wait(peer, now))
        claims = read_claims(request.token, now=time.time())
        self._admit(self._pods.take((peer, claims.pod_uid), now))
        key = read_key(request.csr)
        async with asyncio.timeout(_QUEUE_SECONDS):
            self._metrics.waiting.set(self._gate.waiting)
            async with self._gate.turn((claims.namespace, claims.service_account)):
                reviews = self._tokens.reviews
                try:
                    workload = await self._tokens.read(request.token, claims, now=time.time())
                except IdentityError as error:
                    if error.reason.startswith(_FORBIDDEN):
                        self._failures.take(peer, time.monotonic())
                    raise
                source = "review" if self._tokens.reviews > reviews else "cache"
                self._metrics.reviews.labels(source).inc()
        issued = issue_leaf(
            self._trust(),
            workload,
            key,
            now=time.time(),
            life=self._leaf_life,
            mesh_namespace=self._mesh_namespace,
        )
        log.debug("leaf issued workload=%s peer=%s", workload.uri(), peer)
        return issued

    def _admit(self, wait: float) -> None:
        if wait > 0:
            raise RateError(wait)


class RateError(IdentityError):
    """Too many requests; `wait` is the number of seconds after which one more is welcome."""

    def __init__(self, wait: float) -> None:
        super().__init__("rate-limited", f"too many requests; try again in {wait:.1f} s")
        self.wait = wait


def make_server(
    service: CertificateService,
    metrics: Metrics,
    *,
    context: ssl.SSLContext,
    host: str = "",
    port: int = labels.IDENTITY_PORT,
) -> HttpServer:
    """The HTTPS server. `context` asks no client certificate: peers come for their first."""

    async def certificates(request: web.Request) -> web.Response:
        begun = time.perf_counter()
        result = "issued"
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await request.read()
            issued = await service.certify(body, request.remote or "")
            answer = web.json_response(
                {"chain": issued.chain, "bundle": issued.bundle, "not_after": issued.not_after}
            )
        except IdentityError as error:
            result = error.reason
            answer = _refusal(error)
        except web.HTTPRequestEntityTooLarge:
            result = "bad-request"
            answer = _refusal(IdentityError(result, f"expected at most {MAX_BODY} bytes"))
        except TimeoutError:
            result = "overloaded"
            answer = _refusal(IdentityError(result, "not answered in time; try again"))
        answer.force_close()
        metrics.requests.labels(result).inc()
        metrics.seconds.observe(time.perf_counter() - begun)
        return answer

    app = web.Application(client_max_size=MAX_BODY)
    app.router.add_post(CERTIFICATES_PATH, certificates)
    return HttpServer(app, host=host, port=port, ssl_context=context, limits=_LIMITS)


def _refusal(error: IdentityError) -> web.Response:
    headers = {}
    if isinstance(error, RateError):
        status = 429
        headers["retry-after"] = str(max(1, round(error.wait)))
    elif error.reason.startswith(_BAD_REQUEST):
        status = 400
    elif error.reason.startswith(_FORBIDDEN):
        status = 403
    else:
        status = 503
    data = {"reason": error.reason, "message": str(error)}
    return web.json_response(data, status=status, headers=headers)


def _left(trust: Trust | None, end: Callable[[Trust], float]) -> float:
    return 0.0 if trust is None else end(trust) - time.time()
