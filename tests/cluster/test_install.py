"""What `mesh install` prints is what a real API server takes, once and again; and uninstall."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.conftest import Kubectl, Mesh

pytestmark = pytest.mark.cluster

EXAMPLES = sorted((Path(__file__).parents[2] / "deploy" / "examples").glob("*.yaml"))
PART = "app.kubernetes.io/part-of=lightmesh"
KINDS = (
    "clusterroles,clusterrolebindings,mutatingwebhookconfigurations,"
    "validatingwebhookconfigurations,crds"
)
VARIANTS = {
    "three of each": (
        *("--identity-replicas", "3", "--destination-replicas", "3", "--inject-replicas", "3"),
    ),
    "limits": ("--proxy-cpu-limit", "500m", "--proxy-memory-limit", "64Mi"),
    "network policy": ("--set", "controlPlane.networkPolicy=true"),
    "own image": ("--image", "registry.test/team/mesh:1", "--image-pull-policy", "Always"),
    "other domains": ("--trust-domain", "corp.test", "--cluster-domain", "k8s.test"),
}
_numbers = itertools.count(1)


@pytest.fixture
def place(kubectl: Kubectl) -> Iterator[str]:
    """A namespace for a mesh. No controller empties it, so it is finished by hand."""
    name = f"mesh-{next(_numbers)}"
    kubectl("delete", KINDS, "-l", PART)
    yield name
    kubectl("delete", KINDS, "-l", PART)
    kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")
    finish = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    kubectl(
        "replace",
        "--raw",
        f"/api/v1/namespaces/{name}/finalize",
        "-f",
        "-",
        given=json.dumps(finish),
    )


def test_applying_twice_changes_nothing_and_warns_of_nothing(
    kubectl: Kubectl, mesh: Mesh, place: str
) -> None:
    text = mesh("install", "--mesh-namespace", place).stdout
    apply = ("apply", "--validate=strict", "-f", "-")

    first, second = kubectl(*apply, given=text), kubectl(*apply, given=text)

    assert (first.returncode, first.stderr) == (0, "")
    assert (second.returncode, second.stderr) == (0, "")
    assert {line.rpartition(" ")[2] for line in first.stdout.splitlines()} == {"created"}
    assert {line.rpartition(" ")[2] for line in second.stdout.splitlines()} == {"unchanged"}
    assert kubectl("diff", "-f", "-", given=text).returncode == 0


def test_a_second_server_side_apply_writes_nothing(
    kubectl: Kubectl, mesh: Mesh, place: str
) -> None:
    text = mesh("install", "--mesh-namespace", place).stdout
    apply = ("apply", "--server-side", "--field-manager=gitops", "-f", "-", "-o", "json")

    first, second = kubectl(*apply, given=text), kubectl(*apply, given=text)

    assert (first.returncode, first.stderr) == (0, "")
    assert (second.returncode, second.stderr) == (0, "")
    assert written(first.stdout) == written(second.stdout)


def written(text: str) -> dict[str, str]:
    """How often each object of a list was written; of those with a status, their spec."""
    items = [item["metadata"] for item in json.loads(text)["items"]]
    return {meta["uid"]: str(meta.get("generation", meta["resourceVersion"])) for meta in items}


@pytest.mark.parametrize("flags", VARIANTS.values(), ids=VARIANTS)
def test_every_form_of_it_is_valid(
    kubectl: Kubectl, mesh: Mesh, place: str, flags: tuple[str, ...]
) -> None:
    printed = mesh("install", "--mesh-namespace", place, *flags)
    assert printed.returncode == 0, printed.stderr
    first, *_ = yaml.safe_load_all(printed.stdout)
    assert kubectl("apply", "-f", "-", given=json.dumps(first)).returncode == 0

    apply = ("apply", "--validate=strict", "--dry-run=server", "-f", "-")
    done = kubectl(*apply, given=printed.stdout)

    assert (done.returncode, done.stderr) == (0, "")


def test_the_pods_fit_the_level_that_their_namespace_enforces(
    kubectl: Kubectl, mesh: Mesh, place: str
) -> None:
    manifests = list(yaml.safe_load_all(mesh("install", "--mesh-namespace", place).stdout))
    for manifest in manifests:
        if manifest["kind"] in ("Namespace", "ServiceAccount"):
            assert kubectl("apply", "-f", "-", given=json.dumps(manifest)).returncode == 0
    deployments = [manifest for manifest in manifests if manifest["kind"] == "Deployment"]
    assert len(deployments) == 3

    for deployment in deployments:
        pod = deployment["spec"]["template"] | {"apiVersion": "v1", "kind": "Pod"}
        pod["metadata"] |= {"name": deployment["metadata"]["name"], "namespace": place}
        done = kubectl("create", "-f", "-", given=json.dumps(pod))
        assert (done.returncode, done.stderr) == (0, "")


def test_uninstall_leaves_the_kinds_and_nothing_else(
    kubectl: Kubectl, mesh: Mesh, place: str
) -> None:
    assert kubectl("apply", "-f", "-", given=mesh("install", "--mesh-namespace", place).stdout)

    removal = mesh("uninstall", "--mesh-namespace", place)
    assert removal.returncode == 0, removal.stderr
    done = kubectl("delete", "--wait=false", "-f", "-", given=removal.stdout)

    assert (done.returncode, done.stderr) == (0, "")
    left = kubectl("get", KINDS, "-l", PART, "-o", "name").stdout.split()
    assert {name.partition("/")[0] for name in left} == {
        "customresourcedefinition.apiextensions.k8s.io"
    }
    ours = "deployments,services,configmaps,roles,rolebindings,serviceaccounts,pods"
    assert kubectl("get", ours, "-n", place, "-l", PART, "-o", "name").stdout == ""
    phase = kubectl("get", "namespace", place, "-o", "jsonpath={.status.phase}")
    assert phase.stdout == "Terminating"


def test_uninstall_with_the_kinds_leaves_nothing(kubectl: Kubectl, mesh: Mesh, place: str) -> None:
    kubectl("apply", "-f", "-", given=mesh("install", "--mesh-namespace", place).stdout)

    removal = mesh("uninstall", "--crds", "--mesh-namespace", place)
    kubectl("delete", "--wait=false", "-f", "-", given=removal.stdout)
    kubectl("wait", "--for=delete", "crds", "-l", PART, "--timeout=30s")  # the server empties them

    assert kubectl("get", KINDS, "-l", PART, "-o", "name").stdout == ""


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_valid(
    kubectl: Kubectl, mesh: Mesh, namespace: str, example: Path
) -> None:
    kubectl("apply", "-f", "-", given=mesh("install", "--crds").stdout)
    text = example.read_text().replace("namespace: shop", f"namespace: {namespace}")
    text = text.replace("name: shop\n", f"name: {namespace}\n")

    apply = ("apply", "--validate=strict", "--dry-run=server", "-f", "-")
    done = kubectl(*apply, given=text)

    complaints = [line for line in done.stderr.splitlines() if "last-applied" not in line]
    assert (done.returncode, complaints) == (0, [])
