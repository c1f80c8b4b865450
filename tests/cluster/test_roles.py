"""The real control plane under its own rights, and what a real API server makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from mesh.core import labels
from tests.cluster.conftest import Kubectl
from tests.cluster.roles import ROLES, SPACE, ControlPlane, control_plane
from tests.cluster.server import ApiServer
from tests.e2e.stage import eventually

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def plane(
    api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControlPlane]:
    with control_plane(api_server, tmp_path_factory.mktemp("roles")) as running:
        yield running


def test_every_role_is_ready_with_no_more_than_its_own_rights(plane: ControlPlane) -> None:
    said = {role: plane.log(role) for role in ROLES}

    refused = [line for log in said.values() for line in log.splitlines() if "forbidden" in line]
    assert refused == []
    assert [plane.ask(role, "/ready")[0] for role in ROLES] == [200, 200, 200]


def test_identity_made_root_issuer_and_bundle(plane: ControlPlane, kubectl: Kubectl) -> None:
    names = kubectl("get", "secrets,configmaps", "-n", SPACE, "-o", "name").stdout.split()

    assert {f"secret/{labels.ROOT_SECRET}", f"secret/{labels.ISSUER_SECRET}"} <= set(names)
    assert f"secret/{labels.INJECT_SECRET}" in names
    bundle = kubectl("get", "configmap", labels.TRUST_ROOTS, "-n", SPACE, "-o", "json").stdout
    assert "BEGIN CERTIFICATE" in bundle


def pod(name: str, namespace: str, **annotations: str) -> str:
    meta = {"name": name, "namespace": namespace}
    given = {f"mesh/{key.replace('_', '-')}": value for key, value in annotations.items()}
    spec = {"containers": [{"name": "app", "image": "app:1", "ports": [{"containerPort": 80}]}]}
    item = {"apiVersion": "v1", "kind": "Pod", "metadata": meta | {"annotations": given}}
    return json.dumps(item | {"spec": spec})


def containers(obj: dict[str, Any]) -> list[str]:
    spec = obj["spec"]
    return [item["name"] for item in [*spec.get("initContainers", []), *spec["containers"]]]


def test_an_annotated_pod_gets_its_proxy(
    plane: ControlPlane, kubectl: Kubectl, namespace: str
) -> None:
    create = ("create", "-o", "json", "-f", "-")

    dry = kubectl(*create, "--dry-run=server", given=pod("web", namespace, inject="enabled"))
    done = kubectl(*create, given=pod("web", namespace, inject="enabled"))
    plain = kubectl(*create, given=pod("plain", namespace))

    assert (done.returncode, done.stderr) == (0, ""), plane.log(labels.INJECT)
    made = json.loads(done.stdout)
    assert containers(made) == containers(json.loads(dry.stdout))
    assert {labels.INIT_CONTAINER, labels.PROXY_CONTAINER, "app"} == set(containers(made))
    assert "BEGIN CERTIFICATE" in done.stdout
    assert containers(json.loads(plain.stdout)) == ["app"]


def test_a_wrong_annotation_is_said_and_the_pod_is_created(
    plane: ControlPlane, kubectl: Kubectl, namespace: str
) -> None:
    text = pod("web", namespace, inject="enabled", proxy_memory_request="much")

    done = kubectl("create", "-f", "-", given=text)

    assert done.returncode == 0
    assert "mesh/proxy-memory-request" in done.stderr
    reasons = ("get", "events", "-n", namespace, "-o", "jsonpath={.items[*].message}")
    assert eventually(lambda: "mesh/proxy-memory-request" in kubectl(*reasons).stdout, within=20)


def test_a_pod_of_a_deployment_is_meshed_where_the_namespace_says_so(
    plane: ControlPlane, kubectl: Kubectl, namespace: str
) -> None:
    kubectl("annotate", "namespace", namespace, "mesh/inject=enabled")

    def made() -> list[str]:
        dry = ("create", "--dry-run=server", "-o", "json", "-f", "-")
        return containers(json.loads(kubectl(*dry, given=pod("web", namespace)).stdout))

    assert eventually(lambda: labels.PROXY_CONTAINER in made(), within=10)


def test_a_doubtful_split_is_warned_of_and_gets_its_verdict(
    plane: ControlPlane, kubectl: Kubectl, namespace: str
) -> None:
    split = {
        "apiVersion": "split.smi-spec.io/v1alpha2",
        "kind": "TrafficSplit",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"service": "web", "backends": [{"service": "nowhere", "weight": 0}]},
    }

    done = kubectl("apply", "-f", "-", given=json.dumps(split))

    assert done.returncode == 0
    assert "all weights are 0" in done.stderr
    verdict = ("get", "ts", "web", "-n", namespace, "-o", "jsonpath={.status.verdict}")
    assert eventually(lambda: kubectl(*verdict).stdout in ("Partial", "Rejected"), within=20)


# what each role is for, and what it must not be able to do: verb, resource, name, namespace
NEEDED = {
    labels.IDENTITY: [
        ("create", "tokenreviews.authentication.k8s.io", "", ""),
        ("create", "secrets", "", SPACE),
        ("get", "secrets", labels.ROOT_SECRET, SPACE),
        ("update", "secrets", labels.ISSUER_SECRET, SPACE),
        ("update", "configmaps", labels.TRUST_ROOTS, SPACE),
    ],
    labels.DESTINATION: [
        ("watch", "pods", "", "shop"),
        ("watch", "services", "", "shop"),
        ("watch", "endpointslices.discovery.k8s.io", "", "shop"),
        ("watch", "trafficsplits.split.smi-spec.io", "", "shop"),
        ("patch", "serviceprofiles.linkerd.io/status", "web", "shop"),
        ("watch", "configmaps", labels.TRUST_ROOTS, SPACE),
        ("update", "leases.coordination.k8s.io", labels.STATUS_LEASE, SPACE),
    ],
    labels.INJECT: [
        ("watch", "namespaces", "", ""),
        ("get", "secrets", labels.INJECT_SECRET, SPACE),
        (
            "patch",
            "mutatingwebhookconfigurations.admissionregistration.k8s.io",
            labels.WEBHOOK_CONFIGURATION,
            "",
        ),
    ],
    labels.VIEWER: [],
}
REFUSED = [
    ("list", "secrets", "", SPACE),
    ("list", "secrets", "", "shop"),
    ("get", "secrets", "other", SPACE),
    ("get", "secrets", labels.ROOT_SECRET, "shop"),
    ("list", "configmaps", "", SPACE),
    ("create", "pods", "", SPACE),
    ("create", "pods/exec", "web", "shop"),
    ("delete", "pods", "web", "shop"),
    ("create", "serviceaccounts/token", labels.IDENTITY, SPACE),
    ("impersonate", "users", "admin", ""),
    ("create", "clusterrolebindings.rbac.authorization.k8s.io", "", ""),
    (
        "patch",
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        "other",
        "",
    ),
    ("patch", "trafficsplits.split.smi-spec.io", "web", "shop"),
]


def may(kubectl: Kubectl, role: str, right: tuple[str, str, str, str]) -> bool:
    verb, resource, name, where = right
    plain, _, sub = resource.partition("/")
    ask = [verb, f"{plain}/{name}" if name else plain, f"--as=system:serviceaccount:{SPACE}:{role}"]
    ask += [f"--subresource={sub}"] if sub else []
    return kubectl("auth", "can-i", *ask, *(["-n", where] if where else [])).stdout.strip() == "yes"


@pytest.mark.parametrize("role", NEEDED)
def test_each_account_may_do_its_work_and_nothing_of_this(
    plane: ControlPlane, kubectl: Kubectl, role: str
) -> None:
    assert [right for right in NEEDED[role] if not may(kubectl, role, right)] == []
    assert [right for right in REFUSED if may(kubectl, role, right)] == []


def test_a_named_object_is_watched_and_its_neighbours_are_not(
    plane: ControlPlane, kubectl: Kubectl
) -> None:
    as_role = f"--as=system:serviceaccount:{SPACE}:{labels.DESTINATION}"
    path = f"/api/v1/namespaces/{SPACE}/configmaps"

    one = kubectl(
        "get", "--raw", f"{path}?fieldSelector=metadata.name%3D{labels.TRUST_ROOTS}", as_role
    )
    all_of_them = kubectl("get", "--raw", path, as_role)

    assert len(json.loads(one.stdout)["items"]) == 1
    assert all_of_them.returncode != 0
    assert "forbidden" in all_of_them.stderr
