"""`mesh profile`: parse, read one file or ask proxies, print a ServiceProfile."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mesh.core import labels
from mesh.core.errors import ConfigError
from mesh.core.names import is_dns_label
from mesh.core.quantity import parse_duration
from mesh.kube.cli_options import ClusterChoice, cluster_options

if TYPE_CHECKING:
    from mesh.profile.routes import Route

_LONGEST_WINDOW = 7 * 86400.0  # seconds; a proxy remembers what it has seen since its start


def _read_window(_: click.Context, __: click.Parameter, value: str) -> float:
    """Seconds of a duration such as 10m. Raises click.BadParameter."""
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if not 1.0 <= seconds <= _LONGEST_WINDOW:
        raise click.BadParameter(f'expected a window from 1s to 168h, got "{value}"')
    return seconds


@click.command(short_help="Make a ServiceProfile from OpenAPI, protobuf, traffic or a template.")
@click.argument("service")
@click.option("--template", is_flag=True, help="An example with comments.")
@click.option("--open-api", "openapi", metavar="FILE|-", help="From OpenAPI 2 or 3.")
@click.option("--proto", metavar="FILE|-", help="From a protobuf file.")
@click.option("--access-log", metavar="FILE|-", help="From requests in a proxy's access log.")
@click.option("--observed", is_flag=True, help="From requests that proxies have seen.")
@click.option(
    "--window",
    callback=_read_window,
    metavar="DURATION",
    default="1h",
    show_default=True,
    help="With --observed: only what was seen this long ago or later.",
)
@click.option(
    "-n",
    "--namespace",
    metavar="NAME",
    default="default",
    show_default=True,
    help="Namespace of the Service.",
)
@click.option(
    "--cluster-domain",
    metavar="NAME",
    default=labels.CLUSTER_DOMAIN,
    show_default=True,
    help="Domain of the cluster.",
)
@click.option(
    "-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True
)
@cluster_options
def profile(
    service: str,
    template: bool,
    openapi: str | None,
    proto: str | None,
    access_log: str | None,
    observed: bool,
    window: float,
    namespace: str,
    cluster_domain: str,
    output: str,
    kubeconfig: str | None,
    context: str | None,
    mesh_namespace: str,
) -> None:
    """Print a ServiceProfile for a Service. Only --observed needs a cluster.

    \b
    mesh profile --open-api orders.yaml -n shop orders | kubectl apply -f -
    mesh profile --template -n shop orders
    mesh profile --observed --window 10m -n shop orders
    kubectl -n shop logs deploy/orders -c mesh-proxy | mesh profile --access-log - orders
    """
    from mesh.inject.yamltext import dump_document, load_one
    from mesh.profile.observed import read_access_log
    from mesh.profile.openapi import read_openapi
    from mesh.profile.proto import read_proto
    from mesh.profile.routes import build_profile
    from mesh.profile.template import render_template

    sources = [name for name in (openapi, proto, access_log) if name is not None]
    if len(sources) + template + observed != 1:
        raise click.UsageError(
            "expected exactly one of --template, --open-api, --proto, --access-log and --observed"
        )
    if not is_dns_label(service) or not is_dns_label(namespace):
        raise click.UsageError(f'expected names of a Service and namespace, got "{service}"')
    if template:
        text = render_template(service, namespace, cluster_domain)
        if output == "json":
            text = json.dumps(load_one(text), indent=2) + "\n"
        click.echo(text, nl=False)
        return
    try:
        if observed:
            choice = ClusterChoice(kubeconfig, context, mesh_namespace)
            routes = _ask(choice, service, namespace, window, cluster_domain)
        elif openapi is not None:
            routes = read_openapi(load_one(_read(openapi)))
        elif proto is not None:
            routes = read_proto(_read(proto))
        else:
            routes = read_access_log(_read(sources[0]), service)
    except (ConfigError, ValueError) as error:
        raise ConfigError(f"{sources[0] if sources else service}: {error}") from error
    found = build_profile(service, namespace, cluster_domain, routes)
    text = dump_document(found) if output == "yaml" else json.dumps(found, indent=2) + "\n"
    click.echo(text, nl=False)


def _ask(
    choice: ClusterChoice, service: str, namespace: str, window: float, cluster_domain: str
) -> list[Route]:
    """The routes of what proxies have seen. Raises MeshError."""
    import anyio

    from mesh.kube.client import KubeClient
    from mesh.kube.config import find_access
    from mesh.profile.asked import find_observed
    from mesh.profile.observed import read_reports

    async def collect() -> list[Route]:
        async with KubeClient(find_access(choice.kubeconfig, choice.context)) as client:
            kinds = await find_observed(
                client,
                choice.mesh_namespace,
                service,
                namespace,
                window=window,
                cluster_domain=cluster_domain,
                port_forward=choice.kubectl_options(),
            )
        return read_reports(kinds)

    return anyio.run(collect)


def _read(name: str) -> str:
    if name == "-":
        return sys.stdin.read()
    try:
        return Path(name).read_text()
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be read: {error}; check the name") from error
