"""`mesh local` and `mesh demo`: parse, call, print."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from mesh.core.errors import ApiError, ConfigError

_STATE = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the cluster's state.  [default: a folder of the user's state directory]",
)


@click.group()
def local() -> None:
    """A cluster without a cluster: pods as processes on this machine.

    \b
    mesh local up
    export KUBECONFIG=$(mesh local kubeconfig)
    mesh install | kubectl apply -f -
    """


@local.command()
@_STATE
@click.option("--pod-cidr", default="", help="Range of pods, IPv4.  [default: picked free]")
@click.option("--service-cidr", default="", help="Range of Services, IPv4.  [default: picked free]")
@click.option("--ipv6/--no-ipv6", default=True, show_default=True, help="IPv6 beside IPv4.")
@click.option(
    "--image",
    "images",
    multiple=True,
    metavar="NAME=FOLDER",
    help="Containers of this image run the packages in FOLDER: another version of the mesh.",
)
def up(
    state: Path | None, pod_cidr: str, service_cidr: str, ipv6: bool, images: tuple[str, ...]
) -> None:
    """Start the embedded cluster, or find it running.

    \b
    mesh local up --state /tmp/try
    """
    from mesh.local import cluster

    chosen = cluster.Options(pod_cidr, service_cidr, ipv6, dict(map(_image, images)))
    info = cluster.up(state, chosen)
    click.echo(f"up: export KUBECONFIG={info.kubeconfig}")


def _image(text: str) -> tuple[str, Path]:
    """NAME=FOLDER. Raises click.UsageError."""
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise click.UsageError(f'--image: expected NAME=FOLDER, got "{text}"')
    return name, Path(folder)


@local.command()
@_STATE
def down(state: Path | None) -> None:
    """Stop the embedded cluster; leaves no process, namespace, link or rule."""
    from mesh.local import cluster

    click.echo("down" if cluster.down(state) else "nothing to stop")


@local.command()
@_STATE
def status(state: Path | None) -> None:
    """Say whether the embedded cluster runs, and where."""
    from mesh.local import cluster

    info = cluster.status(state)
    if info is None:
        click.echo("not running: start it with  mesh local up")
        sys.exit(1)
    click.echo(f"running: {info}")


@local.command()
@_STATE
def kubeconfig(state: Path | None) -> None:
    """Print the path of the kubeconfig file."""
    from mesh.local import cluster

    click.echo(cluster.kubeconfig(state))


@local.command()
@_STATE
@click.option(
    "-f", "--filename", "files", multiple=True, required=True, help="File, or - for stdin."
)
@click.option("-n", "--namespace", default="default", show_default=True)
def apply(state: Path | None, files: tuple[str, ...], namespace: str) -> None:
    """Apply manifests as kubectl would, where there is no kubectl.

    Only to an embedded cluster: that of --state, else the one whose file is $KUBECONFIG, else
    the one of the user's state directory.

    \b
    mesh install | mesh local apply -f -
    """
    import anyio

    from mesh.kube.config import find_access
    from mesh.local import cluster

    path = cluster.kubeconfig(state or _state_of(os.environ.get("KUBECONFIG", "")))
    objects = [obj for name in files for obj in _read(name)]
    sys.exit(anyio.run(_apply, find_access(str(path)), objects, namespace))


def _state_of(kubeconfig: str) -> Path | None:
    """The state folder of the embedded cluster that $KUBECONFIG names; None when it is empty.

    Raises ConfigError for any other cluster: what is tried out here must not reach it.
    """
    from mesh.local import cluster

    if not kubeconfig:
        return None
    path = Path(kubeconfig)
    found = cluster.status(path.parent)
    if found is None or found.kubeconfig != path.resolve():
        raise ConfigError(
            f"KUBECONFIG={kubeconfig} is no running cluster of mesh local: "
            "pass --state, or unset KUBECONFIG; other clusters want  kubectl apply"
        )
    return path.parent


@click.command()
@click.option("--once", is_flag=True, help="Clean up at the end; exit 0 when all of it worked.")
def demo(once: bool) -> None:
    """Run the whole mesh on this machine, without a cluster.

    \b
    mesh demo --once
    """
    from mesh.local.demo import run

    sys.exit(run(once=once))


def _read(name: str) -> list[dict[str, Any]]:
    from mesh.local.documents import read_objects

    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: cannot be read: {error}") from error
    return read_objects(text, "stdin" if name == "-" else name)


async def _apply(access: Any, objects: list[dict[str, Any]], namespace: str) -> int:
    from mesh.kube.client import KubeClient
    from mesh.local.apply import Applier

    failed = 0
    async with KubeClient(access) as client:
        applier = Applier(client, namespace=namespace)
        for obj in objects:
            try:
                click.echo(await applier.apply(obj))
            except (ApiError, ConfigError) as error:
                failed += 1
                click.echo(f"mesh local apply: {error}", err=True)
    return 1 if failed else 0
