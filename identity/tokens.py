"""Who is asking: TokenReview, with a short memory.

A review is remembered for a minute and never beyond the token's end, by a digest of the token.
Only success is remembered. No answer is a refusal: identity fails closed.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

from identity.issue import Claims, Review, identify
from mesh.core import labels
from mesh.core.errors import ApiError, IdentityError
from mesh.core.names import WorkloadId

REMEMBER_SECONDS: Final = 60.0
MAX_REMEMBERED: Final = 8192
REVIEW_SECONDS: Final = 5.0


class Reviewed(Protocol):
    """`mesh.kube.client.Reviewed`, as far as it is needed here."""

    @property
    def username(self) -> str: ...
    @property
    def audiences(self) -> tuple[str, ...]: ...
    @property
    def extra(self) -> Any: ...
    @property
    def error(self) -> str: ...


ReviewToken = Callable[[str, Sequence[str]], Awaitable[Reviewed]]


class TokenReader:
    """Turns tokens into workloads."""

    def __init__(self, review: ReviewToken, *, trust_domain: str) -> None:
        self._review = review
        self._trust_domain = trust_domain
        self._known: OrderedDict[bytes, tuple[WorkloadId, float]] = OrderedDict()
        self.reviews = 0

    async def read(self, token: str, claims: Claims, *, now: float) -> WorkloadId:
        """Whom the token belongs to. Raises IdentityError; see `identity.issue.identify`.

        `review-unavailable` when the API server does not answer.
        """
        digest = hashlib.sha256(token.encode()).digest()
        known = self._known.get(digest)
        if known is not None and now < known[1]:
            return known[0]
        workload = identify(await self._ask(token), claims, trust_domain=self._trust_domain)
        self._remember(digest, workload, min(now + REMEMBER_SECONDS, claims.expires))
        return workload

    async def _ask(self, token: str) -> Review:
        self.reviews += 1
        try:
            async with asyncio.timeout(REVIEW_SECONDS):
                reviewed = await self._review(token, (labels.IDENTITY_AUDIENCE,))
        except TimeoutError as error:
            raise IdentityError(
                "review-unavailable", "the API server does not review tokens in time"
            ) from error
        except ApiError as error:
            raise IdentityError(
                "review-unavailable", f"the API server reviews no token: {error.reason}"
            ) from error
        return Review(
            user=reviewed.username,
            audiences=tuple(reviewed.audiences),
            extra=reviewed.extra or {},
            error=reviewed.error,
        )

    def _remember(self, digest: bytes, workload: WorkloadId, until: float) -> None:
        self._known[digest] = (workload, until)
        self._known.move_to_end(digest)
        while len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
