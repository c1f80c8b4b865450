"""Reviews are remembered briefly, refusals never, and no answer is a refusal."""

from __future__ import annotations

import time

import pytest

from identity import tokens
from identity.issue import Claims, read_claims
from identity.tokens import TokenReader
from mesh.core.errors import ApiError, IdentityError
from tests.identity.fakes import FakeReviewer
from tests.support.authority import workload

pytestmark = pytest.mark.anyio

NOW = time.time()


def reader(api: FakeReviewer) -> TokenReader:
    return TokenReader(api.review, trust_domain="cluster.local")


def claims_of(token: str) -> Claims:
    return read_claims(token, now=NOW)


async def test_a_review_is_remembered_for_a_minute() -> None:
    api = FakeReviewer()
    read, token = reader(api), api.token()
    claims = claims_of(token)

    for later in (0.0, 30.0, 59.9):
        assert await read.read(token, claims, now=NOW + later) == workload()
    assert api.asked == 1
    await read.read(token, claims, now=NOW + 60.1)
    assert api.asked == 2


async def test_a_review_is_never_remembered_beyond_the_end_of_the_token() -> None:
    api = FakeReviewer()
    read, token = reader(api), api.token(life=10)
    claims = claims_of(token)

    await read.read(token, claims, now=claims.expires - 5)
    api.known.clear()
    await read.read(token, claims, now=claims.expires - 0.1)

    with pytest.raises(IdentityError) as caught:
        await read.read(token, claims, now=claims.expires)
    assert caught.value.reason == "token-refused"


async def test_a_refusal_is_not_remembered() -> None:
    api = FakeReviewer()
    read, token = reader(api), api.token(is_known=False)

    for _ in range(2):
        with pytest.raises(IdentityError):
            await read.read(token, claims_of(token), now=NOW)
    assert api.asked == 2


@pytest.mark.parametrize(
    "error",
    [ApiError(0, "Unreachable", "no route"), ApiError(500, "InternalError", "x"), TimeoutError()],
)
async def test_no_answer_is_a_refusal(error: Exception) -> None:
    api = FakeReviewer()
    token = api.token()
    api.fail = error

    with pytest.raises(IdentityError) as caught:
        await reader(api).read(token, claims_of(token), now=NOW)

    assert caught.value.reason == "review-unavailable"


async def test_a_slow_answer_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "REVIEW_SECONDS", 0.01)
    api = FakeReviewer()
    api.seconds = 30.0
    token = api.token()

    with pytest.raises(IdentityError) as caught:
        await reader(api).read(token, claims_of(token), now=NOW)

    assert caught.value.reason == "review-unavailable"


async def test_the_memory_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MAX_REMEMBERED", 10)
    api = FakeReviewer()
    read = reader(api)

    for number in range(30):
        token = api.token(pod=f"uid-{number}")
        await read.read(token, claims_of(token), now=NOW)

    assert len(read._known) == 10
