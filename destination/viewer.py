"""GET /v1/reports, /v1/proxies and /v1/ask on the admin port, for holders of a viewer's token.

The token is of service account mesh-viewer with our audience; the right to create one is the
permission to read. It comes in `x-mesh-token`, since the API server's proxy strips the header
Authorization, or in that where a port-forward is used.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol

import msgspec
from aiohttp import web

from destination.reports import LONGEST_WINDOW, ReportKeeper
from destination.server import MOST_ASKED
from mesh.core import labels
from mesh.core.errors import ApiError
from mesh.core.report import AskedAnswer, ProxiesAnswer, ProxyAnswer
from mesh.kube.client import Reviewed

log = logging.getLogger(__name__)

Review = Callable[[str, Sequence[str]], Awaitable[Reviewed]]

_REMEMBERED: Final = 30.0  # seconds that a review's answer is taken as given
_MOST_REMEMBERED: Final = 1024
_LONGEST_TOKEN: Final = 16 * 1024
_LONGEST_QUESTION: Final = 16 * 1024


class AskProxies(Protocol):
    """Asks connected proxies; see `StreamServer.ask`."""

    def __call__(
        self,
        what: str,
        query: Mapping[str, str],
        *,
        namespace: str = "",
        pod: str = "",
        most: int = ...,
    ) -> Awaitable[tuple[ProxyAnswer, ...]]: ...


class ViewerRoutes:
    """The routes that a role adds to its admin server."""

    def __init__(
        self,
        *,
        review: Review,
        reports: ReportKeeper,
        proxies: Callable[[], ProxiesAnswer],
        ask: AskProxies,
        mesh_namespace: str = labels.MESH_NAMESPACE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._review = review
        self._reports = reports
        self._proxies = proxies
        self._ask = ask
        self._viewer = (mesh_namespace, labels.VIEWER)
        self._clock = clock
        self._known: dict[bytes, tuple[float, str]] = {}  # digest -> until, refusal or ""

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/reports", self._get_reports),
            web.get("/v1/proxies", self._get_proxies),
            web.get("/v1/ask", self._get_ask),
        ]

    async def _get_reports(self, request: web.Request) -> web.Response:
        await self._check(request)
        text = request.query.get("window", "60")
        try:
            window = float(text)
        except ValueError:
            window = -1.0
        if not 1.0 <= window <= LONGEST_WINDOW:
            message = f"window: expected 1 to {LONGEST_WINDOW:.0f} seconds, got {text[:20]!r}"
            raise web.HTTPBadRequest(text=message)
        answer = self._reports.answer(window, namespace=request.query.get("namespace", ""))
        return _json(answer)

    async def _get_proxies(self, request: web.Request) -> web.Response:
        await self._check(request)
        return _json(self._proxies())

    async def _get_ask(self, request: web.Request) -> web.Response:
        """A question to one proxy, or to those of a namespace, or to all that are here."""
        await self._check(request)
        query = dict(request.query)
        what = query.pop("what", "")
        namespace, pod = query.pop("namespace", ""), query.pop("pod", "")
        most = query.pop("most", "")
        limit = int(most) if most.isdigit() and len(most) < 6 else MOST_ASKED
        if not what or sum(map(len, query.values())) > _LONGEST_QUESTION:
            raise web.HTTPBadRequest(text="what: expected a word, and a question of 16 KiB at most")
        return _json(
            AskedAnswer(await self._ask(what, query, namespace=namespace, pod=pod, most=limit))
        )

    async def _check(self, request: web.Request) -> None:
        """Refuse whoever does not hold a viewer's token."""
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        token = request.headers.get(labels.H_VIEWER_TOKEN, "")
        token = token or (bearer.strip() if scheme.lower() == "bearer" else "")
        if not token or len(token) > _LONGEST_TOKEN:
            raise web.HTTPUnauthorized(
                text=f"expected a token of service account {labels.VIEWER} with audience "
                f"{labels.DESTINATION_AUDIENCE} in {labels.H_VIEWER_TOKEN}"
            )
        refusal = await self._refusal_of(token)
        if refusal:
            raise web.HTTPForbidden(text=refusal)

    async def _refusal_of(self, token: str) -> str:
        digest, now = hashlib.sha256(token.encode()).digest(), self._clock()
        until, refusal = self._known.get(digest, (0.0, ""))
        if now < until:
            return refusal
        try:
            reviewed = await self._review(token, [labels.DESTINATION_AUDIENCE])
        except ApiError as error:
            log.warning("token not reviewed: %s", error.message)
            raise web.HTTPServiceUnavailable(text="the API server reviews no token now") from error
        refusal = ""
        if reviewed.service_account != self._viewer:
            refusal = f"expected a token of {'/'.join(self._viewer)}: {reviewed.error}"
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[digest] = (now + _REMEMBERED, refusal)
        return refusal


def _json(answer: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")
