"""What our contexts accept, and whom they say it is."""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from mesh.core.errors import IdentityError
from mesh.core.names import WorkloadId
from mesh.pki.authority import make_root
from mesh.pki.bundle import merge_bundles
from mesh.runtime import tls
from tests.runtime.handshake import GOOD_DNS, GOOD_URI, odd_leaf, shake
from tests.support.authority import TrustChain, workload

pytestmark = pytest.mark.anyio

Dns, Uri = x509.DNSName, x509.UniformResourceIdentifier


class Names:
    """What `getpeercert` gives, for names that no certificate builder would write."""

    def __init__(self, *names: tuple[str, str], end: str = "Jan  1 00:00:00 2099 GMT") -> None:
        self._certificate = {"subjectAltName": names, "notAfter": end}

    def getpeercert(self) -> Any:
        return self._certificate


def test_two_leaves_of_one_trust_know_each_other(tmp_path: Path) -> None:
    trust = TrustChain()
    a, b = trust.leaf_file(tmp_path, workload("a")), trust.leaf_file(tmp_path, workload("b"))

    client, server = shake(
        tls.client_context(trust.bundle, a, ("x/1",)), tls.server_context(trust.bundle, b, ("x/1",))
    )

    assert tls.peer_identity(server) == workload("a").dns()
    assert tls.peer_workload(client) == workload("b")
    assert client.version() == "TLSv1.3"
    assert client.selected_alpn_protocol() == "x/1"


def test_a_workload_with_an_overlong_name_is_known_by_its_uri(tmp_path: Path) -> None:
    trust = TrustChain()
    long = workload("a" * 100)

    _, server = shake(
        tls.client_context(trust.bundle, trust.leaf_file(tmp_path, long)),
        tls.server_context(trust.bundle, trust.leaf_file(tmp_path, workload())),
    )

    assert tls.peer_workload(server) == long
    assert tls.peer_identity(server) == long.dns()
    assert tls.server_name(workload().dns()) == workload().dns()
    assert tls.is_dns_name(tls.server_name(long.dns()))
    assert tls.server_name(long.dns()) != tls.server_name(workload("b" * 100).dns())


@pytest.mark.parametrize(
    "end", ["Jan  1 00:00:00 2099 GMT", "Feb 29 23:59:59 2028 GMT", "Dec 31 12:00:07 2026 GMT"]
)
def test_the_end_of_a_certificate_is_read_as_python_reads_it(end: str) -> None:
    assert tls.end_of_life({"notAfter": end}) == ssl.cert_time_to_seconds(end)


def test_a_handshake_loads_no_tables_of_languages_and_calendars(tmp_path: Path) -> None:
    """Every proxy would pay 1.5 MB for them."""
    trust = TrustChain()
    (tmp_path / "bundle").write_text(trust.bundle)
    leaf = trust.leaf_file(tmp_path, workload())
    program = (
        "import sys; from pathlib import Path; from mesh.core import names\n"
        "from mesh.runtime import tls; bundle, leaf = Path(sys.argv[1]).read_text(), sys.argv[2]\n"
        "ends = tls.client_context(bundle, leaf), tls.server_context(bundle, leaf)\n"
        "tls.prove_leaf(*ends, names.parse_identity_uri(sys.argv[3]))\n"
        "print({'encodings.idna', 'unicodedata', '_strptime', 'calendar'} & set(sys.modules))"
    )
    arguments = (str(tmp_path / "bundle"), str(leaf), workload().uri())

    said = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )

    assert said.stdout == "set()\n"


BAD_LEAVES: dict[str, Callable[[Path, TrustChain], Path]] = {
    "other root": lambda d, t: TrustChain().leaf_file(d, workload()),
    "other root of the same name": lambda d, t: odd_leaf(
        d,
        make_root(
            now=t.now, common_name=t.root.certificate.subject.rfc4514_string().partition("=")[2]
        ),
    ),
    "ended": lambda d, t: odd_leaf(d, t.issuer, days=(-2, -0.01)),
    "not begun": lambda d, t: odd_leaf(d, t.issuer, days=(0.01, 1)),
    "signed by a leaf": lambda d, t: signed_by_a_leaf(d, t),
    "other trust domain": lambda d, t: odd_leaf(
        d, t.issuer, names=[Uri("spiffe://evil/ns/shop/sa/web")]
    ),
}


def signed_by_a_leaf(folder: Path, trust: TrustChain) -> Path:
    text = trust.leaf_file(folder, workload()).read_text()
    certificate = x509.load_pem_x509_certificate(text.encode())
    forger = dataclasses.replace(
        trust.issuer, certificate=certificate, intermediates=(trust.issuer.certificate,)
    )
    return odd_leaf(folder, forger)


@pytest.mark.parametrize("kind", BAD_LEAVES)
@pytest.mark.parametrize("side", ["client", "server"])
def test_a_leaf_that_does_not_verify_ends_the_handshake(
    tmp_path: Path, kind: str, side: str
) -> None:
    trust = TrustChain()
    good, bad = trust.leaf_file(tmp_path, workload()), BAD_LEAVES[kind](tmp_path, trust)
    client = tls.client_context(trust.bundle, bad if side == "client" else good)
    server = tls.server_context(trust.bundle, good if side == "client" else bad)

    with pytest.raises(ssl.SSLError) as caught:
        shake(client, server)

    assert tls.failure_reason(caught.value) in {
        "certificate-expired",
        "certificate-not-yet-valid",
        "unknown-authority",
        "certificate-refused",
        "name-not-permitted",
        "refused-by-peer",
    }


def test_a_leaf_for_clients_only_cannot_serve_nor_the_reverse(tmp_path: Path) -> None:
    trust = TrustChain()
    good = trust.leaf_file(tmp_path, workload())
    client_only = odd_leaf(tmp_path, trust.issuer, usage=[ExtendedKeyUsageOID.CLIENT_AUTH])
    server_only = odd_leaf(tmp_path, trust.issuer, usage=[ExtendedKeyUsageOID.SERVER_AUTH])

    for client, server in ((good, client_only), (server_only, good)):
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            shake(
                tls.client_context(trust.bundle, client), tls.server_context(trust.bundle, server)
            )
        assert tls.failure_reason(caught.value) == "wrong-purpose"


def test_a_client_without_a_leaf_is_refused_unless_told_otherwise(tmp_path: Path) -> None:
    trust = TrustChain()
    leaf = trust.leaf_file(tmp_path, workload())
    anonymous = tls.client_context(trust.bundle, None)

    with pytest.raises(ssl.SSLError):
        shake(anonymous, tls.server_context(trust.bundle, leaf))
    client, server = shake(anonymous, tls.server_context(trust.bundle, leaf, require_client=False))

    assert tls.peer_workload(client) == workload()
    assert tls.peer_workload(server) is None


# Signed by the root itself, which has no name constraints: here only `peer_workload` judges.
ODD_NAMES: dict[str, list[x509.GeneralName]] = {
    "none": [],
    "dns only": [Dns(GOOD_DNS)],
    "two uris": [Uri(GOOD_URI), Uri(workload("b").uri())],
    "the same uri twice": [Uri(GOOD_URI), Uri(GOOD_URI)],
    "two dns names": [Dns(GOOD_DNS), Dns(workload("b").dns()), Uri(GOOD_URI)],
    "dns of another account": [Dns(workload("b").dns()), Uri(GOOD_URI)],
    "dns of another namespace": [Dns(workload("web", "kube-system").dns()), Uri(GOOD_URI)],
    "dns of another domain": [Dns(workload(trust_domain="evil").dns()), Uri(GOOD_URI)],
    "dns that is none of ours": [Dns("web.shop.svc.cluster.local"), Uri(GOOD_URI)],
    "wildcard dns": [Dns("*." + GOOD_DNS.partition(".")[2]), Uri(GOOD_URI)],
    "upper-case dns": [Dns(GOOD_DNS.upper()), Uri(GOOD_URI)],
    "dns with a dot at its end": [Dns(GOOD_DNS + "."), Uri(GOOD_URI)],
    "mail": [Dns(GOOD_DNS), Uri(GOOD_URI), x509.RFC822Name("a@cluster.local")],
    "address": [Dns(GOOD_DNS), Uri(GOOD_URI), x509.IPAddress(ipaddress.ip_address("10.0.0.1"))],
    "directory": [Uri(GOOD_URI), x509.DirectoryName(x509.Name([]))],
    "upper-case scheme": [Uri("SPIFFE://cluster.local/ns/shop/sa/web")],
    "upper-case domain": [Uri("spiffe://Cluster.local/ns/shop/sa/web")],
    "upper-case account": [Uri("spiffe://cluster.local/ns/shop/sa/Web")],
    "https": [Uri("https://cluster.local/ns/shop/sa/web")],
    "no account": [Uri("spiffe://cluster.local/ns/shop/sa/")],
    "no namespace": [Uri("spiffe://cluster.local/ns//sa/web")],
    "no domain": [Uri("spiffe:///ns/shop/sa/web")],
    "short": [Uri("spiffe://cluster.local/ns/shop")],
    "longer": [Uri("spiffe://cluster.local/ns/shop/sa/web/x")],
    "slash at its end": [Uri("spiffe://cluster.local/ns/shop/sa/web/")],
    "climbing": [Uri("spiffe://cluster.local/ns/shop/sa/../sa/web")],
    "query": [Uri("spiffe://cluster.local/ns/shop/sa/web?x")],
    "fragment": [Uri("spiffe://cluster.local/ns/shop/sa/web#x")],
    "escaped": [Uri("spiffe://cluster.local/ns/shop/sa/%77eb")],
    "user": [Uri("spiffe://root@cluster.local/ns/shop/sa/web")],
    "port": [Uri("spiffe://cluster.local:443/ns/shop/sa/web")],
    "space": [Uri("spiffe://cluster.local/ns/shop/sa/web ")],
    "new line": [Uri("spiffe://cluster.local/ns/shop/sa/web\n")],
    "NUL in the uri": [Uri("spiffe://cluster.local/ns/shop/sa/web\0.evil")],
    "NUL in the dns name": [Dns(GOOD_DNS + "\0.evil"), Uri(GOOD_URI)],
    "star": [Uri("spiffe://cluster.local/ns/*/sa/web")],
    "namespace with a dot": [Uri("spiffe://cluster.local/ns/shop.x/sa/web")],
}


@pytest.mark.parametrize("kind", ODD_NAMES)
def test_a_verified_peer_with_odd_names_is_nobody(tmp_path: Path, kind: str) -> None:
    trust = TrustChain()
    odd = odd_leaf(tmp_path, trust.root, names=ODD_NAMES[kind], common_name=GOOD_DNS[:64])
    good = trust.leaf_file(tmp_path, workload())

    try:
        _, server = shake(
            tls.client_context(trust.bundle, odd), tls.server_context(trust.bundle, good)
        )
    except ssl.SSLError:
        return  # OpenSSL itself refuses some of them

    assert tls.peer_workload(server) is None
    assert tls.peer_identity(server) is None


def test_an_account_named_like_another_identity_stays_itself() -> None:
    sly = WorkloadId("cluster.local", "evil", "web.shop.serviceaccount.identity.mesh")

    seen = tls.peer_workload(Names(("DNS", sly.dns()), ("URI", sly.uri())))

    assert seen == sly
    assert seen != workload()


def test_an_ended_leaf_is_nobody_even_where_no_chain_was_verified_anew() -> None:
    peer = Names(("URI", GOOD_URI), end="Jan  1 00:00:00 2020 GMT")

    assert tls.peer_workload(peer, now=1.0) == workload()
    assert tls.peer_workload(peer) is None


def test_a_resumed_session_still_says_who_it_is(tmp_path: Path) -> None:
    trust = TrustChain()
    leaf = trust.leaf_file(tmp_path, workload())
    client, server = tls.client_context(trust.bundle, leaf), tls.server_context(trust.bundle, leaf)

    first, _ = shake(client, server)
    second, other = shake(client, server, session=first.session)

    assert second.session_reused
    assert tls.peer_workload(other) == workload()


def test_contexts_of_a_new_bundle_have_forgotten_the_old_anchor(tmp_path: Path) -> None:
    old, new = TrustChain(), TrustChain()
    both = merge_bundles(old.bundle, new.bundle)
    old_leaf, new_leaf = (t.leaf_file(tmp_path, workload()) for t in (old, new))

    shake(tls.client_context(both, old_leaf), tls.server_context(both, new_leaf))
    shake(tls.client_context(both, new_leaf), tls.server_context(new.bundle, new_leaf))
    with pytest.raises(ssl.SSLError):
        shake(tls.client_context(both, old_leaf), tls.server_context(new.bundle, new_leaf))


def test_proving_a_leaf_gives_its_end_or_the_reason(tmp_path: Path) -> None:
    trust, other = TrustChain(), TrustChain()
    leaf = trust.leaf_file(tmp_path, workload())

    def prove(bundle: str, whose: WorkloadId) -> float:
        client, server = tls.client_context(bundle, leaf), tls.server_context(bundle, leaf)
        return tls.prove_leaf(client, server, whose)

    assert prove(trust.bundle, workload()) == pytest.approx(time.time() + 86_400, abs=10)
    with pytest.raises(IdentityError) as caught:
        prove(other.bundle, workload())
    assert caught.value.reason == "unknown-authority"
    with pytest.raises(IdentityError) as caught:
        prove(trust.bundle, workload("other"))
    assert caught.value.reason == "wrong-identity"


@pytest.mark.parametrize("bundle", ["", "junk", "-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_an_unusable_bundle_is_an_identity_error(bundle: str) -> None:
    with pytest.raises(IdentityError, match="trust bundle"):
        tls.client_context(bundle, None)


def test_a_key_of_another_leaf_is_an_identity_error(tmp_path: Path) -> None:
    trust = TrustChain()
    one, two = (trust.leaf_file(tmp_path, workload(n)).read_text() for n in "ab")
    mixed = tmp_path / "mixed.pem"
    mixed.write_text(one[: one.index("-----BEGIN CERT")] + two[two.index("-----BEGIN CERT") :])

    with pytest.raises(IdentityError, match="certificate in"):
        tls.client_context(trust.bundle, mixed)


class Listener:
    """A TLS server on loopback that tells each client who it is."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    async def __aenter__(self) -> Listener:
        self._server = await asyncio.start_server(self._greet, "127.0.0.1", 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(repr(tls.peer_workload(writer.get_extra_info("ssl_object"))).encode())
        writer.close()


async def greet(port: int, context: ssl.SSLContext) -> str:
    """What the listener says; "" or SSLError when it refuses us."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="peer"
    )
    try:
        return (await reader.read()).decode()
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def test_one_listening_socket_serves_changing_credentials(tmp_path: Path) -> None:
    old, new = TrustChain(), TrustChain()
    leaves = {t: t.leaf_file(tmp_path, workload("server")) for t in (old, new)}
    clients = {
        t: tls.client_context(t.bundle, t.leaf_file(tmp_path, workload("client")))
        for t in (old, new)
    }
    current = [tls.server_context(old.bundle, leaves[old])]
    async with Listener(tls.rotating_server_context(lambda: current[0])) as listener:
        assert "client" in await greet(listener.port, clients[old])

        current[0] = tls.server_context(new.bundle, leaves[new])

        assert "client" in await greet(listener.port, clients[new])
        with pytest.raises(ssl.SSLCertVerificationError):
            await greet(listener.port, clients[old])
        stranger = tls.client_context(new.bundle, leaves[old])
        assert await refused(listener.port, stranger)
        assert await refused(listener.port, tls.client_context(new.bundle, None))


async def refused(port: int, context: ssl.SSLContext) -> bool:
    try:
        return await greet(port, context) == ""
    except (ssl.SSLError, ConnectionError):
        return True


async def test_without_credentials_a_handshake_fails_and_the_server_lives(tmp_path: Path) -> None:
    trust = TrustChain()
    leaf = trust.leaf_file(tmp_path, workload())
    problem = IdentityError("no-leaf", "none yet")
    current: list[ssl.SSLContext] = []

    def choose() -> ssl.SSLContext:
        if not current:
            raise problem
        return current[0]

    async with Listener(tls.rotating_server_context(choose)) as listener:
        client = tls.client_context(trust.bundle, leaf)
        assert await refused(listener.port, client)
        current.append(tls.server_context(trust.bundle, leaf))
        assert "web" in await greet(listener.port, client)


@pytest.mark.parametrize(
    ("version", "is_spoken"),
    [("-tls1_3", True), ("-tls1_2", False), ("-tls1_1", False), ("-tls1", False)],
)
async def test_openssl_can_speak_tls_1_3_only(
    tmp_path: Path, version: str, is_spoken: bool
) -> None:
    trust = TrustChain()
    leaf = trust.leaf_file(tmp_path, workload())
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(trust.bundle)
    async with Listener(tls.server_context(trust.bundle, leaf)) as listener:
        target = ("-connect", f"127.0.0.1:{listener.port}", "-CAfile", str(bundle))
        own = ("-cert", str(leaf), "-key", str(leaf), "-cert_chain", str(leaf))
        done = await asyncio.to_thread(
            subprocess.run,
            [
                "openssl",
                "s_client",
                *target,
                *own,
                version,
                "-ign_eof",
                "-cipher",
                "ALL:@SECLEVEL=0",
            ],
            input=b"",
            capture_output=True,
            timeout=20,
        )
    text = done.stdout.decode() + done.stderr.decode()

    assert ("New, TLSv1.3, Cipher is TLS_" in text) == is_spoken
    assert ("Verify return code: 0 (ok)" in text and "WorkloadId" in text) == is_spoken
    assert "Early data was not sent" in text or not is_spoken
