"""The webhook's HTTPS server: /inject for pods, /validate for routing objects.

A request that cannot be served in time or goes wrong is answered with an HTTP error, not with
an admission, so that the configuration's failurePolicy decides: Ignore lets the pod start
without a proxy, Fail holds it back. Patching itself is pure and in `mesh.inject.patch`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from mesh.core import labels
from mesh.core.errors import ApiError, PeerError
from mesh.inject.admission import Review, answer, parse_review
from mesh.inject.config import InjectConfig
from mesh.inject.events import DOUBTFUL, INJECTED, SKIPPED, News
from mesh.inject.patch import Cluster, Injection, Namespace, Skip, plan_injection
from mesh.inject.validate import validate

MAX_BODY: Final = 3 * 1024 * 1024  # bytes
DEADLINE: Final = 2.0  # seconds for one request, body included
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)

_KINDS: Final = frozenset(
    (
        *("ServiceProfile", "TrafficSplit", "HTTPRouteGroup"),
        *("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute"),
    )
)

log = logging.getLogger(__name__)


class View(Protocol):
    """What the webhook needs to know of the cluster (`mesh.inject.view.ClusterView`)."""

    config: InjectConfig | None
    bundle: str

    @property
    def cluster(self) -> Cluster: ...

    async def namespace(self, name: str) -> Namespace: ...


class Metrics:
    """Admissions by what became of them; `reason` is one of the fixed words of the code."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.admissions = Counter(
            "mesh_inject_admissions",
            "Pods seen, by result (injected, meshed, skipped, error) and reason.",
            ("result", "reason"),
            registry=registry,
        )
        self.warnings = Counter(
            "mesh_inject_warnings", "Warnings given at admission.", registry=registry
        )
        self.validations = Counter(
            "mesh_inject_validations", "Routing objects looked at.", ("kind",), registry=registry
        )
        self.seconds = Histogram(
            "mesh_inject_admission_seconds",
            "Time from the head of a request to its answer.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self.not_after = Gauge(
            "mesh_inject_certificate_not_after_seconds",
            "End of the serving certificate, unix time.",
            registry=registry,
        )
        self.events_lost = Gauge(
            "mesh_inject_events_lost", "Events that could not be written.", registry=registry
        )


class Webhook:
    """Answers admission requests from a view of the cluster."""

    def __init__(
        self,
        view: View,
        metrics: Metrics,
        tell: Callable[[News], None],
        *,
        deadline: float = DEADLINE,
    ) -> None:
        self._view = view
        self._metrics = metrics
        self._tell = tell
        self._deadline = deadline

    def make_app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_post("/inject", self.inject)
        app.router.add_post("/validate", self.validate)
        return app

    async def inject(self, request: web.Request) -> web.Response:
        """One pod."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._deadline):
                review = parse_review(await request.read())
                response = await self._admit(review)
        except (PeerError, ApiError, TimeoutError) as error:
            return self._failed(error)
        except web.HTTPException as error:  # a body above the limit
            self._metrics.admissions.labels("error", "too-large").inc()
            return _refusal(error.status, error.text or "")
        except Exception:
            log.exception("admission failed")
            self._metrics.admissions.labels("error", "bug").inc()
            return _refusal(500, "internal error; see the log of mesh-inject")
        finally:
            self._metrics.seconds.observe(time.monotonic() - started)
        return web.json_response(response)

    async def validate(self, request: web.Request) -> web.Response:
        """One routing object: allowed with warnings, or refused where nothing of it reads."""
        try:
            async with asyncio.timeout(self._deadline):
                review = parse_review(await request.read())
        except (PeerError, TimeoutError) as error:
            return self._failed(error)
        config = self._view.config
        domain = config.cluster_domain if config is not None else labels.CLUSTER_DOMAIN
        found = validate(review.obj, review.old, domain)
        self._metrics.validations.labels(review.kind if review.kind in _KINDS else "other").inc()
        return web.json_response(answer(review.uid, warnings=found.warnings, refusal=found.refusal))

    async def _admit(self, review: Review) -> dict[str, Any]:
        config, bundle = self._view.config, self._view.bundle
        if config is None or not bundle:
            raise ApiError(503, "not-ready", "the webhook has no install values or trust bundle")
        if review.kind != "Pod":
            return answer(review.uid)
        namespace = await self._view.namespace(review.namespace)
        outcome = plan_injection(
            review.obj, namespace, config, bundle=bundle, cluster=self._view.cluster
        )
        self._record(review, outcome)
        if isinstance(outcome, Injection):
            return answer(review.uid, patch=outcome.patch, warnings=outcome.warnings)
        warnings = list(outcome.warnings)
        if outcome.wanted:
            warnings.append(f"not injected: {outcome.message}")
        return answer(review.uid, warnings=warnings)

    def _record(self, review: Review, outcome: Injection | Skip) -> None:
        """Metrics always; events only for what really happens (not in a dry run)."""
        self._metrics.warnings.inc(len(outcome.warnings))
        news: list[tuple[str, str]] = [(DOUBTFUL, text) for text in outcome.warnings]
        if isinstance(outcome, Skip):
            self._metrics.admissions.labels("skipped", outcome.reason).inc()
            if outcome.wanted:
                news.append((SKIPPED, f"{outcome.message} ({outcome.reason})"))
        elif outcome.is_new:
            self._metrics.admissions.labels("injected", "").inc()
            news.append((INJECTED, "the pod gets a proxy"))
        else:
            self._metrics.admissions.labels("meshed", "").inc()
        if not review.dry_run:
            for reason, message in news:
                self._tell(News(review.obj, review.namespace, reason, message))

    def _failed(self, error: PeerError | ApiError | TimeoutError) -> web.Response:
        if isinstance(error, PeerError):
            status, reason = error.status, error.reason
        elif isinstance(error, ApiError):
            status, reason = 503, "not-ready" if error.reason == "not-ready" else "api"
        else:
            status, reason = 504, "timeout"
        self._metrics.admissions.labels("error", reason).inc()
        log.warning("admission not answered reason=%s error=%s", reason, str(error)[:200])
        return _refusal(status, str(error) or reason)


def _refusal(status: int, message: str) -> web.Response:
    return web.Response(status=status, text=f"mesh: {message[:500]}\n")
