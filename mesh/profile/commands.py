"""`mesh profile`: parse, read one file, print a ServiceProfile."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from mesh.core import labels
from mesh.core.errors import ConfigError
from mesh.core.names import is_dns_label


@click.command(short_help="Make a ServiceProfile from OpenAPI, protobuf, traffic or a template.")
@click.argument("service")
@click.option("--template", is_flag=True, help="An example with comments.")
@click.option("--open-api", "openapi", metavar="FILE|-", help="From OpenAPI 2 or 3.")
@click.option("--proto", metavar="FILE|-", help="From a protobuf file.")
@click.option("--access-log", metavar="FILE|-", help="From requests in a proxy's access log.")
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
def profile(
    service: str,
    template: bool,
    openapi: str | None,
    proto: str | None,
    access_log: str | None,
    namespace: str,
    cluster_domain: str,
    output: str,
) -> None:
    """Print a ServiceProfile for a Service. Needs no cluster.

    \b
    mesh profile --open-api orders.yaml -n shop orders | kubectl apply -f -
    mesh profile --template -n shop orders
    kubectl -n shop logs deploy/orders -c mesh-proxy | mesh profile --access-log - orders
    """
    from mesh.inject.yamltext import dump_document, load_one
    from mesh.profile.observed import read_access_log
    from mesh.profile.openapi import read_openapi
    from mesh.profile.proto import read_proto
    from mesh.profile.routes import build_profile
    from mesh.profile.template import render_template

    sources = [name for name in (openapi, proto, access_log) if name is not None]
    if len(sources) + template != 1:
        raise click.UsageError(
            "expected exactly one of --template, --open-api, --proto and --access-log"
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
        if openapi is not None:
            routes = read_openapi(load_one(_read(openapi)))
        elif proto is not None:
            routes = read_proto(_read(proto))
        else:
            routes = read_access_log(_read(sources[0]), service)
    except (ConfigError, ValueError) as error:
        raise ConfigError(f"{sources[0]}: {error}") from error
    found = build_profile(service, namespace, cluster_domain, routes)
    text = dump_document(found) if output == "yaml" else json.dumps(found, indent=2) + "\n"
    click.echo(text, nl=False)


def _read(name: str) -> str:
    if name == "-":
        return sys.stdin.read()
    try:
        return Path(name).read_text()
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be read: {error}; check the name") from error
