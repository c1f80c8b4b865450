"""`mesh explain`: parse, ask, print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mesh.kube.cli_options import ClusterChoice, cluster_options

if TYPE_CHECKING:
    from mesh.explain.answering import Answer
    from mesh.explain.question import Question


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

    from mesh.explain.answering import Case, answer_from_cluster, answer_from_files

    case = Case(_question_of(method, url, headers), workload, namespace, draw)
    if paths:
        answer = answer_from_files(paths, case, mesh_namespace)
    else:
        answer = answer_from_cluster(choice, case)
    _show(answer, output)


def _question_of(method: str, url: str, headers: tuple[str, ...]) -> Question:
    from mesh.core.errors import MeshError
    from mesh.explain.question import parse_question

    try:
        return parse_question(method, url, headers)
    except MeshError as error:
        raise click.UsageError(str(error)) from error


def _show(answer: Answer, output: str) -> None:
    from mesh.explain.live import lines_of
    from mesh.explain.render import render_json, render_text

    decision, told = answer.decision, answer.told
    for note in answer.notes:
        click.echo(f"mesh explain: {note}", err=True)
    if output == "json":
        click.echo(render_json(decision, answer.source, answer.bypass, told), nl=False)
    else:
        lines = list(lines_of(told, decision, answer.expected)) if told is not None else []
        click.echo(render_text(decision, answer.source, answer.bypass, lines), nl=False)


def _past(choice: ClusterChoice, request_id: str, namespace: str | None, output: str) -> None:
    """Print what proxies know of one request by its id. Raises MeshError when none does."""
    import json

    from mesh.core.errors import MeshError
    from mesh.explain.live import entry_lines
    from mesh.explain.proxies import ask

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
