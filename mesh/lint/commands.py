"""`mesh lint`: read files, judge, print. Never asks a cluster."""

from __future__ import annotations

import click

from mesh.lint.rules.finding import Finding, Level


@click.command(short_help="Find what will have no effect in a folder of manifests.")
@click.option(
    "-f", "--filename", "paths", multiple=True, metavar="FILE|FOLDER|-", default=(".",),
    help="Manifests [default: this folder].",
)  # fmt: skip
@click.option(
    "-n", "--namespace", metavar="NAME", default="default", show_default=True,
    help="Namespace of objects that name none.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Choice(["table", "json", "sarif"]), default="table",
    show_default=True, help="Form of the answer.",
)  # fmt: skip
def lint(paths: tuple[str, ...], namespace: str, output: str) -> None:
    """Find what will have no effect, is misspelt, or refers to nothing, without a cluster.
    Exits 1 when there are errors.

    \b
    mesh lint -f manifests/
    kustomize build . | mesh lint -f -
    mesh lint -f manifests/ -o sarif > lint.sarif
    """
    from mesh.lint.files import read_files
    from mesh.lint.rules import render

    files = read_files(paths)
    findings, objects = lint_files(files, namespace)
    if output == "sarif":
        click.echo(render.render_sarif(findings), nl=False)
    elif output == "json":
        click.echo(render.render_json(findings), nl=False)
    else:
        click.echo(render.render_table(findings, objects=objects, files=len(files)), nl=False)
    if any(finding.level is Level.ERROR for finding in findings):
        raise click.exceptions.Exit(1)


def lint_files(
    files: list[tuple[str, str]], namespace: str = "default"
) -> tuple[list[Finding], int]:
    """All findings in (name, text) pairs, and how many objects were read."""
    from mesh.lint.annotations import find_annotation_faults
    from mesh.lint.rules.judge import in_order, judge
    from mesh.lint.rules.source import read_manifests, with_namespace

    manifests, findings = read_manifests(files)
    manifests = with_namespace(manifests, namespace)
    findings += judge(manifests)
    for item in manifests:
        findings += find_annotation_faults(item)
    return in_order(findings), len(manifests)
