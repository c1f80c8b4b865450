"""The options by which every command that talks to a cluster finds it.

Deliberately without any import of the client: a terminal waits for imports.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from mesh.core import labels

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ClusterChoice:
    """Which cluster, and which mesh in it."""

    kubeconfig: str | None
    context: str | None
    mesh_namespace: str

    def kubectl_options(self) -> list[str]:
        """The options by which kubectl finds the same cluster."""
        pairs = (("--kubeconfig", self.kubeconfig), ("--context", self.context))
        return [word for flag, value in pairs if value for word in (flag, value)]


def cluster_options(command: F) -> F:
    """Add --kubeconfig, --context and --mesh-namespace; they arrive under these names."""
    options = (
        click.option(
            "--kubeconfig", metavar="FILE", help="Kubeconfig file [default: as kubectl finds it]."
        ),
        click.option("--context", metavar="NAME", help="Context of the kubeconfig to use."),
        click.option(
            "--mesh-namespace",
            metavar="NAME",
            envvar="MESH_NAMESPACE",
            default=labels.MESH_NAMESPACE,
            show_default=True,
            help="Namespace of the control plane (also from MESH_NAMESPACE).",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command
