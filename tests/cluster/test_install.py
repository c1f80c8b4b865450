"""The installer against a real API server: apply, apply again, rights, other people's CRDs,
the webhook, uninstall."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mesh.core import labels
from mesh.inject.role import build
from mesh.inject.settings import Settings
from mesh.install.removal import plan_removal
from mesh.install.render import print_manifests, render, render_crds
from mesh.install.values import Values, build_values
from mesh.kube.client import KubeClient
from mesh.kube.config import find_access
from mesh.runtime.lifecycle import Lifecycle
from mesh.runtime.settings import load
from tests.cluster.conftest import Kubectl
from tests.cluster.server import ApiServer
from tests.support.authority import TrustChain

pytestmark = pytest.mark.cluster

# As published for Linkerd's SMI extension: other storage, fewer versions, weights as numbers.
PUBLISHED = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: trafficsplits.split.smi-spec.io}
spec:
  group: split.smi-spec.io
  scope: Namespaced
  names: {kind: TrafficSplit, listKind: TrafficSplitList, plural: trafficsplits,
    singular: trafficsplit, shortNames: [ts]}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object,
      required: [service, backends], properties: {service: {type: string}, backends: {type: array,
      items: {type: object, required: [service, weight], properties: {service: {type: string},
      weight: {x-kubernetes-int-or-string: true}}}}}}}}}
"""
SPLIT = """
apiVersion: split.smi-spec.io/v1alpha1
kind: TrafficSplit
metadata: {name: web, namespace: %s}
spec: {service: web, backends: [{service: v1, weight: 500m}]}
"""
# (service account, verb, resource, namespace) -> may it?
RIGHTS = {
    (labels.IDENTITY, "create", "secrets", "mesh"): True,
    (labels.IDENTITY, "create", "secrets", "default"): False,
    (labels.IDENTITY, "get", f"secrets/{labels.ROOT_SECRET}", "mesh"): True,
    (labels.IDENTITY, "get", f"secrets/{labels.INJECT_SECRET}", "mesh"): False,
    (labels.IDENTITY, "list", "pods", "default"): False,
    (labels.DESTINATION, "watch", "pods", "default"): True,
    (labels.DESTINATION, "update", "pods", "default"): False,
    (labels.DESTINATION, "get", f"secrets/{labels.ROOT_SECRET}", "mesh"): False,
    (labels.DESTINATION, "list", "secrets", "mesh"): False,
    (labels.DESTINATION, "patch", "trafficsplits.split.smi-spec.io", "default"): False,
    (labels.DESTINATION, "get", f"configmaps/{labels.TRUST_ROOTS}", "mesh"): True,
    (labels.DESTINATION, "get", "configmaps/other", "mesh"): False,
    (labels.INJECT, "get", f"secrets/{labels.INJECT_SECRET}", "mesh"): True,
    (labels.INJECT, "list", "secrets", "mesh"): False,
    (labels.INJECT, "create", "pods", "default"): False,
    (labels.VIEWER, "get", "pods", "mesh"): False,
}


_numbers = itertools.count(1)


@pytest.fixture
def installed(kubectl: Kubectl) -> Iterator[Values]:
    """The mesh in a namespace of its own (no controller here ever removes one), applied."""
    values = build_values({"namespace": f"mesh-{next(_numbers)}"})
    text = print_manifests(render(values))
    assert kubectl("apply", "-f", "-", given=text).returncode == 0
    yield values
    gone = print_manifests(plan_removal(values, crds=True))
    kubectl("delete", "--wait=false", "--ignore-not-found", "-f", "-", given=gone)


def words(done: subprocess.CompletedProcess[str]) -> set[str]:
    assert done.returncode == 0, done.stderr
    return {line.rpartition(" ")[2] for line in done.stdout.splitlines()}


def test_applying_again_changes_nothing(kubectl: Kubectl, installed: Values) -> None:
    text = print_manifests(render(installed))

    assert words(kubectl("apply", "-f", "-", given=text)) == {"unchanged"}
    diff = kubectl("diff", "-f", "-", given=text)
    assert (diff.returncode, diff.stdout) == (0, "")


def test_each_account_may_do_its_work_and_no_more(kubectl: Kubectl, installed: Values) -> None:
    for (account, verb, resource, namespace), expected in RIGHTS.items():
        user = f"--as=system:serviceaccount:{installed.namespace}:{account}"
        where = installed.namespace if namespace == "mesh" else namespace
        said = kubectl("auth", "can-i", verb, resource, "-n", where, user).stdout.strip()

        assert said == ("yes" if expected else "no"), (account, verb, resource, namespace)


def test_splits_stored_under_a_published_definition_survive_ours(
    kubectl: Kubectl, namespace: str
) -> None:
    split = SPLIT % namespace
    ours = print_manifests(render_crds(Values()))
    name = "crd/trafficsplits.split.smi-spec.io"
    kubectl("delete", name, "--ignore-not-found")
    assert kubectl("apply", "-f", "-", given=PUBLISHED).returncode == 0
    assert kubectl("wait", name, "--for=condition=Established", "--timeout=30s").returncode == 0
    assert kubectl("apply", "-f", "-", given=split).returncode == 0

    assert kubectl("apply", "-f", "-", given=ours).returncode == 0

    for version in ("v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"):
        path = f"/apis/split.smi-spec.io/{version}/namespaces/{namespace}/trafficsplits/web"
        found = kubectl("get", "--raw", path)
        assert json.loads(found.stdout)["spec"] == yaml.safe_load(split)["spec"]
    changed = split.replace("v1alpha1", "v1alpha4").replace("500m", "7")
    assert words(kubectl("apply", "-f", "-", given=changed)) == {"configured"}
    kubectl("delete", "-f", "-", given=ours)


def test_uninstalling_leaves_the_definitions(
    kubectl: Kubectl, api_server: ApiServer, installed: Values
) -> None:
    command = [sys.executable, "-m", "mesh", "uninstall", f"--kubeconfig={api_server.admin}"]
    command += ["--mesh-namespace", installed.namespace]
    printed = subprocess.run(command, text=True, capture_output=True, check=True).stdout

    done = kubectl("delete", "--wait=false", "-f", "-", given=printed)

    assert words(done) == {"deleted"}
    kinds = "clusterrole,clusterrolebinding,crd,mutatingwebhookconfiguration"
    part = f"{labels.L_PART_OF}={labels.PART_OF}"
    left = kubectl("get", kinds, "-l", part, "-o", "name").stdout.splitlines()
    assert {name.partition("/")[0] for name in left} == {
        "customresourcedefinition.apiextensions.k8s.io"
    }


# -- the webhook, called through an ExternalName Service -----------------------------------------


@contextlib.asynccontextmanager
async def webhook(api_server: ApiServer, mesh: str, folder: Path) -> AsyncIterator[None]:
    """mesh-inject as its own account; the API server reaches it by the certificate's name."""
    account = api_server.kubeconfig(f"system:serviceaccount:{mesh}:{labels.INJECT}")
    life = Lifecycle()
    async with (
        KubeClient(find_access(str(account))) as client,
        KubeClient(find_access(str(api_server.admin))) as admin,
    ):
        environ = {
            "MESH_NAMESPACE": mesh,
            "MESH_KEY_DIR": str(folder),
            "MESH_INJECT_HOST": "127.0.0.1",
        }
        server, _ = build(life, client, load(Settings, environ), port=0, admin_port=0)
        task = asyncio.create_task(life.run())
        try:
            async with asyncio.timeout(30):
                while life.waiting_for():  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await redirect(admin, mesh, server.port)
            yield
        finally:
            life.end()
            assert await task == 0


async def redirect(admin: KubeClient, mesh: str, port: int) -> None:
    """Point Service and webhook at a port of this machine."""
    await admin.delete("services", labels.INJECT, mesh)
    service: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": labels.INJECT, "namespace": mesh},
        "spec": {"type": "ExternalName", "externalName": "127.0.0.1", "ports": [{"port": port}]},
    }
    await admin.create("services", service)
    there = [{"op": "replace", "path": "/webhooks/0/clientConfig/service/port", "value": port}]
    for kind, name in (
        ("mutatingwebhookconfigurations", labels.WEBHOOK_CONFIGURATION),
        ("validatingwebhookconfigurations", labels.VALIDATING_CONFIGURATION),
    ):
        await admin.patch(
            f"{kind}.admissionregistration.k8s.io",
            name,
            there,
            content_type="application/json-patch+json",
        )


def test_a_pod_is_meshed_at_admission_and_the_api_server_takes_it(
    kubectl: Kubectl, api_server: ApiServer, namespace: str, installed: Values, tmp_path: Path
) -> None:
    roots = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": labels.TRUST_ROOTS, "namespace": installed.namespace},
        "data": {labels.TRUST_ROOTS_KEY: TrustChain().bundle},
    }
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}}
    container = {"name": "web", "image": "web:1", "readinessProbe": {"tcpSocket": {"port": 80}}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web",
            "namespace": namespace,
            "annotations": {labels.A_INJECT: "enabled", "mesh/opaque-ports": "none"},
        },
        "spec": {"containers": [container]},
    }
    info = {"kubeletVersion": "v1.34.0", "operatingSystem": "linux"}
    for item in (roots, node):
        assert kubectl("apply", "-f", "-", given=json.dumps(item)).returncode == 0
    status = json.dumps({"status": {"nodeInfo": info}})
    patch = ("patch", "node", "node", "--subresource=status", "--type=merge", "-p", status)
    assert kubectl(*patch).returncode == 0

    async def create() -> subprocess.CompletedProcess[str]:
        async with webhook(api_server, installed.namespace, tmp_path):
            arguments = ("create", "-o", "json", "-f", "-")
            while True:  # the API server reads its configurations anew within a second
                done = await asyncio.to_thread(
                    kubectl, *arguments, "--dry-run=server", given=json.dumps(pod)
                )
                if "mesh-proxy" in done.stdout:
                    return await asyncio.to_thread(kubectl, *arguments, given=json.dumps(pod))

    done = asyncio.run(create())

    assert "Warning: mesh: annotation mesh/opaque-ports: expected a port" in done.stderr
    spec = json.loads(done.stdout)["spec"]
    assert [c["name"] for c in spec["initContainers"]] == ["mesh-init", "mesh-proxy"]
    assert spec["initContainers"][1]["restartPolicy"] == "Always"
    assert spec["containers"][0]["readinessProbe"]["httpGet"]["path"] == "/probe/tcp/80"
