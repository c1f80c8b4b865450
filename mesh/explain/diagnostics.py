"""`mesh diagnostics`: what proxies know: endpoints with their state, profiles, whole views."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from mesh.kube.cli_options import ClusterChoice, cluster_options

if TYPE_CHECKING:
    from mesh.kube.asking import Told


@click.group(short_help="Show what proxies know: endpoints, profile, view.")
def diagnostics() -> None:
    """Show what proxies know, as they say it themselves.

    \b
    mesh diagnostics endpoints web.shop.svc.cluster.local:80
    mesh diagnostics profile web.shop.svc.cluster.local:80
    mesh diagnostics view -n shop web-6d4cf56db6-x2x5t
    """


@diagnostics.command(short_help="Endpoints of a Service with their state in each proxy.")
@click.argument("authorities", nargs=-1, required=True, metavar="NAME.NAMESPACE[.svc...]:PORT...")
@click.option("-n", "--namespace", metavar="NAME", help="Ask proxies of this namespace only.")
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True
)
@cluster_options
def endpoints(
    authorities: tuple[str, ...],
    namespace: str | None,
    output: str,
    kubeconfig: str | None,
    context: str | None,
    mesh_namespace: str,
) -> None:
    """Show where proxies send requests of a Service, and what they think of each endpoint."""
    from mesh.core.errors import MeshError

    choice = ClusterChoice(kubeconfig, context, mesh_namespace)
    told = _ask(choice, "endpoints", {}, namespace or "", "")
    rows = [row for name in authorities for row in endpoint_rows(told, full_authority(name))]
    if output == "json":
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        raise MeshError(
            f"none of {len(told)} proxies sends anything to {', '.join(authorities)}; "
            "proxies know a Service once a request went there"
        )
    click.echo(_table(rows), nl=False)


@diagnostics.command(short_help="Routes, rules and policies of a Service as a proxy has them.")
@click.argument("authority", metavar="NAME.NAMESPACE[.svc...]:PORT")
@click.option("-n", "--namespace", metavar="NAME", help="Ask a proxy of this namespace.")
@cluster_options
def profile(
    authority: str,
    namespace: str | None,
    kubeconfig: str | None,
    context: str | None,
    mesh_namespace: str,
) -> None:
    """Print the rules and the profile of a Service, as JSON, from a proxy that uses it."""
    from mesh.core.errors import MeshError

    choice = ClusterChoice(kubeconfig, context, mesh_namespace)
    wanted = full_authority(authority)
    for told in _ask(choice, "view", {}, namespace or "", ""):
        for target in told.body.get("targets", {}).values():
            if target.get("authority") == wanted:
                service = told.body.get("services", {}).get(wanted)
                found = {"proxy": f"{told.namespace}/{told.pod}", "target": target}
                click.echo(json.dumps({**found, "service": service}, indent=2))
                return
    raise MeshError(f"no proxy uses {wanted}; proxies know a Service once a request went there")


@diagnostics.command(short_help="The whole view of one proxy.")
@click.argument("pod")
@click.option("-n", "--namespace", metavar="NAME", help="Namespace of the pod.")
@cluster_options
def view(
    pod: str,
    namespace: str | None,
    kubeconfig: str | None,
    context: str | None,
    mesh_namespace: str,
) -> None:
    """Print what one proxy knows of the cluster, as JSON, without trust anchors."""
    from mesh.core.errors import MeshError
    from mesh.kube.config import find_access

    kind, slash, name = pod.rpartition("/")
    if slash and kind not in ("pod", "pods", "po"):
        raise click.UsageError(f'expected the name of a pod, got "{pod}"; `kubectl get pods`')
    pod = name
    where = namespace or find_access(kubeconfig, context).namespace or "default"
    choice = ClusterChoice(kubeconfig, context, mesh_namespace)
    told = _ask(choice, "view", {}, where, pod)
    if not told:
        raise MeshError(f"the proxy of {where}/{pod} is not connected; `mesh check --proxy`")
    click.echo(json.dumps(told[0].body, indent=2))


def full_authority(text: str, cluster_domain: str = "cluster.local") -> str:
    """`web.shop:80` and its like as the key of a view."""
    host, colon, port = text.rpartition(":")
    parts = (host if colon else text).split(".")
    if len(parts) < 2:
        raise click.UsageError(f'expected NAME.NAMESPACE:PORT, got "{text}"')
    return f"{parts[0]}.{parts[1]}.svc.{cluster_domain}:{port if colon else 80}"


def endpoint_rows(told: Sequence[Told], authority: str) -> list[dict[str, Any]]:
    """One row an endpoint: how many proxies have it, where it is broken, what is in hand."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for one in told:
        backend = one.body.get("backends", {}).get(authority)
        for found in backend["endpoints"] if backend is not None else ():
            row = rows.setdefault(
                (found["address"], found["port"]),
                {
                    "service": authority,
                    "namespace": found["namespace"],
                    "ip": found["address"],
                    "port": found["port"],
                    "pod": found["pod"],
                    "identity": found["identity"],
                    "zone": found["zone"],
                    "proxies": 0,
                    "broken": 0,
                    "inHand": 0,
                },
            )
            row["proxies"] += 1
            row["broken"] += bool(found["isBroken"])
            row["inHand"] += found["pending"]
    return [rows[key] for key in sorted(rows)]


def _table(rows: Sequence[dict[str, Any]]) -> str:
    titles = ("NAMESPACE", "IP", "PORT", "POD", "MESHED", "PROXIES", "BROKEN", "IN_HAND", "SERVICE")
    cells = [titles] + [
        (
            row["namespace"] or "-",
            row["ip"],
            str(row["port"]),
            row["pod"] or "-",
            "yes" if row["identity"] else "no",
            str(row["proxies"]),
            str(row["broken"]),
            str(row["inHand"]),
            row["service"],
        )
        for row in rows
    ]
    widths = [max(len(line[i]) for line in cells) for i in range(len(titles))]
    return "".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in cells
    )


def _ask(
    choice: ClusterChoice, what: str, query: dict[str, str], namespace: str, pod: str
) -> list[Told]:
    from mesh.explain.proxies import ask

    return ask(choice, what, query, namespace=namespace, pod=pod)
