"""`mesh explain`: parse, compile, replay, print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mesh.kube.cli_options import ClusterChoice, cluster_options

if TYPE_CHECKING:
    from mesh.core.model import View
    from mesh.explain.decide import Decision
    from mesh.explain.question import Asker, Question
    from mesh.explain.world import World
    from mesh.kube.asking import Told


@click.command(short_help="Say where a request would go, and why.")
@click.argument("method", metavar="[METHOD]", required=False)
@click.argument("url", required=False)
@click.option(
    "-f", "--filename", "paths", multiple=True, metavar="FILE|FOLDER|-", help="Manifests."
)
@click.option(
    "--live", is_flag=True, help="The cluster, and the client's own proxy [default without -f]."
)
@click.option(
    "--id",
    "request_id",
    metavar="ID",
    help="What became of one request: mesh-request-id of a response, or from an access log.",
)
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
    method: str | None,
    url: str | None,
    paths: tuple[str, ...],
    live: bool,
    request_id: str | None,
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
    mesh explain --id 5d1f0c2a9b7e-1f
    """
    from mesh.core.errors import MeshError
    from mesh.explain.bypass import find_bypass
    from mesh.explain.decide import decide
    from mesh.explain.live import lines_of
    from mesh.explain.question import parse_question
    from mesh.explain.render import render_json, render_text

    choice = ClusterChoice(kubeconfig, context, mesh_namespace)
    if request_id is not None:
        _past(choice, request_id, namespace, output)
        return
    if method is None:
        raise click.UsageError("expected a URL, or --id; for example http://orders:8080/api/1")
    if paths and live:
        raise click.UsageError("expected -f or --live, got both")
    if url is None:
        method, url = "GET", method
    try:
        question = parse_question(method, url, headers)
    except MeshError as error:
        raise click.UsageError(str(error)) from error
    if paths:
        world, asker, expected = _offline(
            paths, workload, namespace, mesh_namespace, question, draw
        )
    else:
        world = _live(choice)
        namespace = namespace or (None if workload else _namespace_of(choice))
        asker, expected = _replay(world, workload, namespace, question, draw)
    for fault in world.faults:
        click.echo(f"mesh explain: {fault.file}:{fault.line}: {fault.message}", err=True)
    bypass = find_bypass(world.annotations, asker, question.port)
    decision, source, told = expected, world.source, None
    if not paths and not bypass:
        asked = _ask_proxy(choice, asker, question, expected, draw)
        if asked is not None:
            source, view, told = asked
            decision = decide(world.store, world.snapshot, asker, question, draw, view)
    if output == "json":
        click.echo(render_json(decision, source, bypass, told), nl=False)
    else:
        lines = list(lines_of(told, decision, expected)) if told is not None else []
        click.echo(render_text(decision, source, bypass, lines), nl=False)


def _offline(
    paths: tuple[str, ...],
    workload: str,
    namespace: str | None,
    mesh_namespace: str,
    question: Question,
    draw: float | None,
) -> tuple[World, Asker, Decision]:
    """The answer of files: of the documents that matter, or where they hold none, of all."""
    from mesh.core.errors import MeshError
    from mesh.explain.world import compile_files
    from mesh.lint.files import read_files

    files = read_files(paths)
    home = namespace or "default"
    names = question.names(workload)
    while True:
        try:
            world = compile_files(files, namespace=home, mesh_namespace=mesh_namespace, names=names)
            asker, expected = _replay(world, workload, namespace, question, draw)
            if world.is_whole or expected.where == "service":
                return world, asker, expected
        except MeshError:
            if not names:
                raise
        names = ()


def _replay(
    world: World, workload: str, namespace: str | None, question: Question, draw: float | None
) -> tuple[Asker, Decision]:
    from mesh.explain.bypass import with_mode
    from mesh.explain.decide import decide
    from mesh.explain.question import find_asker

    home = namespace or (None if workload else world.home or None)
    asker = with_mode(world.annotations, find_asker(world.store, workload, home))
    return asker, decide(world.store, world.snapshot, asker, question, draw)


def _live(choice: ClusterChoice) -> World:
    import anyio

    from mesh.explain.world import compile_cluster
    from mesh.kube.client import KubeClient
    from mesh.kube.config import find_access

    async def collect() -> World:
        async with KubeClient(find_access(choice.kubeconfig, choice.context)) as client:
            return await compile_cluster(client, choice.mesh_namespace)

    return anyio.run(collect)


def _ask_proxy(
    choice: ClusterChoice,
    asker: Asker,
    question: Question,
    expected: Decision,
    draw: float | None,
) -> tuple[str, View, dict[str, Any]] | None:
    """The view of the client's own proxy and what it says of the request; None, with a line
    that says why, where it cannot be asked."""
    from mesh.core.errors import MeshError
    from mesh.explain.live import question_for, view_of

    if not expected.address:
        return None
    pod = asker.pod.name if asker.pod is not None else ""
    query = question_for(question, expected.address, draw)
    try:
        answers = ask(choice, "explain", query, namespace=asker.namespace, pod=pod, most=1)
        if not answers:
            who = f"pod {asker.namespace}/{pod}" if pod else f"namespace {asker.namespace}"
            raise MeshError(f"no proxy of {who} is connected to destination")
        told = answers[0]
        view = view_of(told.body)
    except MeshError as error:
        click.echo(f"mesh explain: the proxy was not asked: {error}", err=True)
        return None
    source = f"the proxy of {told.namespace}/{told.pod}, its view in force (version {view.version})"
    return source, view, told.body


def _past(choice: ClusterChoice, request_id: str, namespace: str | None, output: str) -> None:
    """Print what proxies know of one request by its id. Raises MeshError when none does."""
    import json

    from mesh.core.errors import MeshError
    from mesh.explain.live import entry_lines

    answers = ask(choice, "request", {"id": request_id}, namespace=namespace or "")
    found = [(told, told.body["request"]) for told in answers if told.body.get("request")]
    if not found:
        raise MeshError(
            f'none of {len(answers)} proxies knows request "{request_id}"; they keep the last 1000 '
            "that failed, and with the access log on all"
        )
    for told, entry in found:
        if output == "json":
            known = {"namespace": told.namespace, "pod": told.pod, **entry}
            click.echo(json.dumps(known, indent=2))
            continue
        click.echo(f"request {request_id}")
        for word, text in entry_lines(f"{told.namespace}/{told.pod}", entry):
            click.echo(f"  {word:<11} {text}")


def ask(
    choice: ClusterChoice,
    what: str,
    query: dict[str, str],
    *,
    namespace: str = "",
    pod: str = "",
    most: int = 0,
) -> list[Told]:
    """Ask proxies something. Raises MeshError."""
    import anyio

    from mesh.kube.asking import ask_proxies
    from mesh.kube.client import KubeClient
    from mesh.kube.config import find_access

    async def collect() -> list[Told]:
        async with KubeClient(find_access(choice.kubeconfig, choice.context)) as client:
            return await ask_proxies(
                client,
                choice.mesh_namespace,
                what,
                query,
                namespace=namespace,
                pod=pod,
                most=most,
                port_forward=choice.kubectl_options(),
            )

    return anyio.run(collect)


def _namespace_of(choice: ClusterChoice) -> str:
    from mesh.kube.config import find_access

    return find_access(choice.kubeconfig, choice.context).namespace or "default"
