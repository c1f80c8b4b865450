"""The images that the node runs, made without a registry: ours, CoreDNS and pause.

Ours has the content of deploy/Dockerfile, since both run the scripts of deploy/image. It has
three layers: Debian's files, our dependencies, our wheel; an edit makes the last one again.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.build import COREDNS, PAUSE, built
from tests.cluster.cache import BuildError, folder_of, kept
from tests.cluster.debian import check_mmdebstrap, make_root, run_inside, run_logged
from tests.cluster.oci import Image, write_image, write_layer
from tests.support.previous import previous_release, sources_of

REPOSITORY: Final = Path(__file__).parents[2]
PACKAGES: Final = ("mesh", "init", "proxy", "identity", "destination")
RELEASE: Final = "trixie"  # the one that root.sh names
BUILDER: Final = ("python3-venv", "python3-dev", "gcc", "libc6-dev", "ca-certificates")
PAUSE_NAME: Final = "docker.io/lightmesh/pause:1"
COREDNS_NAME: Final = "docker.io/lightmesh/coredns:1"
_PATH: Final = "/opt/mesh/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Made:
    """An image that is there: its name on the node and its file."""

    name: str
    file: Path


@functools.cache
def mesh_image(sources: Path = REPOSITORY) -> Made:
    """Our image of the sources as they are when a process asks first; its tag is their hash.

    Raises BuildError.
    """
    if os.geteuid() != 0:
        raise BuildError("making the image unpacks a root file system: run it as root")
    decides = _contents(sources) | _dependencies(REPOSITORY) | _base(REPOSITORY)
    folder = folder_of("image-mesh", decides)
    name = f"docker.io/lightmesh/mesh:{folder.name.rpartition('-')[2]}"
    image = Image(
        name,
        ["mesh"],
        user="2103:2103",
        environment={"PATH": _PATH, "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    return Made(
        name, kept(folder, "mesh.tar", lambda made: _make_mesh(made, image, folder, sources))
    )


def previous_image() -> Made:
    """Our image of the release before this one: its wheel on the layers of today's image.

    Raises BuildError.
    """
    with sources_of(previous_release()) as sources:
        return mesh_image(sources)


def coredns_image() -> Made:
    """CoreDNS and nothing else. Raises BuildError."""
    return _single(COREDNS_NAME, built(COREDNS))


def pause_image() -> Made:
    """The image that holds a pod's namespaces. Raises BuildError."""
    return _single(PAUSE_NAME, built(PAUSE))


def _single(name: str, binary: Path) -> Made:
    """An image of one static file, beside the binary in the cache."""

    def make(made: Path) -> None:
        layer = made.with_name("layer.tar")
        write_layer(layer, {f"/{binary.name}": binary})
        write_image(made, Image(name, [f"/{binary.name}"]), [layer])

    return Made(name, kept(binary.parent, f"{binary.name}.tar", make))


def _make_mesh(made: Path, image: Image, folder: Path, sources: Path) -> None:
    builder = _builder(REPOSITORY)
    changes = made.with_name("changes")
    run_inside(
        builder,
        ["/src/deploy/image/python.sh", "mesh", "/src"],
        folder / "build.log",
        binds={"/src": sources},
        changes=changes,
    )
    ours = made.with_name("ours.tar")
    write_layer(ours, {"/opt/mesh": changes / "upper" / "opt" / "mesh"})
    libraries = _layer(builder, {"/opt/mesh": builder / "opt" / "mesh"})
    base = _base_root(REPOSITORY)
    write_image(made, image, [_layer(base, {"/": base}), libraries, ours])


def _layer(root: Path, parts: dict[str, Path]) -> Path:
    return kept(root.parent, "layer.tar", lambda made: write_layer(made, parts))


def _base_root(sources: Path) -> Path:
    folder, script = folder_of("image-root", _base(sources)), _scripts(sources) / "root.sh"
    return _root(folder, lambda made, log: run_logged([str(script), str(made)], log))


def _builder(sources: Path) -> Path:
    """A Debian of the image's release with compilers and, in /opt/mesh, our dependencies."""

    def make(made: Path, log: Path) -> None:
        make_root(made, RELEASE, BUILDER, log, variant="apt")
        command = ["/src/deploy/image/python.sh", "dependencies", "/src"]
        run_inside(made, command, log, binds={"/src": sources})

    return _root(folder_of("image-builder", _dependencies(sources)), make)


def _root(folder: Path, make: Callable[[Path, Path], None]) -> Path:
    check_mmdebstrap()
    return kept(folder, "root", lambda made: make(made, folder / "build.log"))


def _scripts(sources: Path) -> Path:
    return sources / "deploy" / "image"


def _base(sources: Path) -> dict[str, bytes]:
    return {"root.sh": (_scripts(sources) / "root.sh").read_bytes()}


def _dependencies(sources: Path) -> dict[str, bytes]:
    packages, locks = " ".join((RELEASE, *BUILDER)).encode(), sources / "requirements"
    found = {name: (locks / name).read_bytes() for name in ("build.lock", "image.lock")}
    return {
        "packages": packages,
        "python.sh": (_scripts(sources) / "python.sh").read_bytes(),
        **found,
    }


def _contents(sources: Path) -> dict[str, bytes]:
    """All files that go into the wheel."""
    names = ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE")
    files = [sources / name for name in names if (sources / name).exists()]  # 0.1.0 has no hook
    for package in PACKAGES:
        found = (sources / package).rglob("*")
        files += [f for f in found if f.is_file() and "__pycache__" not in f.parts]
    return {str(file.relative_to(sources)): file.read_bytes() for file in files}
