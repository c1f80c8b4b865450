"""Service-account tokens: what they claim, and what makes them worthless."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from mesh.local.api.store import Store
from mesh.local.api.tokens import Binding, Signer, TokenError, identify

KEY = ec.generate_private_key(ec.SECP256R1())
NOW = 1_000_000.0


def signer(now: float = NOW) -> Signer:
    return Signer(KEY, clock=lambda: now)


def cluster() -> tuple[Store, Any, Any]:
    store = Store()
    account = store.create("serviceaccounts", {"metadata": {"name": "web", "namespace": "shop"}})
    pod = store.create("pods", {"metadata": {"name": "web-1", "namespace": "shop"}})
    return store, account, pod


def bound(pod: Any) -> Binding:
    return Binding("Pod", "web-1", pod["metadata"]["uid"], "node", "node-uid")


def test_the_claims_are_those_of_a_projected_token() -> None:
    _, account, pod = cluster()

    token, ends = signer().issue(account, ["mesh-identity"], 600, bound(pod))

    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims.pop("jti")
    assert ends == NOW + 600
    assert claims == {
        "aud": ["mesh-identity"],
        "exp": 1_000_600,
        "iat": 1_000_000,
        "nbf": 1_000_000,
        "iss": "https://kubernetes.default.svc.cluster.local",
        "sub": "system:serviceaccount:shop:web",
        "kubernetes.io": {
            "namespace": "shop",
            "serviceaccount": {"name": "web", "uid": account["metadata"]["uid"]},
            "pod": {"name": "web-1", "uid": pod["metadata"]["uid"]},
            "node": {"name": "node", "uid": "node-uid"},
        },
    }


def test_a_token_names_its_account_pod_and_node() -> None:
    store, account, pod = cluster()
    token, _ = signer().issue(account, ["a", "b"], 600, bound(pod))

    user, good = identify(store, signer().verify(token), ["b", "c"])

    assert good == ["b"]
    assert user.name == "system:serviceaccount:shop:web"
    assert user.groups == (
        "system:serviceaccounts",
        "system:serviceaccounts:shop",
        "system:authenticated",
    )
    assert user.extra["authentication.kubernetes.io/pod-name"] == ("web-1",)
    assert user.extra["authentication.kubernetes.io/node-name"] == ("node",)


def test_an_old_token_is_no_good() -> None:
    _, account, pod = cluster()
    token, ends = signer().issue(account, ["a"], 600, bound(pod))

    signer(ends - 1).verify(token)
    with pytest.raises(TokenError, match="has expired"):
        signer(ends).verify(token)


def test_a_token_for_another_audience_is_no_good() -> None:
    store, account, pod = cluster()
    token, _ = signer().issue(account, ["a"], 600, bound(pod))

    with pytest.raises(TokenError, match="is invalid for the target audiences"):
        identify(store, signer().verify(token), ["b"])


@pytest.mark.parametrize(("resource", "name"), [("pods", "web-1"), ("serviceaccounts", "web")])
def test_a_token_ends_with_what_it_is_bound_to(resource: str, name: str) -> None:
    store, account, pod = cluster()
    token, _ = signer().issue(account, ["a"], 600, bound(pod))
    store.delete(resource, "shop", name)
    store.create(resource, {"metadata": {"name": name, "namespace": "shop"}})

    with pytest.raises(TokenError, match=f"bound to {resource} {name}, which is gone"):
        identify(store, signer().verify(token), ["a"])


def test_another_clusters_token_is_no_good() -> None:
    _, account, pod = cluster()
    other = Signer(ec.generate_private_key(ec.SECP256R1()), clock=lambda: NOW)
    token, _ = other.issue(account, ["a"], 600, bound(pod))

    with pytest.raises(TokenError, match="not this cluster's"):
        signer().verify(token)


def test_a_token_that_says_it_needs_no_signature_is_no_good() -> None:
    _, account, pod = cluster()
    token, _ = signer().issue(account, ["a"], 600, bound(pod))
    head = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()

    with pytest.raises(TokenError):
        signer().verify(f"{head}.{token.split('.')[1]}.")


@given(data=st.data())
def test_no_changed_token_verifies(data: st.DataObject) -> None:
    _, account, pod = cluster()
    token, _ = signer().issue(account, ["a"], 600, bound(pod))
    place = data.draw(st.integers(0, len(token) - 2))  # the last character holds unused bits
    letter = data.draw(st.sampled_from("ABCz019-_.é").filter(lambda c: c != token[place]))

    with pytest.raises(TokenError):
        signer().verify(token[:place] + letter + token[place + 1 :])
