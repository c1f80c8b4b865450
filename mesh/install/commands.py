"""`mesh install` and `mesh uninstall`: parse, call one function, print."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
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
    faults_of,
    merge_trees,
    parse_assignments,
)

# flag -> the value it sets; help and default come from the value
FLAGS: Final[Mapping[str, str]] = {
    "--mesh-namespace": "namespace",
    "--image": "image",
    "--image-pull-policy": "imagePullPolicy",
    "--image-pull-secret": "imagePullSecret",
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
    """Options for values: by flag, each passed on as the text that was given or None, then
    `assignments` of --set and `files` of -f."""
    described = {item.key: item for item in describe_values()}

    def decorate(command: Command) -> Command:
        command = _set_option(_files_option(command))
        for flag in reversed(names):
            item = described[FLAGS[flag]]
            shown = f"{item.help}  [default: {item.default or 'unset'}]"
            option = click.option(
                flag, metavar="TEXT", help=shown, callback=partial(_check_flag, item.key)
            )
            command = option(command)
        return command

    return decorate


def _check_flag(key: str, _: click.Context, __: click.Parameter, text: str | None) -> str | None:
    """The text as it was given. Raises click.BadParameter, which names the flag."""
    if text is not None:
        for fault in faults_of(parse_assignments([f"{key}={text}"])):
            raise click.BadParameter(fault.removeprefix(f"{key}: "))
    return text


def check_assignments(
    _: click.Context, __: click.Parameter, items: tuple[str, ...]
) -> tuple[str, ...]:
    """The `--set` texts as they were given. Raises click.BadParameter with every fault."""
    try:
        faults = faults_of(parse_assignments(items))
    except ConfigError as error:
        faults = list(error.problems)
    if faults:
        raise click.BadParameter("\n".join(faults))
    return items


_set_option = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set one value.",
    callback=check_assignments,
)
_files_option = click.option(
    "-f",
    "--values",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A YAML file of values; later ones win, and --set and flags win over files.",
)


@click.command()
@click.option("--crds", is_flag=True, help="Print only the definitions of kinds (CRDs).")
@click.option(
    "--gateway-api",
    is_flag=True,
    help="Also define the Gateway API's routes; mesh check --pre tells if they are there.",
)
@click.option("--ha", is_flag=True, help="Three pods of each part, apart, with budgets.")
@value_flags(*FLAGS)
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
    """Print the manifests of the mesh. Same input, same bytes; reads no cluster.

    \b
    mesh install | kubectl apply -f -
    """
    if help_values:
        click.echo(print_values(), nl=False)
        return
    try:
        values = read_values(files, assignments, flags, ha=ha)
    except ConfigError as error:
        if files:
            raise
        raise click.UsageError(str(error)) from error
    if gateway_api:
        values = replace(values, crds=replace(values.crds, gateway=True))
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
