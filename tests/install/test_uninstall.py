"""Uninstalling: the order, what stays, and when it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from mesh.core import labels
from mesh.core.errors import ConfigError
from mesh.install.commands import uninstall
from mesh.install.removal import plan_removal
from mesh.install.render import render
from mesh.install.uninstall import MeshedPodsError, plan_for_cluster
from mesh.install.values import Values, build_values
from tests.support.embedded_api import EmbeddedApi, embedded_api


def test_webhooks_go_first_the_namespace_last_and_definitions_stay() -> None:
    kinds = [manifest["kind"] for manifest in plan_removal(Values(), crds=False)]

    assert kinds[:2] == ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"]
    assert kinds[-1] == "Namespace"
    assert "CustomResourceDefinition" not in kinds


def test_with_crds_everything_that_was_rendered_goes() -> None:
    values = build_values({"inject": {"replicas": 2}, "controlPlane": {"networkPolicy": True}})

    def named(manifests: list[dict[str, Any]]) -> set[tuple[str, str]]:
        return {(m["kind"], m["metadata"]["name"]) for m in manifests}

    assert named(plan_removal(values, crds=True)) == named(render(values))


def test_objects_are_named_and_nothing_else() -> None:
    for manifest in plan_removal(Values(), crds=True):
        assert set(manifest) == {"apiVersion", "kind", "metadata"}
        assert set(manifest["metadata"]) <= {"name", "namespace"}


NAMED = ("httproutes", "tcproutes")


def in_cluster(folder: Path, scenario: Callable[[EmbeddedApi], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with embedded_api(folder) as cluster:
            await scenario(cluster)

    asyncio.run(run())


def meshed_pod(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {labels.L_CONTROL_NAMESPACE: "mesh"},
        },
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    }


def test_pods_with_a_proxy_prevent_it_unless_forced(tmp_path: Path) -> None:
    async def scenario(cluster: EmbeddedApi) -> None:
        await cluster.apply(*render(Values()), meshed_pod("web"))

        with pytest.raises(
            MeshedPodsError, match="a pod still has a proxy of this mesh:\n  default/web"
        ):
            await plan_for_cluster(cluster.admin, "mesh", crds=False, force=False)
        forced = await plan_for_cluster(cluster.admin, "mesh", crds=False, force=True)
        assert forced == plan_removal(Values(), crds=False)

    in_cluster(tmp_path, scenario)


def test_what_was_installed_decides_what_goes(tmp_path: Path) -> None:
    async def scenario(cluster: EmbeddedApi) -> None:
        values = build_values({"namespace": "m", "crds": {"smi": False}})
        await cluster.apply(*render(values))

        found = await plan_for_cluster(cluster.admin, "m", crds=True, force=False)

        assert found == plan_removal(values, crds=True)
        assert "trafficsplits.split.smi-spec.io" not in {m["metadata"]["name"] for m in found}

    in_cluster(tmp_path, scenario)


def test_definitions_of_the_gateway_api_go_only_where_they_are_ours(tmp_path: Path) -> None:
    async def scenario(cluster: EmbeddedApi) -> None:
        values = build_values({"namespace": "m", "crds": {"gateway": True}})
        await cluster.apply(*render(values))
        crds = "customresourcedefinitions.apiextensions.k8s.io"
        theirs, ours = (f"{plural}.gateway.networking.k8s.io" for plural in NAMED)
        strip = {"metadata": {"labels": {labels.L_PART_OF: None}}}
        await cluster.admin.patch(crds, theirs, strip)

        found = await plan_for_cluster(cluster.admin, "m", crds=True, force=False)

        names = {manifest["metadata"]["name"] for manifest in found}
        assert ours in names
        assert theirs not in names

    in_cluster(tmp_path, scenario)


def test_a_namespace_without_a_mesh_is_an_error(tmp_path: Path) -> None:
    async def scenario(cluster: EmbeddedApi) -> None:
        with pytest.raises(ConfigError, match="no mesh in namespace elsewhere"):
            await plan_for_cluster(cluster.admin, "elsewhere", crds=False, force=False)

    in_cluster(tmp_path, scenario)


def test_without_a_cluster_it_refuses_and_prints_the_defaults_when_forced(tmp_path: Path) -> None:
    nowhere = ["--kubeconfig", str(tmp_path / "none")]

    refused = CliRunner().invoke(uninstall, nowhere)
    forced = CliRunner().invoke(uninstall, [*nowhere, "--force", "--mesh-namespace", "m"])

    assert refused.exit_code == 1
    assert refused.stdout == ""
    assert forced.exit_code == 0
    assert "cluster not read" in forced.stderr
    expected = plan_removal(build_values({"namespace": "m"}), crds=False)
    assert list(yaml.safe_load_all(forced.stdout)) == expected
