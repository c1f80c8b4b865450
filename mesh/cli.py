"""The `mesh` command: parse, call one function, print. Commands are imported when used,
since a terminal waits for every import."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from mesh import __version__
from mesh.core.errors import MeshError

# command -> the module that defines it under the same name (dashes become underscores)
COMMANDS = {
    "install": "mesh.install.commands",
    "upgrade": "mesh.install.upgrade_command",
    "uninstall": "mesh.install.commands",
    "inject": "mesh.inject.commands",
    "uninject": "mesh.inject.commands",
    "check": "mesh.check.commands",
    "stat": "mesh.stat.commands",
    "routes": "mesh.stat.routes_command",
    "explain": "mesh.explain.commands",
    "diagnostics": "mesh.explain.diagnostics",
    "lint": "mesh.lint.commands",
    "profile": "mesh.profile.commands",
    "local": "mesh.local.commands",
    "demo": "mesh.local.commands",
    "version": "mesh.cli",
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = getattr(importlib.import_module(module), cmd_name)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """A light service mesh for Kubernetes.

    \b
    mesh check --pre                     is this cluster ready?
    mesh install | kubectl apply -f -    install the mesh
    mesh check --wait 2m                 does it work?
    kubectl annotate ns shop mesh/inject=enabled
    mesh stat deploy -n shop             what flows
    mesh demo                            all of it, without a cluster
    """


@click.command()
def version() -> None:
    """Print the version of this command."""
    click.echo(f"mesh {__version__}")


def main(args: list[str] | None = None) -> Any:
    """Run the command line; errors on purpose print as one line and exit 1 (usage: 2)."""
    try:
        return cli.main(args=args, prog_name="mesh", standalone_mode=True)
    except MeshError as error:
        click.echo(f"mesh: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        _drop_output()
        if not isinstance(error, BrokenPipeError):
            where = "" if error.filename else "the output cannot be written: "
            click.echo(f"mesh: {where}{error}", err=True)
        sys.exit(1)


def _drop_output() -> None:
    """Let what stdout did not take vanish, so that the interpreter's end finds nothing to write."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


if __name__ == "__main__":
    main()
