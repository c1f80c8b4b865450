"""`mesh stat`: parse, collect, print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mesh.core.quantity import parse_duration
from mesh.kube.cli_options import ClusterChoice, cluster_options

if TYPE_CHECKING:
    from mesh.stat.collect import Scope
    from mesh.stat.rows import Cluster
    from mesh.stat.selection import Selection

_SHORTEST_WINDOW = 10.0  # seconds: two reports
_LONGEST_WINDOW = 600.0  # seconds


def read_window(_: click.Context, __: click.Parameter, value: str) -> float:
    """Seconds of a duration such as 30s or 1m. Raises click.BadParameter."""
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if not _SHORTEST_WINDOW <= seconds <= _LONGEST_WINDOW:
        raise click.BadParameter(f'expected a window from 10s to 10m, got "{value}"')
    return seconds


window_option = click.option(
    "-t",
    "--time-window",
    "window",
    callback=read_window,
    metavar="DURATION",
    default="1m",
    show_default=True,
    help="How far to look back, 10s to 10m.",
)


@click.command(short_help="Show success, rate and latency of workloads.")
@click.argument("resources", nargs=-1, metavar="[TYPE | TYPE/NAME | TYPE NAME...]")
@click.option("-n", "--namespace", metavar="NAME", help="Namespace [default: of the context].")
@click.option("-A", "--all-namespaces", is_flag=True, help="All namespaces.")
@click.option("-l", "--selector", metavar="LABELS", default="", help="Only objects so labelled.")
@window_option
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "wide", "json"]),
    default="table",
    show_default=True,
    help="Form of the answer.",
)
@click.option("--unmeshed", is_flag=True, help="Show workloads without a meshed pod as well.")
@cluster_options
def stat(
    resources: tuple[str, ...],
    namespace: str | None,
    all_namespaces: bool,
    selector: str,
    window: float,
    output: str,
    unmeshed: bool,
    kubeconfig: str | None,
    context: str | None,
    mesh_namespace: str,
) -> None:
    """Show success, rate and latency of what the mesh carries.

    TYPE is deploy (the default), sts, ds, rs, job, cj, po, ns, svc, ts or all. Workloads, pods
    and namespaces show what came in; services and TrafficSplits what meshed clients sent.

    \b
    mesh stat deploy -n shop
    mesh stat ts/catalogue -n shop -t 30s
    mesh stat all -A -o json
    """
    import anyio

    from mesh.kube.config import find_access
    from mesh.stat.collect import Scope
    from mesh.stat.selection import parse_resources

    if namespace is not None and all_namespaces:
        raise click.UsageError("expected --namespace or --all-namespaces, got both")
    selections = parse_resources(resources)
    choice = ClusterChoice(kubeconfig, context, mesh_namespace)
    access = find_access(kubeconfig, context)
    where = None if all_namespaces else namespace or access.namespace or "default"
    scope = Scope(where, label_selector=selector, window=window)
    cluster, warnings = anyio.run(collect_cluster, choice, selections, scope)
    for warning in warnings:
        click.echo(f"mesh stat: {warning}", err=True)
    _print(cluster, selections, scope, output=output, unmeshed=unmeshed)


async def collect_cluster(
    choice: ClusterChoice, selections: list[Selection], scope: Scope
) -> tuple[Cluster, list[str]]:
    """What rows are made of, and warnings. Raises MeshError."""
    from mesh.kube.client import KubeClient
    from mesh.kube.config import find_access
    from mesh.stat.collect import collect

    async with KubeClient(find_access(choice.kubeconfig, choice.context)) as client:
        return await collect(
            client,
            choice.mesh_namespace,
            selections,
            scope,
            port_forward=choice.kubectl_options(),
        )


def _print(
    cluster: Cluster,
    selections: list[Selection],
    scope: Scope,
    *,
    output: str,
    unmeshed: bool,
) -> None:
    """The rows to stdout, then what is missing."""
    from mesh.stat.rows import rows_of
    from mesh.stat.table import render_json, render_table

    rows = [
        row for selection in selections for row in rows_of(selection, cluster, unmeshed=unmeshed)
    ]
    if output == "json":
        click.echo(render_json(rows), nl=False)
    elif rows:
        table = render_table(rows, namespaces=scope.namespace is None, wide=output == "wide")
        click.echo(table, nl=False)
    else:
        click.echo("No traffic found.", err=True)
    fail_on_missing(cluster, selections, scope.namespace, "mesh stat")


def fail_on_missing(
    cluster: Cluster, selections: list[Selection], namespace: str | None, command: str
) -> None:
    """Names that are not there: one line each to stderr, exit 1."""
    from mesh.kube.pods import name_of

    missing = [
        f"{selection.kind.short}/{name}"
        for selection in selections
        for name in selection.names
        if name not in {name_of(obj) for obj in cluster.objects.get(selection.kind.name, ())}
    ]
    for name in missing:
        where = f"in namespace {namespace}" if namespace else "in any namespace"
        click.echo(f"{command}: {name}: found none {where}; check the name and -n", err=True)
    if missing:
        raise click.exceptions.Exit(1)
