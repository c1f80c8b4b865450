"""`mesh upgrade`: the manifests of this version with the values of the installed mesh."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from mesh.install.commands import FLAGS, read_tree_of, value_flags
from mesh.install.plan import print_plan
from mesh.install.render import print_manifests, render
from mesh.install.values import Tree, build_values, merge_trees
from mesh.kube.cli_options import cluster_options


@click.command()
@click.option("--plan", is_flag=True, help="Print what would change, object by object, instead.")
@click.option("--reset-values", is_flag=True, help="Forget the values of the last install.")
@click.option("--ha", is_flag=True, help="Three pods of each part, apart, with budgets.")
@value_flags(*(flag for flag in FLAGS if flag != "--mesh-namespace"))
@cluster_options
def upgrade(
    plan: bool,
    reset_values: bool,
    ha: bool,
    assignments: tuple[str, ...],
    files: tuple[Path, ...],
    kubeconfig: str | None,
    context: str | None,
    mesh_namespace: str,
    **flags: str | None,
) -> None:
    """Print the manifests of this version, with the values of the installed mesh.

    \b
    mesh upgrade --plan                  what would change
    mesh upgrade | kubectl apply -f -
    """
    import anyio

    given = read_tree_of(files, assignments, flags, ha=ha)

    async def run() -> str:
        return await _upgrade(
            given, (kubeconfig, context, mesh_namespace), plan=plan, reset=reset_values
        )

    click.echo(anyio.run(run), nl=False)


async def _upgrade(
    given: Mapping[str, object],
    place: tuple[str | None, str | None, str],
    *,
    plan: bool,
    reset: bool,
) -> str:
    from mesh.install.foreign import leave_foreign
    from mesh.install.upgrade import read_config, read_plan, stored_values
    from mesh.kube.client import KubeClient
    from mesh.kube.config import find_access

    kubeconfig, context, namespace = place
    async with KubeClient(find_access(kubeconfig, context)) as client:
        data = await read_config(client, namespace)
        stored: Tree = {"namespace": namespace} if reset else stored_values(data, namespace)
        manifests = render(build_values(merge_trees(stored, given)))
        manifests = await leave_foreign(client, manifests)
        if not plan:
            return print_manifests(manifests)
        return print_plan(await read_plan(client, manifests, data, namespace))
