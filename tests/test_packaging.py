"""What users install: a wheel with exactly our packages on top."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import hatch_build

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    pure = {**os.environ, "LIGHTMESH_COMPILE": "0"}  # a compiled one takes a minute
    subprocess.run(command, cwd=ROOT, env=pure, check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_holds_exactly_the_five_packages(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}

    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "mesh",
        "init",
        "proxy",
        "identity",
        "destination",
    }


def test_the_wheel_installs_the_mesh_command(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))

    assert "mesh = mesh.cli:main" in wheel.read(name).decode()


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("proxy.server", {"aiohttp", "anyio", "cryptography", "prometheus_client", "yaml"}),
        (
            "proxy.server",
            {"click", "lightkube", "hashlib", "pathlib", "urllib", "ipaddress", "tempfile"},
        ),
        ("init.__main__", {"aiohttp", "asyncio", "cryptography", "prometheus_client", "lightkube"}),
    ],
)
def test_a_role_in_every_pod_imports_nothing_heavy(module: str, heavy: set[str]) -> None:
    code = f"import sys; sys.modules['typing_extensions'] = None; import {module}"
    code += "; print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert heavy.isdisjoint(done.stdout.split())


def test_what_is_compiled_has_no_heirs_that_are_not() -> None:
    """mypyc refuses them, but only when one is made: at the first request that needs it."""
    trees = {file.stem: ast.parse(file.read_text()) for file in (ROOT / "proxy").glob("*.py")}
    classes = {
        name: [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        for name, tree in trees.items()
    }

    closed = {
        kind.name
        for module in hatch_build.COMPILED
        for kind in classes[module]
        if not kind.decorator_list or any(_text(d) == "trait" for d in kind.decorator_list)
    }
    heirs = [
        f"{module}.{kind.name}"
        for module, kinds in classes.items()
        if module not in hatch_build.COMPILED
        for kind in kinds
        if closed & {_text(base) for base in kind.bases}
    ]
    assert heirs == []


def _text(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""
