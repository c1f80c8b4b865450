"""`mesh routes`: parse, collect, print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mesh.kube.cli_options import ClusterChoice, cluster_options
from mesh.stat.commands import collect_cluster, fail_on_missing, window_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesh.core.report import WindowReport
    from mesh.stat.rows import Cluster
    from mesh.stat.selection import Selection


@click.command(short_help="Show success, rate and latency by ServiceProfile route.")
@click.argument("resources", nargs=-1, metavar="[TYPE | TYPE/NAME]")
@click.option("--to", metavar="svc/NAME[.NAMESPACE]", help="What was sent to this Service.")
@click.option("-n", "--namespace", metavar="NAME", help="Namespace [default: of the context].")
@window_option
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "wide", "json"]),
    default="table",
    show_default=True,
    help="Form of the answer; wide tells tries from requests.",
)
@cluster_options
def routes(
    resources: tuple[str, ...],
    to: str | None,
    namespace: str | None,
    window: float,
    output: str,
    kubeconfig: str | None,
    context: str | None,
    mesh_namespace: str,
) -> None:
    """Show requests by route: what came into a workload, or with --to what it sent.

    \b
    mesh routes deploy/web -n shop
    mesh routes deploy/web -n shop --to svc/orders -o wide
    mesh routes svc/orders -n shop
    """
    import anyio

    from mesh.kube.config import find_access
    from mesh.stat.collect import Scope
    from mesh.stat.routes import render_routes, render_routes_json, route_rows
    from mesh.stat.selection import parse_resources

    selections = parse_resources(resources)
    if len(selections) != 1:
        raise click.UsageError("expected one TYPE or TYPE/NAME, for example deploy/web")
    where = namespace or find_access(kubeconfig, context).namespace or "default"
    service = _service_of(to, where)
    selection = selections[0]
    if selection.kind.name == "service":
        if service or not selection.names:
            raise click.UsageError("expected svc/NAME alone, or a workload with --to svc/NAME")
        service = f"{selection.names[0]}.{where}"
    choice = ClusterChoice(kubeconfig, context, mesh_namespace)
    cluster, warnings = anyio.run(collect_cluster, choice, selections, Scope(where, window=window))
    for warning in warnings:
        click.echo(f"mesh routes: {warning}", err=True)
    rows = route_rows(cluster.reports, of=_members(selection, cluster, where), to=service)
    if output == "json":
        click.echo(render_routes_json(rows), nl=False)
    elif rows:
        click.echo(render_routes(rows, wide=output == "wide"), nl=False)
    else:
        click.echo("No traffic found.", err=True)
    fail_on_missing(cluster, selections, where, "mesh routes")


def _service_of(to: str | None, namespace: str) -> str:
    """`name.namespace` of --to; "" without it."""
    if to is None:
        return ""
    kind, slash, name = to.rpartition("/")
    if slash and kind not in ("svc", "service", "services"):
        raise click.UsageError(f'--to: expected svc/NAME, got "{to}"')
    parts = name.split(".")
    return f"{parts[0]}.{parts[1] if len(parts) > 1 else namespace}"


def _members(
    selection: Selection, cluster: Cluster, namespace: str
) -> Callable[[WindowReport], bool]:
    """Which proxies' reports are meant: those of a workload, or all that reach a Service."""
    kind = selection.kind.name
    if kind == "service":
        return lambda report: True
    if kind == "namespace":
        names = selection.names or (namespace,)
        return lambda report: report.namespace in names

    def member(report: WindowReport) -> bool:
        if report.namespace != namespace:
            return False
        owner, _, name = report.workload.partition("/")
        if kind == "pod":
            return not selection.names or report.pod in selection.names
        return owner == kind and (not selection.names or name in selection.names)

    return member
