"""Our definitions of kinds applied over published ones: no object is lost, refused or changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.conftest import Kubectl, Mesh

pytestmark = pytest.mark.cluster

PUBLISHED = Path(__file__).with_name("published")
KINDS = {
    "serviceprofile": "serviceprofiles.linkerd.io",
    "trafficsplit": "trafficsplits.split.smi-spec.io",
}


@pytest.fixture(params=sorted(KINDS))
def stored(request: pytest.FixtureRequest, kubectl: Kubectl, namespace: str) -> Iterator[str]:
    """The full name of a kind whose published definition and objects are in the cluster."""
    text = (PUBLISHED / f"{request.param}.yaml").read_text().replace("NAMESPACE", namespace)
    definition, *objects = yaml.safe_load_all(text)
    kind = KINDS[request.param]
    assert kubectl("delete", "crd", kind, "--ignore-not-found").returncode == 0
    apply(kubectl, definition)
    wait = kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{kind}")
    assert wait.returncode == 0, wait.stderr
    for obj in objects:
        apply(kubectl, obj)
    yield kind
    assert kubectl("delete", "crd", kind).returncode == 0


def apply(kubectl: Kubectl, obj: Any) -> None:
    done = kubectl("apply", "--validate=strict", "-f", "-", given=json.dumps(obj))
    assert (done.returncode, done.stderr) == (0, "")


def read(kubectl: Kubectl, kind: str, namespace: str) -> dict[str, Any]:
    listed = json.loads(kubectl("get", kind, "-n", namespace, "-o", "json").stdout)
    return {item["metadata"]["name"]: item["spec"] for item in listed["items"]}


def test_stored_objects_stay_and_can_be_written_again(
    stored: str, kubectl: Kubectl, mesh: Mesh, namespace: str
) -> None:
    before = read(kubectl, stored, namespace)

    done = kubectl("apply", "-f", "-", given=mesh("install", "--crds").stdout)
    assert (done.returncode, done.stderr) == (0, "")

    assert read(kubectl, stored, namespace) == before
    for name in before:
        touched = kubectl("annotate", stored, name, "-n", namespace, "touched=yes")
        assert (touched.returncode, touched.stderr) == (0, "")
    assert read(kubectl, stored, namespace) == before


def test_what_the_published_definition_takes_ours_takes(
    stored: str, kubectl: Kubectl, mesh: Mesh, namespace: str
) -> None:
    listed = json.loads(kubectl("get", stored, "-n", namespace, "-o", "json").stdout)["items"]
    kubectl("apply", "-f", "-", given=mesh("install", "--crds").stdout)

    for obj in listed:
        meta = {"name": f"new-{obj['metadata']['name']}", "namespace": namespace}
        apply(kubectl, {k: obj[k] for k in ("apiVersion", "kind", "spec")} | {"metadata": meta})


def test_all_versions_that_were_served_are_served(
    stored: str, kubectl: Kubectl, mesh: Mesh, namespace: str
) -> None:
    kubectl("apply", "-f", "-", given=mesh("install", "--crds").stdout)

    plural, _, group = stored.partition(".")
    crd = json.loads(kubectl("get", "crd", stored, "-o", "json").stdout)
    versions = {version["name"] for version in crd["spec"]["versions"] if version["served"]}
    assert versions >= set(crd["status"]["storedVersions"])
    for version in sorted(versions):
        path = f"/apis/{group}/{version}/namespaces/{namespace}/{plural}"
        done = kubectl("get", "--raw", path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["items"]


def test_a_definition_that_is_left_out_is_left_alone(
    stored: str, kubectl: Kubectl, mesh: Mesh
) -> None:
    before = json.loads(kubectl("get", "crd", stored, "-o", "json").stdout)["spec"]

    left_out = "crds.linkerd=false" if stored.endswith("linkerd.io") else "crds.smi=false"
    done = kubectl("apply", "-f", "-", given=mesh("install", "--crds", "--set", left_out).stdout)

    assert done.returncode == 0, done.stderr
    assert json.loads(kubectl("get", "crd", stored, "-o", "json").stdout)["spec"] == before
