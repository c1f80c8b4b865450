"""`mesh check`: parse, run the checks, print; exit 0, 1 when something failed, 2 for usage."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from mesh.core.quantity import parse_duration
from mesh.kube.cli_options import ClusterChoice, cluster_options

if TYPE_CHECKING:
    from mesh.check.gather import Request
    from mesh.check.model import Result
    from mesh.check.run import Display


def _read_wait(_: click.Context, __: click.Parameter, value: str) -> float:
    """Seconds of a duration such as 2m. Raises click.BadParameter."""
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(short_help="Find what is wrong with the cluster or the mesh.")
@click.option("--pre", is_flag=True, help="Before an installation: is the cluster ready for it?")
@click.option("--proxy", is_flag=True, help="The proxies and the pods that should have one, too.")
@click.option("-n", "--namespace", metavar="NAME", help="With --proxy: one namespace only.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "short", "json"]),
    default="table",
    show_default=True,
    help="Form of the answer; short shows only what is wrong.",
)
@click.option(
    "--wait",
    metavar="DURATION",
    callback=_read_wait,
    default="0",
    show_default=True,
    help="How long to try again what may heal by itself, such as pods that start.",
)
@cluster_options
def check(
    pre: bool,
    proxy: bool,
    namespace: str | None,
    output: str,
    wait: float,
    kubeconfig: str | None,
    context: str | None,
    mesh_namespace: str,
) -> None:
    """Find what is wrong with the cluster or the mesh, and say what to do about it.

    \b
    mesh check --pre          may the mesh be installed here?
    mesh check --wait 2m      does it work? Wait for it up to two minutes.
    mesh check --proxy -n shop

    Exit code 0: nothing but warnings; 1: something is wrong; 2: wrong usage.
    """
    from mesh.check.catalogue import Mode
    from mesh.check.gather import Request

    if pre and proxy:
        raise click.UsageError("expected --pre or --proxy, got both")
    if namespace and not proxy:
        raise click.UsageError("-n goes with --proxy; --mesh-namespace names the mesh's own place")
    mode = Mode.PRE if pre else Mode.PROXY if proxy else Mode.DEFAULT
    choice = ClusterChoice(kubeconfig, context, mesh_namespace)
    request = Request(
        mode=mode,
        kubeconfig=kubeconfig,
        context=context,
        mesh_namespace=mesh_namespace,
        namespace=namespace,
        port_forward=tuple(choice.kubectl_options()),
    )
    if not _check_and_print(request, output, wait):
        raise click.exceptions.Exit(1)


def _check_and_print(request: Request, output: str, wait: float) -> bool:
    """Whether all is well. Always ends with a status line, or with JSON."""
    from mesh.check.model import is_success
    from mesh.check.render import SilentDisplay, TableDisplay, render_json

    if output == "json":
        results = _run(request, SilentDisplay(), wait)
        click.echo(render_json(results), nl=False)
    else:
        table = TableDisplay(sys.stdout, sys.stderr, short=output == "short")
        results = _run(request, table, wait)
        table.finish(results)
    return is_success(results)


def _run(request: Request, display: Display, wait: float) -> list[Result]:
    import time
    from functools import partial

    import anyio

    from mesh.check.catalogue import categories_of
    from mesh.check.gather import gather
    from mesh.check.run import run_checks

    return anyio.run(
        partial(
            run_checks,
            categories_of(request.mode),
            partial(gather, request),
            display,
            wait=wait,
            clock=time.monotonic,
            sleep=anyio.sleep,
        )
    )
