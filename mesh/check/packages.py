"""Other Python distributions that bring a top-level package of ours: one would hide the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Final

from mesh.check.facts import Clash, Facts
from mesh.check.model import Category, Check, Fault, Severity

DISTRIBUTION: Final = "lightmesh"
PACKAGES: Final = ("mesh", "init", "proxy", "identity", "destination")


def find_clashes(installed: Mapping[str, Sequence[str]] | None = None) -> tuple[Clash, ...]:
    """Who else provides our names; `installed` maps each package to its distributions."""
    if installed is None:
        installed = metadata.packages_distributions()
    return tuple(
        Clash(package, distribution)
        for package in PACKAGES
        for distribution in sorted(set(installed.get(package, ())))
        if distribution.lower().replace("_", "-") != DISTRIBUTION
    )


def no_package_clashes(facts: Facts) -> Iterator[Fault]:
    for clash in facts.clashes:
        yield Fault(
            f"Python distribution {clash.distribution}",
            f"also brings the package {clash.package}, so one of the two hides the other",
            f"install the mesh by itself (`pipx install {DISTRIBUTION}`), or "
            f"`pip uninstall {clash.distribution}`",
        )


COMMAND: Final = Category(
    "mesh-command",
    (Check("no other Python package hides one of ours", no_package_clashes, Severity.WARNING),),
)
