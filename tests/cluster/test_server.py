"""The real API server comes up and does what the tests above it lean on."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.cluster.build import kubernetes_version
from tests.cluster.conftest import Kubectl
from tests.cluster.server import ApiServer

pytestmark = pytest.mark.cluster

CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "boats.test.lightmesh.io"},
    "spec": {
        "group": "test.lightmesh.io",
        "scope": "Namespaced",
        "names": {"plural": "boats", "singular": "boat", "kind": "Boat", "listKind": "BoatList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {"oars": {"type": "integer", "default": 2}},
                            }
                        },
                    }
                },
            }
        ],
    },
}


def boat(name: str, **spec: object) -> str:
    return json.dumps(
        {
            "apiVersion": "test.lightmesh.io/v1",
            "kind": "Boat",
            "metadata": {"name": name},
            "spec": spec,
        }
    )


def test_the_server_says_the_version_that_go_mod_requires(kubectl: Kubectl) -> None:
    said = json.loads(kubectl("version", "-o", "json").stdout)

    assert said["serverVersion"]["gitVersion"] == kubernetes_version()


def test_a_crd_is_established_validates_and_is_watched(
    kubectl: Kubectl, api_server: ApiServer, namespace: str
) -> None:
    assert kubectl("apply", "-f", "-", given=json.dumps(CRD)).returncode == 0
    wait = ("wait", "--for=condition=Established", "--timeout=30s")
    done = kubectl(*wait, "crd/boats.test.lightmesh.io")
    assert done.returncode == 0, done.stderr
    path = f"/apis/test.lightmesh.io/v1/namespaces/{namespace}/boats?watch=1&timeoutSeconds=20"
    watch = subprocess.Popen(
        ["kubectl", f"--kubeconfig={api_server.admin}", "get", "--raw", path],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        refused = kubectl("-n", namespace, "create", "-f", "-", given=boat("raft", oars="two"))
        created = kubectl("-n", namespace, "create", "-f", "-", given=boat("skiff"))
        assert watch.stdout is not None
        event = json.loads(watch.stdout.readline())
    finally:
        watch.kill()
        watch.communicate()

    assert refused.returncode == 1
    assert "spec.oars" in refused.stderr
    assert created.returncode == 0, created.stderr
    assert event["type"] == "ADDED"
    assert event["object"]["spec"] == {"oars": 2}


def test_rights_come_from_rbac_also_by_impersonation(kubectl: Kubectl, namespace: str) -> None:
    ask = ("-n", namespace, "auth", "can-i", "list", "pods")
    as_default = f"--as=system:serviceaccount:{namespace}:default"
    before = [kubectl(*ask, user="eve"), kubectl(*ask, as_default)]

    kubectl("-n", namespace, "create", "role", "reader", "--verb=list", "--resource=pods")
    bind = ("-n", namespace, "create", "rolebinding", "reader", "--role=reader", "--user=eve")
    kubectl(*bind, f"--serviceaccount={namespace}:default")

    after = [kubectl(*ask, user="eve"), kubectl(*ask, as_default)]
    assert [done.stdout.strip() for done in before] == ["no", "no"]
    assert [done.stdout.strip() for done in after] == ["yes", "yes"]
    assert kubectl("auth", "can-i", "list", "secrets", "-A").stdout.strip() == "yes"


def test_tokens_are_issued_for_an_audience_and_reviewed(kubectl: Kubectl, namespace: str) -> None:
    made = kubectl("-n", namespace, "create", "token", "default", "--audience=mesh-identity")
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": made.stdout.strip(), "audiences": ["mesh-identity"]},
    }

    said = kubectl("create", "-o", "json", "-f", "-", given=json.dumps(review))

    status = json.loads(said.stdout)["status"]
    assert status["authenticated"] is True
    assert status["user"]["username"] == f"system:serviceaccount:{namespace}:default"


def test_a_pod_is_admitted_and_stays_pending(kubectl: Kubectl, namespace: str) -> None:
    done = kubectl("-n", namespace, "run", "web", "--image=web:1", "-o", "json")

    pod = json.loads(done.stdout)
    assert pod["spec"]["serviceAccountName"] == "default"
    assert pod["status"]["phase"] == "Pending"
