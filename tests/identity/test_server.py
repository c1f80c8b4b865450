"""POST /v1/certificates over real TLS: who gets a leaf, who does not, and how fast."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from identity.issue import Trust
from mesh.core.errors import ApiError, IdentityError
from mesh.pki.csr import make_key
from tests.identity.rig import Rig, serving, session
from tests.support.authority import TrustChain

_DAY_AND_SKEW = dt.timedelta(hours=24, minutes=5)

pytestmark = pytest.mark.anyio


def names_in(chain: str) -> list[str]:
    leaf = x509.load_pem_x509_certificate(chain.encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in names]


async def test_a_good_request_gets_chain_bundle_and_end(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, session() as client:
        status, answer = await rig.ask(client, rig.api.token())

        assert status == 200
        assert names_in(answer["chain"])[1] == "spiffe://cluster.local/ns/shop/sa/web"
        assert answer["chain"].count("BEGIN CERTIFICATE") == 2  # leaf and issuer, no root
        assert answer["bundle"] == rig.chain.bundle
        assert answer["not_after"] == pytest.approx(time.time() + 86_400, abs=10)
        assert rig.count("issued") == 1


def greedy_csr(chance: random.Random) -> str:
    """A well-formed, well-signed request that asks for what nobody may have."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mesh-identity.mesh")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name)
    wishes: list[x509.ExtensionType] = [
        x509.SubjectAlternativeName(
            [
                x509.DNSName("admin.kube-system.serviceaccount.identity.mesh.cluster.local"),
                x509.UniformResourceIdentifier("spiffe://cluster.local/ns/kube-system/sa/admin"),
                x509.DNSName("*.cluster.local"),
                x509.RFC822Name("root@cluster.local"),
            ][: chance.randint(1, 4)]
        ),
        x509.BasicConstraints(ca=True, path_length=chance.choice([None, 0, 9])),
        x509.KeyUsage(True, True, True, True, True, True, True, False, False),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]),
        x509.NameConstraints([x509.DNSName("")], None),
        x509.UnrecognizedExtension(
            x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), chance.randbytes(200)
        ),
    ]
    for wish in chance.sample(wishes, chance.randint(1, len(wishes))):
        request = request.add_extension(wish, critical=chance.random() < 0.5)
    return (
        request.sign(make_key(), hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    )


def assert_plain_leaf(chain: str) -> None:
    """Exactly what every leaf of shop/web is, whatever was asked for."""
    leaf = x509.load_pem_x509_certificate(chain.encode())
    assert names_in(chain) == [
        "web.shop.serviceaccount.identity.mesh.cluster.local",
        "spiffe://cluster.local/ns/shop/sa/web",
    ]
    assert leaf.subject == x509.Name([])
    by_class = leaf.extensions.get_extension_for_class
    assert not by_class(x509.BasicConstraints).value.ca
    assert not by_class(x509.KeyUsage).value.key_cert_sign
    assert set(by_class(x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    }
    assert {e.oid.dotted_string for e in leaf.extensions} == {
        "2.5.29.19", "2.5.29.15", "2.5.29.37", "2.5.29.17", "2.5.29.35"
    }  # fmt: skip
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= _DAY_AND_SKEW


async def test_no_wish_in_a_request_is_granted(tmp_path: Path) -> None:
    chance = random.Random(7)
    async with serving(tmp_path) as rig:
        for number in range(150):
            body = rig_body(rig, rig.api.token(pod=f"uid-{number}"), greedy_csr(chance))
            issued = await rig.service.certify(body, "10.0.0.1")
            assert_plain_leaf(issued.chain)


def rig_body(rig: Rig, token: str, csr: str) -> bytes:
    return json.dumps({"token": token, "csr": csr}).encode()


def mutate(chance: random.Random, data: bytes) -> bytes:
    mutant = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(mutant))
        if chance.random() < 0.3:
            mutant[place:place] = chance.randbytes(chance.randint(1, 5))
        elif chance.random() < 0.3:
            del mutant[place : place + chance.randint(1, 5)]
        else:
            mutant[place] ^= 1 << chance.randrange(8)
    return bytes(mutant) if mutant != data else mutate(chance, data)


async def test_a_thousand_mutated_requests_and_tokens_gain_nothing(tmp_path: Path) -> None:
    """Each is refused, or gets just the leaf that its untouched token is worth."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    async with serving(tmp_path) as rig:
        der = base64.b64decode("".join(rig.csr.split("-----")[2].split()))
        key = x509.load_pem_x509_csr(rig.csr.encode()).public_key()
        for number in range(1000):
            token, csr = rig.api.token(pod=f"uid-{number}"), rig.csr
            if number % 2:
                text = base64.encodebytes(mutate(chance, der)).decode()
                label = "CERTIFICATE REQUEST-----"
                csr = f"-----BEGIN {label}\n{text}-----END {label}\n"
            else:
                token = mutate(chance, token.encode()).decode("latin-1")
            try:
                issued = await rig.service.certify(rig_body(rig, token, csr), f"peer-{number}")
            except IdentityError:
                continue
            assert_plain_leaf(issued.chain)
            leaf = x509.load_pem_x509_certificate(issued.chain.encode())
            assert (number % 2, leaf.public_key()) == (1, key), f"seed {seed}"


def own_words(**changes: Any) -> dict[str, Any]:
    """Claims that differ from what the API server says in its review."""
    truth = {"namespace": "shop", "pod": {"uid": "uid-1"}, "serviceaccount": {"name": "web"}}
    return {"kubernetes.io": truth | changes}


@pytest.mark.parametrize("wrong", ["audience", "forged", "pod", "namespace", "age", "account"])
async def test_a_wrong_token_gains_nothing(tmp_path: Path, wrong: str) -> None:
    async with serving(tmp_path) as rig, session() as client:
        token = {
            "audience": lambda: rig.api.token(audiences=["https://kubernetes.default.svc"]),
            "forged": lambda: rig.api.token(is_known=False),
            "pod": lambda: rig.api.token(claims=own_words(pod={"uid": "uid-2"})),
            "namespace": lambda: rig.api.token(claims=own_words(namespace="kube-system")),
            "age": lambda: rig.api.token(life=-3600),
            "account": lambda: rig.api.token(claims=own_words(serviceaccount={"name": "root"})),
        }[wrong]()

        status, answer = await rig.ask(client, token)

        assert status == 403
        assert answer["reason"].startswith("token-")
        assert "chain" not in answer
        assert rig.count("issued") == 0


async def test_bad_requests_are_told_apart(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, session() as client:
        junk = await rig.post(client, b"not json")
        huge = await rig.post(client, b"x" * 100_000)
        csr = await rig.ask(client, rig.api.token(), "not a csr")
        long = await rig.ask(client, rig.api.token(pod="uid-2"), rig.csr + " " * 9000)

        assert (junk[0], junk[1]["reason"]) == (400, "bad-request")
        assert (huge[0], huge[1]["reason"]) == (400, "bad-request")
        assert (csr[0], csr[1]["reason"]) == (400, "csr-invalid")
        assert (long[0], long[1]["reason"]) == (400, "csr-too-large")
        assert rig.api.asked == 0


async def test_no_review_means_no_leaf(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, session() as client:
        token = rig.api.token()
        rig.api.fail = ApiError(0, "Unreachable", "no route")

        assert (await rig.ask(client, token))[0] == 503
        assert rig.count("review-unavailable") == 1


async def test_an_ended_issuer_signs_nothing_and_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, session() as client:
        ended = TrustChain(now=time.time() - 366 * 86_400.0)
        rig.trust = Trust(ended.issuer, ended.root.not_after, ended.bundle)

        status, answer = await rig.ask(client, rig.api.token())
        rig.trust = None
        later = await rig.ask(client, rig.api.token(pod="uid-2"))

        assert (status, answer["reason"]) == (503, "issuer-expired")
        assert (later[0], later[1]["reason"]) == (503, "no-issuer")


async def test_two_hundred_pods_of_one_account_get_leaves_in_five_seconds(tmp_path: Path) -> None:
    """Counted as work of both ends plus waiting for reviews, so that a busy machine may pass."""
    async with serving(tmp_path) as rig, session() as client:
        rig.api.seconds = 0.05  # what a busy API server takes for a review
        tokens = [rig.api.token(pod=f"uid-{number}") for number in range(200)]
        begun = time.process_time()

        answers = await asyncio.gather(*(rig.ask(client, token) for token in tokens))

        waiting = rig.api.seconds * len(tokens) / rig.api.most_at_once
        assert time.process_time() - begun + waiting < 5.0
        assert {status for status, _ in answers} == {200}


async def test_one_pod_that_floods_is_held_back_alone(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as rig,
        session(source="127.0.0.2") as noisy,
        session(source="127.0.0.3") as quiet,
    ):
        token = rig.api.token(pod="noisy")
        answers = await asyncio.gather(*(rig.ask(noisy, token) for _ in range(50)))
        statuses = [status for status, _ in answers]
        other = await rig.ask(quiet, rig.api.token(pod="quiet"))

        assert statuses.count(200) <= 6
        assert statuses.count(429) == 50 - statuses.count(200)
        assert other[0] == 200
        assert rig.api.asked <= 7


async def test_forged_tokens_do_not_spend_what_belongs_to_their_victim(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as rig,
        session(source="127.0.0.2") as forger,
        session(source="127.0.0.3") as victim,
    ):
        for number in range(20):
            forged = rig.api.token(pod="victim", is_known=False, claims={"jti": number})
            await rig.ask(forger, forged)
        reviewed = rig.api.asked

        status, _ = await rig.ask(victim, rig.api.token(pod="victim"))

        assert status == 200
        assert reviewed <= 6  # the rest was turned away by address


async def test_a_quiet_account_waits_for_one_turn_of_a_crowd(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, session() as client, session() as other:
        rig.api.seconds = 0.02
        tokens = [rig.api.token(pod=f"uid-{number}") for number in range(150)]
        crowd = [asyncio.ensure_future(rig.ask(client, token)) for token in tokens]
        await asyncio.wait(crowd, return_when=asyncio.FIRST_COMPLETED)

        status, _ = await rig.ask(other, rig.api.token("cart", pod="cart"))
        behind = sum(1 for task in crowd if not task.done())
        await asyncio.gather(*crowd)

        assert status == 200
        assert behind > 0


async def test_other_paths_and_methods_do_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, session() as client:
        url = f"https://{rig.address}"
        async with client.get(url + "/v1/certificates", ssl=rig.client_context) as answer:
            assert answer.status == 405
        async with client.get(url + "/metrics", ssl=rig.client_context) as answer:
            assert answer.status == 404
