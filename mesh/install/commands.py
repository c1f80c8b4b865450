"""`mesh install` and `mesh uninstall`: parse, call one function, print."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from mesh.core import labels
from mesh.core.errors import ApiError, ConfigError
from mesh.inject.yamltext import load_one
from mesh.install.brought import Files, issuer_secret
from mesh.install.removal import plan_removal
from mesh.install.render import Manifest, print_manifests, render, render_crds
from mesh.install.values import (
    HIGH_AVAILABILITY,
    Tree,
    Values,
    build_values,
    describe_values,
    merge_trees,
    parse_assignments,
)

# flag -> the value it sets; help and default come from the value
FLAGS: Final[Mapping[str, str]] = {
    "--mesh-namespace": "namespace",
    "--image": "image",
    "--image-pull-policy": "imagePullPolicy",
    "--trust-domain": "trustDomain",
    "--cluster-domain": "clusterDomain",
    "--identity-replicas": "identity.replicas",
    "--destination-replicas": "destination.replicas",
    "--inject-replicas": "inject.replicas",
    "--log-level": "controlPlane.logLevel",
    "--log-format": "controlPlane.logFormat",
    "--proxy-cpu-request": "proxy.cpuRequest",
    "--proxy-cpu-limit": "proxy.cpuLimit",
    "--proxy-memory-request": "proxy.memoryRequest",
    "--proxy-memory-limit": "proxy.memoryLimit",
    "--proxy-log-level": "proxy.logLevel",
    "--proxy-log-format": "proxy.logFormat",
    "--inbound-port": "proxy.inboundPort",
    "--outbound-port": "proxy.outboundPort",
    "--admin-port": "proxy.adminPort",
}
Command = Callable[..., Any]


def value_flags(*names: str) -> Callable[[Command], Command]:
    """Options for values, by flag; each is passed on as the text that was given, or None."""
    described = {item.key: item for item in describe_values()}

    def decorate(command: Command) -> Command:
        for flag in reversed(names):
            item = described[FLAGS[flag]]
            shown = f"{item.help}  [default: {item.default or 'unset'}]"
            command = click.option(flag, metavar="TEXT", help=shown)(command)
        return command

    return decorate


@click.command()
@click.option("--crds", is_flag=True, help="Print only the definitions of kinds (CRDs).")
@click.option(
    "--gateway-api",
    is_flag=True,
    help="Also define the Gateway API's routes, unless the cluster has any of them.",
)
@click.option("--ha", is_flag=True, help="Three pods of each part, apart, with budgets.")
@value_flags(*FLAGS)
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set one value.")
@click.option(
    "-f",
    "--values",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A YAML file of values; later ones win, and --set and flags win over files.",
)
@click.option(
    "--identity-trust-anchors-file",
    "anchors",
    type=click.Path(path_type=Path),
    help="Trust anchors of an issuer of your own, PEM. [default: made in the cluster]",
)
@click.option(
    "--identity-issuer-certificate-file",
    "certificate",
    type=click.Path(path_type=Path),
    help="Its certificate, intermediates after it, PEM. [default: made in the cluster]",
)
@click.option(
    "--identity-issuer-key-file",
    "key",
    type=click.Path(path_type=Path),
    help="Its private key, PEM; it will stand in the output. [default: made in the cluster]",
)
@click.option("--help-values", is_flag=True, help="Print every value, its default and meaning.")
def install(
    crds: bool,
    gateway_api: bool,
    ha: bool,
    assignments: tuple[str, ...],
    files: tuple[Path, ...],
    anchors: Path | None,
    certificate: Path | None,
    key: Path | None,
    help_values: bool,
    **flags: str | None,
) -> None:
    """Print the manifests of the mesh. Same input, same bytes; reads a cluster only to keep
    --gateway-api from writing over definitions that are there.

    \b
    mesh install | kubectl apply -f -
    """
    if help_values:
        click.echo(print_values(), nl=False)
        return
    values = read_values(files, assignments, flags, ha=ha)
    if gateway_api:
        values = _with_gateway_api(values)
    if crds:
        click.echo(print_manifests(render_crds(values)), nl=False)
        return
    brought = None
    if anchors or certificate or key:
        if not (anchors and certificate and key):
            raise click.UsageError("the three --identity-...-file flags go together")
        identity = replace(values.identity, issuer_secret=labels.ISSUER_SECRET)
        values = replace(values, identity=identity)
        brought = issuer_secret(Files(anchors, certificate, key), values, now=time.time())
    click.echo(print_manifests(render(values, brought=brought)), nl=False)


def _with_gateway_api(values: Values) -> Values:
    """The values with the Gateway API's definitions, unless the cluster has some."""
    from mesh.install.gateway_crds import NAMES

    try:
        found = asyncio.run(_definitions(NAMES))
    except (ApiError, ConfigError) as error:
        click.echo(f"mesh: no cluster was asked whether it has the Gateway API: {error}", err=True)
        found = []
    if found:
        click.echo(f"mesh: kept as they are in the cluster: {', '.join(found)}", err=True)
        return values
    return replace(values, crds=replace(values.crds, gateway=True))


async def _definitions(names: tuple[str, ...]) -> list[str]:
    """Those of these definitions of kinds that the cluster has. Raises ApiError, ConfigError."""
    from mesh.kube.client import KubeClient
    from mesh.kube.config import find_access

    async with KubeClient(find_access(None, None)) as client:
        crds = await client.list("customresourcedefinitions.apiextensions.k8s.io")
    return sorted({crd["metadata"]["name"] for crd in crds} & set(names))


@click.command()
@click.option(
    "--mesh-namespace",
    default=labels.MESH_NAMESPACE,
    show_default=True,
    help="Namespace of the control plane.",
)
@click.option("--crds", is_flag=True, help="Also the definitions of kinds, and so every object.")
@click.option("--force", is_flag=True, help="Even if pods have a proxy or no cluster answers.")
@click.option("--kubeconfig", metavar="FILE", help="[default: $KUBECONFIG or ~/.kube/config]")
@click.option("--context", metavar="NAME", help="[default: the current context]")
def uninstall(
    mesh_namespace: str, crds: bool, force: bool, kubeconfig: str | None, context: str | None
) -> None:
    """Print what to delete. Refuses while pods have a proxy; keeps the definitions of kinds.

    \b
    mesh uninstall | kubectl delete -f -
    """
    try:
        manifests = asyncio.run(
            _plan_removal(mesh_namespace, kubeconfig, context, crds=crds, force=force)
        )
    except (ApiError, ConfigError) as error:
        if not force:
            raise
        click.echo(f"mesh: cluster not read: {error}", err=True)
        values = build_values({"namespace": mesh_namespace})
        manifests = plan_removal(values, crds=crds)
    click.echo(print_manifests(manifests), nl=False)


async def _plan_removal(
    namespace: str, kubeconfig: str | None, context: str | None, *, crds: bool, force: bool
) -> list[Manifest]:
    from mesh.install.uninstall import plan_for_cluster
    from mesh.kube.client import KubeClient
    from mesh.kube.config import find_access

    async with KubeClient(find_access(kubeconfig, context)) as client:
        return await plan_for_cluster(client, namespace, crds=crds, force=force)


def read_values(
    files: tuple[Path, ...],
    assignments: tuple[str, ...],
    flags: Mapping[str, str | None],
    *,
    ha: bool = False,
) -> Values:
    """The values that a command line gives. Raises ConfigError."""
    return build_values(read_tree_of(files, assignments, flags, ha=ha))


def read_tree_of(
    files: tuple[Path, ...],
    assignments: tuple[str, ...],
    flags: Mapping[str, str | None],
    *,
    ha: bool,
) -> Tree:
    """What --ha says, then files, then `--set`, then flags (by parameter name; None is unset).

    Raises ConfigError.
    """
    tree: Tree = dict(HIGH_AVAILABILITY) if ha else {}
    for path in files:
        tree = merge_trees(tree, read_tree(path))
    tree = merge_trees(tree, parse_assignments(assignments))
    given = [
        f"{key}={flags[parameter]}"
        for flag, key in FLAGS.items()
        if flags.get(parameter := flag.removeprefix("--").replace("-", "_")) is not None
    ]
    return merge_trees(tree, parse_assignments(given))


def read_tree(path: Path) -> Tree:
    """One values file. Raises ConfigError that names it."""
    try:
        tree = load_one(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"-f {path}: {error}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"-f {path}: expected keys and values, got {type(tree).__name__}")
    return tree


def print_values() -> str:
    """The table of all values as YAML comments would show it."""
    rows = describe_values()
    width = max(len(item.key) for item in rows)
    size = max(len(item.default) for item in rows)
    lines = [f"{item.key:<{width}}  {item.default:<{size}}  {item.help}\n" for item in rows]
    return "".join(lines)
