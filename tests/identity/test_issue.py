"""The rules: whom a token proves, and what a request may ask."""

from __future__ import annotations

import time
from typing import Any

import pytest
from cryptography import x509

from identity.issue import Claims, Review, Trust, identify, issue_leaf, read_claims, read_request
from mesh.core.errors import IdentityError
from mesh.pki.csr import make_key
from tests.identity.fakes import FakeReviewer, make_token
from tests.support.authority import TrustChain, workload

NOW = time.time()
CLAIMS = Claims("shop", "web", "uid-1", NOW + 600)
POD = "authentication.kubernetes.io/pod-uid"


def review(**changes: Any) -> Review:
    fields: dict[str, Any] = {
        "user": "system:serviceaccount:shop:web",
        "audiences": ("mesh-identity",),
        "extra": {POD: ["uid-1"]},
    }
    return Review(**(fields | changes))


def refusal(act: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(IdentityError) as caught:
        act(*arguments, **named)
    return caught.value.reason


def test_a_reviewed_token_names_the_workload() -> None:
    assert identify(review(), CLAIMS, trust_domain="cluster.local") == workload()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"user": ""}, "token-refused"),
        ({"audiences": ()}, "token-audience"),
        ({"audiences": ("https://kubernetes.default.svc",)}, "token-audience"),
        ({"audiences": ("mesh-identity.evil",)}, "token-audience"),
        ({"user": "kubernetes-admin"}, "token-user"),
        ({"user": "system:node:node-1"}, "token-user"),
        ({"user": "system:serviceaccount:shop"}, "token-user"),
        ({"user": "system:serviceaccount:shop:web:x"}, "token-user"),
        ({"user": "system:serviceaccount:shop:We_b"}, "token-user"),
        ({"user": "system:serviceaccount:a/b:web"}, "token-user"),
        ({"user": "system:serviceaccount:shop:web/../root"}, "token-user"),
        ({"user": "system:serviceaccount:shop:web\x00"}, "token-user"),
        ({"user": "system:serviceaccount:other:web"}, "token-user"),
        ({"user": "system:serviceaccount:shop:other"}, "token-user"),
        ({"extra": {}}, "token-unbound"),
        ({"extra": {POD: ["uid-2"]}}, "token-unbound"),
        ({"extra": {POD: ["uid-1", "uid-2"]}}, "token-unbound"),
    ],
)
def test_any_other_review_is_refused(changes: dict[str, Any], reason: str) -> None:
    assert refusal(identify, review(**changes), CLAIMS, trust_domain="cluster.local") == reason


def test_claims_are_read_from_a_token_as_kubernetes_makes_it() -> None:
    claims = read_claims(FakeReviewer().token(), now=NOW)

    assert (claims.namespace, claims.service_account, claims.pod_uid) == ("shop", "web", "uid-1")
    assert claims.expires == pytest.approx(time.time() + 3600, abs=5)


POD_CLAIMS = {"namespace": "shop", "pod": {"uid": "u"}, "serviceaccount": {"name": "web"}}
GOOD = {"aud": ["mesh-identity"], "exp": NOW + 600, "kubernetes.io": POD_CLAIMS}


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        (GOOD | {"aud": ["https://kubernetes.default.svc"]}, "token-audience"),
        (GOOD | {"aud": []}, "token-audience"),
        (GOOD | {"aud": None}, "token-audience"),
        (GOOD | {"aud": {"mesh-identity": 1}}, "token-audience"),
        (GOOD | {"exp": NOW - 301}, "token-expired"),
        (GOOD | {"exp": None}, "token-invalid"),
        (GOOD | {"exp": True}, "token-invalid"),
        (GOOD | {"exp": float("nan")}, "token-invalid"),
        (GOOD | {"exp": float("inf")}, "token-invalid"),
        (GOOD | {"exp": 10**400}, "token-invalid"),
        (GOOD | {"exp": -1}, "token-invalid"),
        (GOOD | {"exp": "tomorrow"}, "token-invalid"),
        (GOOD | {"kubernetes.io": None}, "token-unbound"),
        (GOOD | {"kubernetes.io": {"pod": "p"}}, "token-unbound"),
        (GOOD | {"kubernetes.io": {"pod": {"uid": 7}}}, "token-unbound"),
        ([], "token-invalid"),
        ("text", "token-invalid"),
        (None, "token-invalid"),
    ],
)
def test_a_token_that_cannot_count_is_refused_before_the_api_is_asked(
    claims: object, reason: str
) -> None:
    assert refusal(read_claims, make_token(claims), now=NOW) == reason


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a",
        make_token({}) + "\ud800",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "..",
        "é.é.é",
        "e30.e30.",
        "x" * 20_000,
    ],
)
def test_what_is_no_token_is_refused(token: str) -> None:
    assert refusal(read_claims, token, now=NOW) == "token-invalid"


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b"\xff", b'{"token": 1, "csr": "x"}', b'{"token": "x"}', b"[" * 9999],
)
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    assert refusal(read_request, body) == "bad-request"


def test_without_issuer_or_with_an_ended_one_nothing_is_signed() -> None:
    chain = TrustChain()
    key = make_key().public_key()
    ended = Trust(chain.issuer, anchor_end=NOW - 1, bundle=chain.bundle)

    assert refusal(issue_leaf, None, workload(), key, now=NOW) == "no-issuer"
    assert refusal(issue_leaf, ended, workload(), key, now=NOW) == "issuer-expired"


def test_a_leaf_ends_with_its_anchor_at_the_latest() -> None:
    chain = TrustChain()
    trust = Trust(chain.issuer, anchor_end=float(int(NOW)) + 90, bundle=chain.bundle)

    issued = issue_leaf(trust, workload(), make_key().public_key(), now=NOW)

    leaf = x509.load_pem_x509_certificate(issued.chain.encode())
    assert leaf.not_valid_after_utc.timestamp() == issued.not_after == float(int(NOW)) + 90
    assert issued.bundle == chain.bundle
