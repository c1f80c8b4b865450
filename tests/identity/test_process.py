"""The real process against the embedded API server: start, leaf, restart, refusals, SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.core import labels
from mesh.core.errors import IdentityError
from mesh.kube.client import KubeClient
from mesh.kube.config import find_access
from mesh.runtime.bundle import hash_bundle
from mesh.runtime.certify import Issued
from mesh.runtime.credentials import Credentials, TrustSettings
from tests.identity.fakes import secret
from tests.support.authority import TrustChain

pytestmark = pytest.mark.anyio

START_SECONDS = 20.0


def own_address() -> str:
    """An address of loopback that no other test uses, so that the real ports are free there."""
    return "127." + ".".join(str(1 + secrets.randbelow(253)) for _ in range(3))


@contextlib.contextmanager
def process(*command: str, env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-m", *command],
        env=os.environ | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An API server of this module's own, with the namespaces that its tests use."""
    state = tmp_path_factory.mktemp("api")
    with process("mesh.local.api", "--state", str(state), env={}) as api:
        assert api.stdout is not None
        path = api.stdout.readline().strip()
        assert path, api.stderr.read() if api.stderr else ""
        yield path


class Identity:
    """A running identity with its own namespace, and what a pod there needs."""

    def __init__(self, kubeconfig: str, folder: Path, namespace: str) -> None:
        self.kubeconfig = kubeconfig
        self.folder = folder
        self.namespace = namespace
        self.host = own_address()
        self.env = {
            "KUBECONFIG": kubeconfig,
            "MESH_NAMESPACE": namespace,
            "MESH_IDENTITY_HOST": self.host,
            "MESH_KEY_DIR": str(folder / "identity-keys"),
            "MESH_STATE_DIR": str(folder / "identity-state"),
        }

    def run(self) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
        return process("identity", env=self.env)

    async def ready(self) -> None:
        async with asyncio.timeout(START_SECONDS):
            # Another process has no Event to wait for.
            while await asyncio.to_thread(self.status, "/ready") != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    def status(self, path: str) -> int:
        try:
            with urllib.request.urlopen(
                f"http://{self.host}:{labels.CONTROL_ADMIN_PORT}{path}", timeout=5
            ) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return 0

    def kube(self) -> KubeClient:
        return KubeClient(find_access(self.kubeconfig))

    async def prepare(self) -> None:
        """Namespace, account, pod and token of a workload."""
        async with self.kube() as kube:
            await kube.create("namespaces", {"metadata": {"name": self.namespace}})
            meta = {"name": "web", "namespace": self.namespace}
            await kube.create("serviceaccounts", {"metadata": meta})
            spec = {"serviceAccountName": "web", "containers": [{"name": "c", "image": "none"}]}
            pod = await kube.create("pods", {"metadata": meta, "spec": spec})
            self.token = await self.bound_token(kube, pod["metadata"]["uid"])

    async def bound_token(
        self, kube: KubeClient, uid: str, *, name: str = "web", audience: str = "mesh-identity"
    ) -> str:
        reference = {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}
        answer = await kube.call(
            "POST",
            f"/api/v1/namespaces/{self.namespace}/serviceaccounts/web/token",
            body={
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"audiences": [audience], "boundObjectRef": reference},
            },
        )
        return str(answer["status"]["token"])

    async def worthless_tokens(self) -> dict[str, str]:
        """Tokens of a real API server that must gain nothing, by the reason to expect."""
        async with self.kube() as kube:
            meta = {"name": "dead", "namespace": self.namespace}
            spec = {"serviceAccountName": "web", "containers": [{"name": "c", "image": "none"}]}
            pod = await kube.create("pods", {"metadata": meta, "spec": spec})
            uid = pod["metadata"]["uid"]
            dead = await self.bound_token(kube, uid, name="dead")
            other = await self.bound_token(kube, uid, name="dead", audience="kubernetes")
            await kube.delete("pods", "dead", self.namespace, grace=0)
            unbound = await kube.create_token("web", self.namespace, audiences=["mesh-identity"])
        return {
            "token-unbound": unbound,
            "token-audience": other,
            "token-refused": dead,
            "token-invalid": "no-token",
        }

    async def bundle(self) -> str:
        async with self.kube() as kube:
            found = await kube.get("configmaps", "mesh-trust-roots", self.namespace)
        return str(found["data"]["ca-bundle.crt"])

    async def credentials(self, name: str, token: str) -> Credentials:
        """What a proxy in the pod holds, with the real child for its key."""
        token_file = self.folder / f"{name}.token"
        token_file.write_text(token)
        return Credentials.from_settings(
            TrustSettings(
                service_account="web",
                namespace=self.namespace,
                mesh_namespace=self.namespace,
                trust_domain="cluster.local",
                trust_bundle=await self.bundle(),
                identity_address=f"{self.host}:{labels.IDENTITY_PORT}",
                token_file=str(token_file),
                key_dir=str(self.folder / f"{name}-keys"),
                state_dir=str(self.folder / f"{name}-state"),
            )
        )


async def first_attempt(credentials: Credentials) -> None:
    """Let `credentials` ask identity once; either it is ready then or has a reason."""
    done = asyncio.Event()
    credentials.on_change(done.set)
    certify = credentials._certifier.certify

    async def certify_and_tell(csr: str, bundle: str) -> Issued:
        try:
            return await certify(csr, bundle)
        except IdentityError:
            asyncio.get_running_loop().call_soon(done.set)
            raise

    credentials._certifier.certify = certify_and_tell  # type: ignore[method-assign]
    task = asyncio.create_task(credentials.run())
    await asyncio.wait_for(done.wait(), START_SECONDS)
    task.cancel()
    await asyncio.wait([task])


async def test_pods_get_leaves_others_get_reasons_and_sigterm_ends_it(
    kubeconfig: str, tmp_path: Path
) -> None:
    me = Identity(kubeconfig, tmp_path, "mesh-one")
    await me.prepare()
    wrong = await me.worthless_tokens()
    with me.run() as child:
        await me.ready()
        credentials = await me.credentials("proxy", me.token)
        await first_attempt(credentials)
        assert credentials.ready
        assert credentials.identity.startswith("web.mesh-one.serviceaccount.identity.mesh-one.")

        for reason, token in wrong.items():
            refused = await me.credentials(reason, token)
            await first_attempt(refused)
            assert (refused.ready, refused.last_reason) == (False, reason)
        assert await asyncio.to_thread(me.status, "/metrics") == 200

        child.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(child.wait, 10) == 0
        assert child.stderr is not None
        log = child.stderr.read()
        assert "Traceback" not in log
        assert me.token not in log
        assert "PRIVATE" not in log


async def test_two_replicas_that_start_together_agree(kubeconfig: str, tmp_path: Path) -> None:
    one = Identity(kubeconfig, tmp_path / "one", "mesh-two")
    two = Identity(kubeconfig, tmp_path / "two", "mesh-two")
    for replica in (one, two):
        replica.folder.mkdir()
    await one.prepare()
    with one.run(), two.run():
        await asyncio.gather(one.ready(), two.ready())

        leaves = [await replica.credentials("proxy", one.token) for replica in (one, two)]
        for credentials in leaves:
            await first_attempt(credentials)

        assert [credentials.ready for credentials in leaves] == [True, True]
        assert {hash_bundle(c.bundle) for c in leaves} == {hash_bundle(await one.bundle())}


async def test_a_brought_issuer_that_does_not_chain_ends_the_process_with_one_line(
    kubeconfig: str, tmp_path: Path
) -> None:
    me = Identity(kubeconfig, tmp_path, "mesh-three")
    await me.prepare()
    chain = TrustChain()
    brought = secret(
        "mesh-identity-issuer",
        tls_crt=chain.issuer.chain_pem,
        tls_key=chain.issuer.key_pem,
        ca_crt=TrustChain().bundle,
    )
    brought["metadata"]["namespace"] = "mesh-three"
    async with me.kube() as kube:
        await kube.create("secrets", brought)

    with me.run() as child:
        _, log = await asyncio.to_thread(child.communicate, None, START_SECONDS)

    assert child.returncode == 1
    assert "Secret mesh-three/mesh-identity-issuer: expected a chain to a trust anchor" in log
    assert "Traceback" not in log
    async with me.kube() as kube:
        events = await kube.list("events", "mesh-three")
    assert any(event["reason"] == "IssuerRefused" for event in events)


def test_wrong_settings_end_the_process_with_a_line_each() -> None:
    wrong = {"MESH_IDENTITY_LEAF_LIFETIME": "1y", "MESH_ADMIN_PORT": "x", "MESH_LOG_LEVEL": "loud"}

    with process("identity", env=wrong) as child:
        _, log = child.communicate(timeout=START_SECONDS)

    assert child.returncode == 1
    assert [line.partition(":")[0] for line in log.splitlines()] == list(wrong)
