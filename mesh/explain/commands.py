"""`mesh explain`: parse, compile, replay, print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mesh.kube.cli_options import ClusterChoice, cluster_options

if TYPE_CHECKING:
    from mesh.explain.world import World


@click.command(short_help="Say where a request would go, and why.")
@click.argument("method", metavar="[METHOD]")
@click.argument("url", required=False)
@click.option(
    "-f", "--filename", "paths", multiple=True, metavar="FILE|FOLDER|-", help="Manifests."
)
@click.option("--live", is_flag=True, help="The objects of the cluster [default without -f].")
@click.option("--from", "workload", metavar="KIND/NAME", default="", help="Who sends the request.")
@click.option("-n", "--namespace", metavar="NAME", help="Namespace of the client.")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'")
@click.option(
    "--draw",
    type=click.FloatRange(0, 1, max_open=True),
    metavar="0..1",
    help="Draw this backend of a split [default: show all].",
)
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True
)
@cluster_options
def explain(
    method: str,
    url: str | None,
    paths: tuple[str, ...],
    live: bool,
    workload: str,
    namespace: str | None,
    headers: tuple[str, ...],
    draw: float | None,
    output: str,
    kubeconfig: str | None,
    context: str | None,
    mesh_namespace: str,
) -> None:
    """Say where a request would go, and why: the code of the control plane compiles the
    objects, the code of the proxy routes the request, and each step is told.

    \b
    mesh explain -f manifests/ --from deploy/web GET http://orders:8080/api/1
    mesh explain -n shop --draw 0.95 http://catalogue:8080/items
    """
    from mesh.core.errors import MeshError
    from mesh.explain.bypass import find_bypass
    from mesh.explain.decide import decide
    from mesh.explain.question import find_asker, parse_question
    from mesh.explain.render import render_json, render_text

    if paths and live:
        raise click.UsageError("expected -f or --live, got both")
    if url is None:
        method, url = "GET", method
    try:
        question = parse_question(method, url, headers)
    except MeshError as error:
        raise click.UsageError(str(error)) from error
    if paths:
        world = _offline(paths, namespace, mesh_namespace)
    else:
        choice = ClusterChoice(kubeconfig, context, mesh_namespace)
        world = _live(choice)
        namespace = namespace or (None if workload else _namespace_of(choice))
    for fault in world.faults:
        click.echo(f"mesh explain: {fault.file}:{fault.line}: {fault.message}", err=True)
    asker = find_asker(world.store, workload, namespace)
    bypass = find_bypass(world.annotations, asker, question.port)
    decision = decide(world.store, world.snapshot, asker, question, draw)
    render = render_json if output == "json" else render_text
    click.echo(render(decision, world.source, bypass), nl=False)


def _offline(paths: tuple[str, ...], namespace: str | None, mesh_namespace: str) -> World:
    from mesh.explain.world import compile_files
    from mesh.lint.files import read_files

    return compile_files(
        read_files(paths), namespace=namespace or "default", mesh_namespace=mesh_namespace
    )


def _live(choice: ClusterChoice) -> World:
    import anyio

    from mesh.explain.world import compile_cluster
    from mesh.kube.client import KubeClient
    from mesh.kube.config import find_access

    async def collect() -> World:
        async with KubeClient(find_access(choice.kubeconfig, choice.context)) as client:
            return await compile_cluster(client, choice.mesh_namespace)

    return anyio.run(collect)


def _namespace_of(choice: ClusterChoice) -> str:
    from mesh.kube.config import find_access

    return find_access(choice.kubeconfig, choice.context).namespace or "default"
